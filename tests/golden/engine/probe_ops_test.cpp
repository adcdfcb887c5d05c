// `probe` of the operators of linear attention: the recorded cases of golden/ops come back, every
// tensor of them, in float64 and float32.
#include <filesystem>

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/engine/probe.h"
#include "headway/io/safetensors_file.h"

#include "tests/support/temp_folder.h"
#include "tests/support/tensors.h"

namespace headway::engine {
namespace {
namespace fs = std::filesystem;

bool is_input(const std::string& name, const std::map<std::string, at::Tensor>& all) {
  return name.starts_with("d_") || all.contains("d" + name);
}

ProbeRequest request_of(const fs::path& file, const std::string& module) {
  ProbeRequest request;
  request.module = module;
  request.metadata = io::SafetensorsFile(file).header().metadata;
  const auto all = io::load_safetensors(file);
  for (const auto& [name, tensor] : all) {
    if (is_input(name, all)) request.tensors[name] = tensor;
  }
  return request;
}

void check(const fs::path& file, const std::string& module, at::ScalarType type) {
  SCOPED_TRACE(file.filename());
  ProbeRequest request = request_of(file, module);
  request.dtype = type;
  const auto got = probe(request);
  const auto all = io::load_safetensors(file);
  size_t compared = 0;
  for (const auto& [name, want] : all) {
    if (is_input(name, all)) continue;
    SCOPED_TRACE(name);
    ASSERT_TRUE(got.contains(name));
    EXPECT_EQ(got.at(name).scalar_type(), type);
    // A gradient that is exactly zero there may be one rounding here.
    EXPECT_TRUE(test::close(got.at(name), want, type == at::kDouble ? 2e-6 : 5e-5, 1e-12));
    ++compared;
  }
  EXPECT_EQ(compared, got.size());
}

TEST(ProbeOps, RecordedCasesComeBack) {
  const std::vector<std::pair<std::string, std::string>> modules{
      {"gated_delta_rule", "gated_delta_rule"},
      {"kimi_delta_rule", "gated_delta_rule"},
      {"causal_conv1d", "causal_conv1d"},
      {"gated_rmsnorm", "gated_rms_norm"}};
  size_t cases = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(HEADWAY_TESTS_DIR) / "golden" / "ops")) {
    for (const auto& [prefix, module] : modules) {
      if (!entry.path().filename().string().starts_with(prefix)) continue;
      check(entry.path(), module, at::kDouble);
      check(entry.path(), module, at::kFloat);
      ++cases;
    }
  }
  EXPECT_GE(cases, 25u);
}

TEST(ProbeOps, OptionsComeFromConfigAndErrorsNameThem) {
  const fs::path file =
      fs::path(HEADWAY_TESTS_DIR) / "golden" / "ops" / "gated_rmsnorm_silu.safetensors";
  ProbeRequest request = request_of(file, "gated_rms_norm");
  request.config = Json{{"op", "gated_rmsnorm_sigmoid"}, {"eps", 1e-6}};
  const at::Tensor want =
      io::load_safetensors(file.parent_path() / "gated_rmsnorm_sigmoid.safetensors").at("out");
  const auto other = io::load_safetensors(file.parent_path() / "gated_rmsnorm_sigmoid.safetensors");
  request.tensors["x"] = other.at("x");
  request.tensors["z"] = other.at("z");
  request.tensors["weight"] = other.at("weight");
  EXPECT_TRUE(test::close(probe(request).at("out"), want, 5e-5));
  const auto message = [&](const Json& config) {
    request.config = config;
    return testing_support::message_of<ConfigError>([&] { probe(request); });
  };
  EXPECT_NE(message({{"op", "tanh"}}).find("gated_rmsnorm_silu | gated_rmsnorm_sigmoid"),
            std::string::npos);
  EXPECT_NE(message({{"eps", "small"}}).find("eps"), std::string::npos);
}

}  // namespace
}  // namespace headway::engine
