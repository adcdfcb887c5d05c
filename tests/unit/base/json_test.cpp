// JSON reading with limits, and the diff of two documents.
#include "headway/base/json.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"
#include "headway/base/file_util.h"
#include "headway/base/logging.h"
#include "tests/support/temp_folder.h"

namespace headway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing_support::message_of;

TEST(ParseJson, KeepsOrder) {
  EXPECT_EQ(parse_json(R"({"b": 1, "a": [true, null]})", "x").dump(), R"({"b":1,"a":[true,null]})");
}

TEST(ParseJson, NamesFileLineAndColumn) {
  const auto text = message_of<CheckpointError>([] { parse_json("{\n  \"a\": ]", "c.json"); });
  EXPECT_THAT(text, HasSubstr("[c.json] "));
  EXPECT_THAT(text, HasSubstr("line 2"));
  EXPECT_THAT(message_of<ConfigError>([] { parse_json("", "run.json", JsonErrors::kConfig); }),
              HasSubstr("[run.json]"));
}

TEST(ParseJson, RejectsDuplicateKeysAtEveryDepth) {
  EXPECT_THAT(message_of<CheckpointError>([] { parse_json(R"({"a": {"k": 1, "k": 2}})", "x"); }),
              HasSubstr("[x] key \"k\" = given twice, allowed once"));
  EXPECT_NO_THROW(parse_json(R"({"a": {"k": 1}, "b": {"k": 2}})", "x"));
}

TEST(ParseJson, RejectsDepthSizeTrailingTextAndBadUtf8) {
  const std::string deep = std::string(101, '[') + std::string(101, ']');
  EXPECT_THAT(message_of<CheckpointError>([&] { parse_json(deep, "x"); }),
              HasSubstr("allowed at most 100"));
  const std::string fits = std::string(100, '[') + std::string(100, ']');
  EXPECT_NO_THROW(parse_json(fits, "x"));
  JsonLimits limits;
  limits.max_bytes = 4;
  EXPECT_THAT(message_of<CheckpointError>(
                  [&] { parse_json("[1, 2]", "x", JsonErrors::kCheckpoint, limits); }),
              HasSubstr("size = 6 B, allowed at most 4 B"));
  EXPECT_THROW(parse_json("{} {}", "x"), CheckpointError);
  EXPECT_THROW(parse_json("[\"\xFF\"]", "x"), CheckpointError);
  EXPECT_THAT(message_of<CheckpointError>([] { parse_json(std::string("{}\0junk", 7), "x"); }),
              HasSubstr("byte 2 = NUL"));
  EXPECT_THROW(parse_json("[1e999]", "x"), CheckpointError);
}

TEST(ParseJson, PlainDomHasTheSameRules) {
  EXPECT_THROW(parse_json<nlohmann::json>(R"({"a":1,"a":2})", "x"), CheckpointError);
  EXPECT_EQ(parse_json<nlohmann::json>("[1]", "x")[0], 1);
}

TEST(ReadFile, NamesTheReason) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / "headway_read_file";
  std::filesystem::create_directories(folder);
  const std::string missing = (folder / "none").string();
  EXPECT_EQ(message_of<CheckpointError>([&] { read_file(missing, 10); }),
            "[" + missing + "] file = missing, allowed an existing file");
  EXPECT_THAT(message_of<CheckpointError>([&] { read_file(folder.string(), 10); }),
              HasSubstr("file = a folder"));
  const std::string path = (folder / "f").string();
  std::ofstream(path) << "12345";
  EXPECT_EQ(read_file(path, 5), "12345");
  EXPECT_THAT(message_of<CheckpointError>([&] { read_file(path, 4); }),
              HasSubstr("allowed at most 4 B"));
  std::filesystem::remove_all(folder);
}

TEST(JsonDiff, OneLinePerLeaf) {
  const Json a = parse_json(R"({"x": 1, "y": {"z": [1, 2]}, "gone": true})", "a");
  const Json b = parse_json(R"({"y": {"z": [1, 3, 4]}, "x": 1, "new": null})", "b");
  EXPECT_THAT(json_diff(a, b), ElementsAre("y.z[1]: 2 -> 3", "y.z[2]: absent -> 4",
                                           "gone: true -> absent", "new: absent -> null"));
  EXPECT_TRUE(json_diff(a, a).empty());
}

TEST(JsonSummary, ShowsScalarsAndSizes) {
  EXPECT_EQ(json_summary(Json::parse("\"a\"")), "\"a\"");
  EXPECT_EQ(json_summary(Json::parse("[1,2]")), "a list of 2 values");
  EXPECT_EQ(json_summary(Json::parse("{}")), "an empty mapping");
  EXPECT_EQ(json_summary(Json::parse("null")), "null");
}

TEST(CheckedMath, OverflowIsAnError) {
  EXPECT_EQ(checked_product({2, 3, 4}, "shape"), 24);
  EXPECT_EQ(checked_add(INT64_MAX - 1, 1, "x"), INT64_MAX);
  EXPECT_THAT(message_of<CheckpointError>([] { checked_mul(INT64_MAX, 2, "header"); }),
              HasSubstr("[header] product = 9223372036854775807 x 2"));
  EXPECT_THROW(checked_add<ConfigError>(INT64_MAX, 1, "x"), ConfigError);
}

TEST(Logging, SilentUntilASinkIsSet) {
  std::vector<std::string> lines;
  log(LogLevel::kInfo, "lost");
  set_log_sink([&](LogLevel level, std::string_view line) {
    lines.push_back((level == LogLevel::kWarning ? "W " : "I ") + std::string(line));
  });
  log(LogLevel::kWarning, "kept");
  set_log_sink(nullptr);
  log(LogLevel::kInfo, "lost");
  EXPECT_THAT(lines, ElementsAre("W kept"));
}

TEST(Errors, CarryTheirExitCode) {
  EXPECT_EQ(ConfigError("x").exit_code(), ExitCode::kConfig);
  EXPECT_EQ(ShapeError("x").exit_code(), ExitCode::kConfig);
  EXPECT_EQ(CheckpointError("x").exit_code(), ExitCode::kFile);
  EXPECT_EQ(UnsupportedError("x").exit_code(), ExitCode::kUnsupported);
  EXPECT_EQ(NonFiniteError("x").exit_code(), ExitCode::kNonFinite);
  EXPECT_EQ(InternalError("x").exit_code(), ExitCode::kBug);
  const ConfigError many(std::vector<std::string>{"a: bad", "b: worse"});
  EXPECT_STREQ(many.what(), "a: bad\nb: worse");
  EXPECT_THAT(many.problems(), ElementsAre("a: bad", "b: worse"));
}

}  // namespace
}  // namespace headway
