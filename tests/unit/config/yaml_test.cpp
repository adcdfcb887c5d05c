// YAML to JSON and back: scalar rules, limits, every syntax error.
#include "headway/config/yaml.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::config {
namespace {

using ::testing::HasSubstr;

std::string error_of(const std::string& text) {
  try {
    parse_yaml(text, "run.yaml");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(Yaml, NumbersThatLookLikeNumbers) {
  const Json json = parse_yaml("[5e6, 1e4, 1.5, .5, 3., -2, +3, 0x10, 0o17, 010, 1E-3]", "x");
  EXPECT_TRUE(json[0].is_number_float());
  EXPECT_EQ(json[0], 5e6);
  EXPECT_TRUE(json[1].is_number_float());
  EXPECT_EQ(json[1], 1e4);
  EXPECT_EQ(json[2], 1.5);
  EXPECT_EQ(json[3], 0.5);
  EXPECT_EQ(json[4], 3.0);
  EXPECT_EQ(json[5], -2);
  EXPECT_EQ(json[6], 3);
  EXPECT_EQ(json[7], 16);
  EXPECT_EQ(json[8], 15);
  EXPECT_EQ(json[9], 10);
  EXPECT_EQ(json[10], 1e-3);
  EXPECT_TRUE(std::isinf(parse_yaml("-.inf", "x").get<double>()));
  EXPECT_TRUE(std::isnan(parse_yaml(".nan", "x").get<double>()));
  EXPECT_TRUE(parse_yaml("99999999999999999999", "x").is_number_float());
}

TEST(Yaml, TextThatOnlyLooksLikeSomethingElse) {
  for (const char* text : {"\"5\"", "'1e4'", "yes", "on", "1_000", "1e", "e5", "0x", "--1", "1.2.3",
                           "!!str 5", "+", ".", "0xZZ", "infinity", "nan"}) {
    EXPECT_TRUE(parse_yaml(text, "x").is_string()) << text;
  }
}

TEST(Yaml, NullsBooleansAndNesting) {
  EXPECT_EQ(parse_yaml("a: ~\nb:\nc: {d: [true, False]}\ne: |\n  two\n  lines\n", "x").dump(),
            R"({"a":null,"b":null,"c":{"d":[true,false]},"e":"two\nlines\n"})");
  EXPECT_TRUE(parse_yaml("", "x").is_null());
  EXPECT_TRUE(parse_yaml("# only a comment\n", "x").is_null());
  EXPECT_EQ(parse_yaml("1: a", "x").dump(), R"({"1":"a"})");
}

TEST(Yaml, AnchorsAreCopies) {
  EXPECT_EQ(parse_yaml("a: &x {k: 1}\nb: *x\n", "x").dump(), R"({"a":{"k":1},"b":{"k":1}})");
}

TEST(Yaml, EveryErrorNamesFileAndLine) {
  EXPECT_EQ(error_of("a: 1\na: 2\n"), "[run.yaml] line 2: key \"a\" = given twice, allowed once");
  EXPECT_THAT(error_of("a: [1, 2\nb: 3\n"), HasSubstr("[run.yaml] line "));
  EXPECT_THAT(error_of("a: 1\n---\nb: 2\n"), HasSubstr("second document, allowed one"));
  EXPECT_THAT(error_of("{[1]: 2}"), HasSubstr("key = a mapping or a list, allowed text"));
  EXPECT_THAT(error_of("a: !mine 3"), HasSubstr("tag !mine = not known"));
  EXPECT_THAT(error_of("a: !!int x"), HasSubstr("tag tag:yaml.org,2002:int = not known"));
  EXPECT_THAT(error_of("a: &x [*x]"), HasSubstr("alias to a value that contains it"));
  EXPECT_THAT(error_of("a: *none"), HasSubstr("[run.yaml] line 1: "));
  EXPECT_EQ(error_of("a: \xFF"), "[run.yaml] byte 3 = not UTF-8, allowed UTF-8 text");
  EXPECT_THAT(error_of(std::string("a: b\0c", 6)), HasSubstr("NUL byte"));
}

TEST(Yaml, LimitsHold) {
  EXPECT_THAT(error_of(std::string(101, '[') + std::string(101, ']')),
              HasSubstr("nesting depth = more than 100"));
  EXPECT_THAT(error_of(std::string(5000, '[')), HasSubstr("[run.yaml]"));
  EXPECT_THAT(error_of(std::string((1 << 20) + 1, ' ')), HasSubstr("allowed at most 1.00 MiB"));
  std::string bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 9; ++i) {
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) bomb += (j ? ", *a" : "*a") + std::to_string(i - 1);
    bomb += "]\n";
  }
  EXPECT_THAT(error_of(bomb), HasSubstr("more than 100000 values"));
}

TEST(Yaml, EmittedTextReadsBackTheSame) {
  const Json json =
      Json::parse(R"({"a": 5e6, "b": "5", "c": "true", "d": [], "e": {}, "f": [1, "x y", null],
      "g": [{"h": "- x"}, [1, [2]]], "i": "line\nbreak \"q\" é", "j": 1e-8, "k": "", "m": "~",
      "n": "runs/demo",
      "o": "../x", "p": "a: b", "q": false, "r": -3, "true": 1, "s": "-",
      "t": {"u": {"v": [[1, 2], [3]]}}})");
  const std::string text = emit_yaml(json);
  EXPECT_EQ(parse_yaml(text, "x"), json) << text;
  EXPECT_THAT(text, HasSubstr("n: runs/demo\n"));
  EXPECT_THAT(text, HasSubstr("b: \"5\"\n"));
  EXPECT_EQ(emit_yaml(Json(std::numeric_limits<double>::infinity())), ".inf\n");
}

}  // namespace
}  // namespace headway::config
