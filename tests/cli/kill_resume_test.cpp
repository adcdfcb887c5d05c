// The program killed with SIGKILL at random moments, resumed each time, ends with the weights of a
// run that was left alone; SIGTERM ends it cleanly. Every moment shows whole checkpoints only.
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char** environ;

namespace {

namespace fs = std::filesystem;

constexpr int kKills = 10;

std::string read_all(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

class KillResume : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "headway_kill_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    std::ofstream text(folder_ / "text.txt");
    for (int i = 0; i < 600; ++i)
      text << "int f" << i % 17 << "(int x) { return x + " << i << "; }\n";
    std::ofstream run(folder_ / "run.yaml");
    run << "model:\n  hidden_size: 16\n  tie_embeddings: true\n  blocks:\n"
           "    a: {attention: {num_heads: 2, num_kv_heads: 1, head_dim: 8, gate: head_wise}, "
           "mlp: {intermediate_size: 32}}\n"
           "    b: {attention: {num_heads: 4, num_kv_heads: 2, head_dim: 4, window: 8}, "
           "mlp: {intermediate_size: 32}}\n"
           "  pattern: [a, b]\n  num_layers: 2\n"
        << "data: {train: [" << (folder_ / "text.txt").string() << "], sequence_length: 32}\n"
        << "train: {steps: 40, batch_tokens: 128, micro_batch_tokens: 64, dtype: float32, "
           "checkpoint_every: 2, evaluate_every: 20}\n"
        << "output: " << (folder_ / "unset").string() << "\n";
  }
  void TearDown() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  /// Starts `headway train` into `output`; its stderr goes to a file for messages.
  pid_t start(const std::string& output, bool resume) {
    std::vector<std::string> words = {HEADWAY_PROGRAM, "train", (folder_ / "run.yaml").string(),
                                      "output=" + (folder_ / output).string()};
    if (resume) words.push_back("--resume");
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    const std::string log = (folder_ / "stderr.txt").string();
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, log.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0666);
    pid_t child = -1;
    EXPECT_EQ(::posix_spawn(&child, HEADWAY_PROGRAM, &files, nullptr, arguments.data(), environ),
              0);
    posix_spawn_file_actions_destroy(&files);
    return child;
  }

  int wait_for(pid_t child) const {
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return status;
  }

  void expect_ok(int status) const {
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << read_all(folder_ / "stderr.txt");
  }

  static void sleep_ms(int milliseconds) {
    timespec time{milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
    ::nanosleep(&time, nullptr);
  }

  /// Every visible checkpoint has a manifest whose files are there in full size. Returns their
  /// number.
  int expect_whole_checkpoints(const std::string& output) const {
    int count = 0;
    std::error_code none;
    for (fs::directory_iterator entry(folder_ / output / "checkpoints", none), end; entry != end;
         entry.increment(none)) {
      if (entry->path().filename().string().starts_with(".")) continue;
      const auto manifest =
          nlohmann::json::parse(read_all(entry->path() / "manifest.json"), nullptr, false);
      EXPECT_TRUE(manifest.is_object()) << entry->path();
      if (!manifest.is_object()) continue;
      for (const auto& [name, bytes] : manifest["files"].items()) {
        EXPECT_EQ(fs::file_size(entry->path() / name, none), bytes.get<std::uintmax_t>())
            << entry->path() / name;
      }
      EXPECT_TRUE(manifest["files"].contains("model.safetensors"));
      ++count;
    }
    return count;
  }

  std::vector<nlohmann::json> metrics(const std::string& output) const {
    std::vector<nlohmann::json> lines;
    std::ifstream in(folder_ / output / "metrics.jsonl");
    for (std::string line; std::getline(in, line);)
      lines.push_back(nlohmann::json::parse(line, nullptr, false));
    return lines;
  }

  void expect_same_run(const std::string& a, const std::string& b) const {
    for (const char* name : {"model.safetensors", "config.json", "trainer/optimizer.safetensors"}) {
      const std::string left = read_all(folder_ / a / "checkpoints/step-40" / name);
      ASSERT_FALSE(left.empty()) << name;
      EXPECT_TRUE(left == read_all(folder_ / b / "checkpoints/step-40" / name)) << name;
    }
    const auto left = metrics(a);
    const auto right = metrics(b);
    ASSERT_EQ(left.size(), right.size());
    for (std::size_t i = 0; i < left.size(); ++i) {
      EXPECT_EQ(left[i]["step"], right[i]["step"]);
      EXPECT_EQ(left[i]["loss"], right[i]["loss"]) << "step " << i;
    }
  }

  fs::path folder_;
};

TEST_F(KillResume, TenKillsEqualNone) {
  timespec begin{};
  timespec end{};
  ::clock_gettime(CLOCK_MONOTONIC, &begin);
  expect_ok(wait_for(start("whole", false)));
  ::clock_gettime(CLOCK_MONOTONIC, &end);
  const auto whole_ms = static_cast<int>((end.tv_sec - begin.tv_sec) * 1000 +
                                         (end.tv_nsec - begin.tv_nsec) / 1'000'000);
  ASSERT_EQ(expect_whole_checkpoints("whole"), 3);

  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  // From before the first write to most of a whole run, start-up included.
  std::uniform_int_distribution<int> moment(0, std::max(2, whole_ms * 2 / 3));
  int killed = 0;
  for (int i = 0; i < kKills; ++i) {
    const pid_t child = start("killed", true);
    sleep_ms(moment(random));
    ::kill(child, SIGKILL);
    const int status = wait_for(child);
    if (WIFSIGNALED(status)) {
      ++killed;
    } else {
      expect_ok(status);  // it had finished already
    }
    expect_whole_checkpoints("killed");
  }
  EXPECT_GE(killed, 1);
  expect_ok(wait_for(start("killed", true)));
  EXPECT_EQ(expect_whole_checkpoints("killed"), 3);
  expect_same_run("whole", "killed");
  for (const auto& entry : fs::directory_iterator(folder_ / "killed/checkpoints")) {
    EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << entry.path();
  }
  expect_ok(wait_for(start("killed", true)));  // a finished run has nothing to do
}

TEST_F(KillResume, TerminationSavesAndExitsCleanly) {
  expect_ok(wait_for(start("whole", false)));
  const pid_t child = start("stopped", false);
  for (int i = 0; i < 2000 && metrics("stopped").size() < 3; ++i) sleep_ms(5);
  ::kill(child, SIGTERM);
  ::kill(child, SIGTERM);
  expect_ok(wait_for(child));
  const int checkpoints = expect_whole_checkpoints("stopped");
  EXPECT_GE(checkpoints, 1);
  expect_ok(wait_for(start("stopped", true)));
  expect_same_run("whole", "stopped");
}

}  // namespace
