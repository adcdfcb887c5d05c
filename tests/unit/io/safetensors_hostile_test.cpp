// Every rule about a safetensors file, broken on purpose. Not for: well-formed files.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "headway/io/safetensors_file.h"

#include "tests/support/io_files.h"

namespace headway::io {
namespace {

using testing_support::little_endian;
using testing_support::safetensors_bytes;
using Rule = SafetensorsRule;

struct Hostile {
  const char* name;
  std::string bytes;
  Rule rule;
  const char* text;  // must be part of the message
};

std::string entry(const std::string& name, const std::string& fields) {
  return "\"" + name + "\":{" + fields + "}";
}

std::string f32(const std::string& name, const std::string& shape, const std::string& offsets) {
  return entry(name, "\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":" + offsets);
}

std::string one(const std::string& fields, size_t data) {
  return safetensors_bytes("{" + entry("w", fields) + "}", data);
}

std::string many_axes(int count) {
  std::string text = "[";
  for (int i = 0; i < count; ++i) text += i == 0 ? "1" : ",1";
  return text + "]";
}

std::vector<Hostile> header_cases() {
  return {
      {"empty file", "", Rule::kTooShort, "size = 0"},
      {"seven bytes", "1234567", Rule::kTooShort, "size = 7"},
      {"only a length", little_endian(2), Rule::kHeaderLength, "cut off"},
      {"length past the end", little_endian(100) + "{}", Rule::kHeaderLength, "100 bytes"},
      {"length above the limit", little_endian(100'000'001) + "{}", Rule::kHeaderLength,
       "100000001"},
      {"length of all ones", little_endian(~uint64_t{0}) + "{}", Rule::kHeaderLength,
       "18446744073709551615"},
      {"length that wraps with 8", little_endian(~uint64_t{0} - 7) + "{}", Rule::kHeaderLength,
       "cut off"},
      {"length of 2^63", little_endian(uint64_t{1} << 63) + "{}", Rule::kHeaderLength, "cut off"},
      {"zero length", little_endian(0), Rule::kHeaderStart, "'{'"},
      {"starts with a space", safetensors_bytes(" {}", 0), Rule::kHeaderStart, "'{'"},
      {"starts with a list", safetensors_bytes("[]", 0), Rule::kHeaderStart, "'{'"},
      {"byte order mark", safetensors_bytes("\xEF\xBB\xBF{}", 0), Rule::kHeaderStart, "'{'"},
      {"bad UTF-8 in a name", safetensors_bytes("{\"\xFF\":{}}", 0), Rule::kJson, "UTF-8"},
      {"overlong UTF-8", safetensors_bytes("{\"\xC0\xAF\":{}}", 0), Rule::kJson, "UTF-8"},
      {"surrogate escape alone", safetensors_bytes("{\"\\ud800\":{}}", 0), Rule::kJson, "not JSON"},
      {"unclosed object", safetensors_bytes("{\"w\":", 0), Rule::kJson, "not JSON"},
      {"trailing junk", safetensors_bytes("{} x", 0), Rule::kJson, "not JSON"},
      {"two objects", safetensors_bytes("{}{}", 0), Rule::kJson, "not JSON"},
      {"NUL padding", safetensors_bytes(std::string("{}\0", 3), 0), Rule::kJson, "not JSON"},
      {"comment", safetensors_bytes("{/**/}", 0), Rule::kJson, "not JSON"},
      {"NaN", one("\"dtype\":\"F32\",\"shape\":[NaN],\"data_offsets\":[0,4]", 4), Rule::kJson,
       "not JSON"},
  };
}

std::vector<Hostile> structure_cases() {
  const std::string good = "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]";
  return {
      {"entry is a number", safetensors_bytes("{\"w\":1}", 0), Rule::kStructure, "tensor \"w\""},
      {"entry is null", safetensors_bytes("{\"w\":null}", 0), Rule::kStructure, "entry = null"},
      {"entry is a list", safetensors_bytes("{\"w\":[]}", 0), Rule::kStructure, "entry = a list"},
      {"name twice",
       safetensors_bytes("{" + f32("w", "[1]", "[0,4]") + "," + f32("w", "[1]", "[4,8]") + "}", 8),
       Rule::kDuplicate, "\"w\" = given twice"},
      {"name twice, once escaped",
       safetensors_bytes(
           "{" + f32("w", "[1]", "[0,4]") + "," + f32("\\u0077", "[1]", "[4,8]") + "}", 8),
       Rule::kDuplicate, "given twice"},
      {"dtype twice", one("\"dtype\":\"F32\"," + good, 4), Rule::kDuplicate, "dtype"},
      {"shape twice", one("\"shape\":[1]," + good, 4), Rule::kDuplicate, "shape"},
      {"offsets twice", one("\"data_offsets\":[0,4]," + good, 4), Rule::kDuplicate, "data_offsets"},
      {"metadata twice", safetensors_bytes("{\"__metadata__\":{},\"__metadata__\":{}}", 0),
       Rule::kDuplicate, "__metadata__"},
      {"metadata key twice", safetensors_bytes("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0),
       Rule::kDuplicate, "__metadata__.a"},
      {"metadata holds a number", safetensors_bytes("{\"__metadata__\":{\"a\":1}}", 0),
       Rule::kStructure, "__metadata__.a"},
      {"metadata holds an object", safetensors_bytes("{\"__metadata__\":{\"a\":{}}}", 0),
       Rule::kStructure, "__metadata__.a"},
      {"metadata is a string", safetensors_bytes("{\"__metadata__\":\"pt\"}", 0), Rule::kStructure,
       "__metadata__"},
      {"unknown field", one(good + ",\"stride\":[1]", 4), Rule::kUnknownField, "stride"},
      {"no dtype", one("\"shape\":[1],\"data_offsets\":[0,4]", 4), Rule::kMissingField, "dtype"},
      {"no shape", one("\"dtype\":\"F32\",\"data_offsets\":[0,4]", 4), Rule::kMissingField,
       "shape"},
      {"no offsets", one("\"dtype\":\"F32\",\"shape\":[1]", 4), Rule::kMissingField,
       "data_offsets"},
      {"empty entry", safetensors_bytes("{\"w\":{}}", 0), Rule::kMissingField, "dtype"},
      {"dtype is a number", one("\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]", 4),
       Rule::kStructure, "dtype"},
      {"dtype unknown", one("\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]", 4),
       Rule::kDtype, "tensor \"w\"] dtype = \"F33\""},
      {"dtype in lower case", one("\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]", 4),
       Rule::kDtype, "F32"},
      {"shape is a number", one("\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]", 4),
       Rule::kStructure, "shape"},
      {"shape is nested", one("\"dtype\":\"F32\",\"shape\":[[1]],\"data_offsets\":[0,4]", 4),
       Rule::kNumber, "a list"},
      {"too deep", one("\"dtype\":\"F32\",\"shape\":[[[1]]],\"data_offsets\":[0,4]", 4),
       Rule::kNumber, "a list"},
      {"metadata too deep", safetensors_bytes("{\"__metadata__\":{\"a\":[[[]]]}}", 0),
       Rule::kStructure, "__metadata__.a"},
      {"offsets of one", one("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4]", 4),
       Rule::kStructure, "1 numbers"},
      {"offsets of three", one("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]", 4),
       Rule::kStructure, "more than two"},
      {"control character in a name",
       safetensors_bytes("{" + f32("a\\u0001", "[1]", "[0,4]") + "}", 4), Rule::kName, "control"},
      {"NUL in a name", safetensors_bytes("{" + f32("a\\u0000", "[1]", "[0,4]") + "}", 4),
       Rule::kName, "control"},
      {"name too long",
       safetensors_bytes("{" + f32(std::string(4097, 'a'), "[1]", "[0,4]") + "}", 4), Rule::kName,
       "4097"},
  };
}

std::vector<Hostile> number_cases() {
  const auto shape = [](const std::string& text, const std::string& end) {
    return one("\"dtype\":\"F32\",\"shape\":" + text + ",\"data_offsets\":[0," + end + "]", 4);
  };
  return {
      {"float size", shape("[1.0]", "4"), Rule::kNumber, "1.0"},
      {"exponent size", shape("[1e0]", "4"), Rule::kNumber, "1e0"},
      {"negative size", shape("[-1]", "4"), Rule::kNumber, "-1"},
      {"minus zero", shape("[-0]", "4"), Rule::kNumber, "-0"},
      {"size of 2^63", shape("[9223372036854775808]", "4"), Rule::kNumber, "9223372036854775808"},
      {"size of 2^64", shape("[18446744073709551616]", "4"), Rule::kNumber, "18446744073709551616"},
      {"string size", shape("[\"1\"]", "4"), Rule::kNumber, "a string"},
      {"boolean size", shape("[true]", "4"), Rule::kNumber, "a boolean"},
      {"null size", shape("[null]", "4"), Rule::kNumber, "null"},
      {"float offset", shape("[1]", "4.0"), Rule::kNumber, "4.0"},
      {"negative offset", shape("[1]", "-4"), Rule::kNumber, "-4"},
      {"rank 17", shape(many_axes(17), "4"), Rule::kRank, "16"},
      {"numel overflow", shape("[4294967296,4294967296]", "4"), Rule::kShapeOverflow, "4294967296"},
      {"bits overflow", shape("[9223372036854775807]", "4"), Rule::kShapeOverflow, "2^63-1"},
      {"odd count of F4", one("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]", 2),
       Rule::kPartialByte, "12 bits"},
      {"odd count of F6", one("\"dtype\":\"F6_E2M3\",\"shape\":[3],\"data_offsets\":[0,3]", 3),
       Rule::kPartialByte, "18 bits"},
      {"begin after end", one("\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,0]", 4),
       Rule::kOffsetOrder, "begin <= end"},
      {"too few bytes", shape("[2]", "4"), Rule::kByteLength, "8 bytes"},
      {"too many bytes", shape("[]", "8"), Rule::kByteLength, "4 bytes"},
      {"bytes for no element", shape("[0]", "4"), Rule::kByteLength, "0 bytes"},
      {"offsets beyond 2^62",
       one("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[9223372036854775803,"
           "9223372036854775807]",
           4),
       Rule::kFirstOffset, "allowed 0"},
  };
}

std::vector<Hostile> tiling_cases() {
  const auto two = [](const std::string& a, const std::string& b, size_t data) {
    return safetensors_bytes("{" + f32("a", "[1]", a) + "," + f32("b", "[1]", b) + "}", data);
  };
  return {
      {"starts late", two("[4,8]", "[8,12]", 12), Rule::kFirstOffset, "tensor \"a\""},
      {"hole", two("[0,4]", "[8,12]", 12), Rule::kHole, "tensor \"b\""},
      {"overlap", two("[0,4]", "[2,6]", 6), Rule::kOverlap, "tensor \"b\""},
      {"the same bytes", two("[0,4]", "[0,4]", 4), Rule::kOverlap, "tensor \"b\""},
      {"past the end", two("[0,4]", "[4,8]", 7), Rule::kEndOfData, "cut off"},
      {"trailing bytes", two("[0,4]", "[4,8]", 9), Rule::kEndOfData, "appended"},
      {"data without tensors", safetensors_bytes("{}", 1), Rule::kEndOfData, "end = 0"},
  };
}

void expect_rules(const std::vector<Hostile>& cases) {
  const testing_support::TempFolder folder;
  for (const Hostile& hostile : cases) {
    SCOPED_TRACE(hostile.name);
    testing_support::write_text(folder / "m.safetensors", hostile.bytes);
    try {
      const SafetensorsFile file(folder / "m.safetensors");
      ADD_FAILURE() << "accepted";
    } catch (const SafetensorsError& error) {
      EXPECT_EQ(enum_name(error.rule()), enum_name(hostile.rule)) << error.what();
      EXPECT_NE(std::string(error.what()).find(hostile.text), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("m.safetensors"), std::string::npos);
      EXPECT_EQ(error.exit_code(), ExitCode::kFile);
    }
  }
}

TEST(SafetensorsHostile, Header) { expect_rules(header_cases()); }
TEST(SafetensorsHostile, Structure) { expect_rules(structure_cases()); }
TEST(SafetensorsHostile, Numbers) { expect_rules(number_cases()); }
TEST(SafetensorsHostile, Tiling) { expect_rules(tiling_cases()); }

TEST(SafetensorsHostile, AtLeastFortyFilesAreTried) {
  EXPECT_GE(header_cases().size() + structure_cases().size() + number_cases().size() +
                tiling_cases().size(),
            40u);
}

TEST(SafetensorsHostile, TooManyTensors) {
  std::string header = "{";
  for (size_t i = 0; i <= kMaxTensors; ++i) {
    if (i > 0) header += ",";
    header +=
        "\"" + std::to_string(i) + "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
  }
  const std::string bytes = safetensors_bytes(header + "}", 0);
  try {
    parse_safetensors_header(std::as_bytes(std::span(bytes)), "m");
    FAIL() << "accepted";
  } catch (const SafetensorsError& error) {
    EXPECT_EQ(error.rule(), Rule::kTensorCount);
  }
}

TEST(SafetensorsHostile, DeepNestingNeedsNoStack) {
  const std::string bytes = safetensors_bytes("{\"w\":" + std::string(1 << 20, '['), 0);
  EXPECT_THROW(parse_safetensors_header(std::as_bytes(std::span(bytes)), "m"), SafetensorsError);
  const std::string objects =
      safetensors_bytes("{\"__metadata__\":{\"a\":" + std::string(1 << 20, '{'), 0);
  EXPECT_THROW(parse_safetensors_header(std::as_bytes(std::span(objects)), "m"), SafetensorsError);
}

TEST(SafetensorsHostile, BoolBytesAreCheckedOnLoad) {
  const testing_support::TempFolder folder;
  const std::string header =
      "{" + entry("b", "\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[0,2]") + "}";
  testing_support::write_text(folder / "m.safetensors",
                              little_endian(header.size()) + header + "\x01\x02");
  const SafetensorsFile file(folder / "m.safetensors");
  for (const bool copy : {true, false}) {
    try {
      copy ? file.load("b") : file.view("b");
      FAIL() << "accepted";
    } catch (const SafetensorsError& error) {
      EXPECT_EQ(error.rule(), Rule::kBoolValue);
    }
  }
}

TEST(SafetensorsHostile, NotARegularFile) {
  const testing_support::TempFolder folder;
  EXPECT_THROW(SafetensorsFile(folder / "missing.safetensors"), CheckpointError);
  EXPECT_THROW(SafetensorsFile(folder.path()), CheckpointError);
  ASSERT_EQ(::mkfifo((folder / "pipe.safetensors").c_str(), 0600), 0);
  EXPECT_THROW(SafetensorsFile(folder / "pipe.safetensors"), CheckpointError);
  EXPECT_THROW(SafetensorsFile("/dev/zero"), CheckpointError);
}

TEST(SafetensorsHostile, TemporaryNameIsRefused) {
  const testing_support::TempFolder folder;
  testing_support::write_text(folder / ".m.safetensors.tmp", safetensors_bytes("{}", 0));
  EXPECT_THROW(SafetensorsFile(folder / ".m.safetensors.tmp"), CheckpointError);
}

TEST(SafetensorsHostile, FileThatShrinksIsAnErrorNotASignal) {
  const testing_support::TempFolder folder;
  const size_t bytes = 1 << 20;
  testing_support::write_text(
      folder / "m.safetensors",
      safetensors_bytes("{" + f32("w", "[262144]", "[0,1048576]") + "}", bytes));
  const SafetensorsFile file(folder / "m.safetensors");
  std::filesystem::resize_file(folder / "m.safetensors", 100);
  EXPECT_THROW(file.load("w"), CheckpointError);
  EXPECT_THROW(file.view("w"), CheckpointError);
}

TEST(SafetensorsHostile, TypesLibtorchLacksAreReportedOnLoad) {
  const testing_support::TempFolder folder;
  testing_support::write_text(folder / "m.safetensors",
                              one("\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]", 1));
  const SafetensorsFile file(folder / "m.safetensors");
  EXPECT_EQ(file.find("w")->info.dtype, Dtype::kF4);
  EXPECT_THROW(file.load("w"), UnsupportedError);
}

}  // namespace
}  // namespace headway::io
