// Lines of metrics.jsonl, and what is left of them when a run resumes.
#include "headway/engine/metrics.h"

#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/base/json.h"

#include "tests/support/temp_folder.h"

namespace headway::engine {
namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

StepMetrics step(std::int64_t number) {
  StepMetrics metrics;
  metrics.step = number;
  metrics.loss = 1.5;
  return metrics;
}

TEST(Metrics, EveryKeyIsThereAndValidationOnlyWhereItRan) {
  StepMetrics metrics = step(3);
  EXPECT_EQ(to_json_line(metrics),
            R"({"step":3,"loss":1.5,"lr":null,"grad_norm":null,"tokens_per_s":null,)"
            R"("peak_bytes":0,"share_of_peak":null})");
  metrics.val_loss = 2.0;
  metrics.lr = std::numeric_limits<double>::infinity();
  const Json json = Json::parse(to_json_line(metrics));
  EXPECT_EQ(json["val_loss"], 2.0);
  EXPECT_TRUE(json["lr"].is_null());
}

TEST(Metrics, CutsBackToAStepAndDropsHalfLines) {
  const testing_support::TempFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  {
    MetricsFile file(path, -1);
    for (int i = 0; i < 5; ++i) file.append(step(i));
    file.sync();
  }
  std::ofstream(path, std::ios::app) << R"({"step":1,"los)";
  {
    MetricsFile file(path, 2);
    file.append(step(3));
  }
  EXPECT_EQ(text_of(path), to_json_line(step(0)) + "\n" + to_json_line(step(1)) + "\n" +
                               to_json_line(step(2)) + "\n" + to_json_line(step(3)) + "\n");
  MetricsFile(path, -1).sync();
  EXPECT_EQ(text_of(path), "");
}

TEST(Metrics, AFolderThatIsNotThereIsNamed) {
  const testing_support::TempFolder folder;
  const auto path = folder.path() / "absent" / "metrics.jsonl";
  try {
    MetricsFile file(path, -1);
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos);
  }
}

}  // namespace
}  // namespace headway::engine
