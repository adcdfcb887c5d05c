// Field lists: every generated half, and the text of every problem they can report.
#include "headway/base/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::fields_test {

enum class Color { kRed, kBlue };
enum class Trim { kNone, kLeather };

struct Wheel {
  static constexpr std::string_view kShorthand = "size";
  double size = 1.5;
  bool spare = false;
  bool operator==(const Wheel&) const = default;
  template <class V>
  static void fields(V& v) {
    v.field("size", &Wheel::size, "radius in metres", above_up_to(0, 10));
    v.field("spare", &Wheel::spare, "kept in the boot");
  }
};

struct Engine {
  int64_t power = 0;
  bool operator==(const Engine&) const = default;
  template <class V>
  static void fields(V& v) {
    v.field("power", &Engine::power, "kW", at_least(1).required());
  }
};

struct Sail {
  double area = 1;
  bool operator==(const Sail&) const = default;
  template <class V>
  static void fields(V& v) {
    v.field("area", &Sail::area, "square metres", above(0));
  }
};

using Drive = std::variant<Engine, Sail>;

struct Car {
  std::string name;
  int64_t seats = 4;
  int64_t rows = 2;
  Color color = Color::kRed;
  std::optional<Wheel> wheel = Wheel{};
  std::optional<int64_t> doors;
  std::optional<Trim> trim;
  std::optional<Color> stripe;
  std::vector<std::string> owners;
  std::vector<int64_t> years;
  std::array<double, 2> box = {0.5, 0.5};
  std::map<std::string, Engine> engines;
  std::string fuel = "gas";
  Drive drive;
  Json extra;
  bool operator==(const Car&) const = default;
  template <class V>
  static void fields(V& v) {
    v.field("name", &Car::name, "what it is called", Rule().required().not_empty());
    v.field("seats", &Car::seats, "seats", at_least(1));
    v.field("rows", &Car::rows, "rows of seats", at_least(1).divides("seats"));
    v.field("color", &Car::color, "paint");
    v.field("wheel", &Car::wheel, "one wheel");
    v.field("doors", &Car::doors, "doors", between(1, 5));
    v.field("trim", &Car::trim, "seat covers");
    v.field("stripe", &Car::stripe, "second paint");
    v.field("owners", &Car::owners, "names", Rule().not_empty());
    v.field("years", &Car::years, "years of service", at_least(1900));
    v.field("box", &Car::box, "width and height", from_below(0, 1));
    v.field("engines", &Car::engines, "by place");
    v.field("fuel", &Car::fuel, "what it burns", one_of({"gas", "diesel"}));
    v.field("drive", &Car::drive, "what moves it");
    v.field("extra", &Car::extra, "kept as it is");
  }
};

}  // namespace headway::fields_test

namespace headway {
template <>
struct EnumTable<fields_test::Color> {
  static constexpr auto kEntries = std::to_array<EnumEntry<fields_test::Color>>(
      {{fields_test::Color::kRed, "red"}, {fields_test::Color::kBlue, "blue"}});
};
template <>
struct EnumTable<fields_test::Trim> {
  static constexpr auto kEntries = std::to_array<EnumEntry<fields_test::Trim>>(
      {{fields_test::Trim::kNone, "none"}, {fields_test::Trim::kLeather, "leather"}});
};
template <>
struct VariantNames<fields_test::Drive> {
  static constexpr std::array<std::string_view, 2> kNames = {"engine", "sail"};
};
}  // namespace headway

namespace headway::fields_test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> problems_of(const std::string& text, Car car = {}) {
  Problems problems{Sources("car.yaml")};
  read_fields(parse_json(text, "test"), "car", car, problems);
  return problems.lines();
}

Car read(const std::string& text) {
  Car car;
  Problems problems;
  read_fields(parse_json(text, "test"), "car", car, problems);
  EXPECT_THAT(problems.lines(), IsEmpty());
  return car;
}

TEST(Fields, ReadsEveryKindOfField) {
  const Car car = read(R"({"name": "T", "seats": 6, "rows": 3, "color": "blue", "wheel": 2,
    "doors": 3, "owners": ["a", "b"], "years": [1999, 2001], "box": [0, 0.25],
    "engines": {"front": {"power": 5}}, "fuel": "diesel", "drive": {"sail": {"area": 9}},
    "extra": [1, {"x": 2}]})");
  EXPECT_EQ(car.seats, 6);
  EXPECT_EQ(car.color, Color::kBlue);
  EXPECT_EQ(car.wheel, (Wheel{2.0, false}));
  EXPECT_EQ(car.doors, 3);
  EXPECT_THAT(car.owners, ElementsAre("a", "b"));
  EXPECT_EQ(car.box[1], 0.25);
  EXPECT_EQ(car.engines.at("front").power, 5);
  EXPECT_EQ(std::get<Sail>(car.drive).area, 9);
  EXPECT_EQ(car.extra[1]["x"], 2);
}

TEST(Fields, AbsentKeysKeepDefaultsAndNoneClearsOptionals) {
  const Car car = read(R"({"name": "T", "wheel": "none", "doors": null, "owners": "one"})");
  EXPECT_EQ(car.seats, 4);
  EXPECT_EQ(car.wheel, std::nullopt);
  EXPECT_EQ(car.doors, std::nullopt);
  EXPECT_THAT(car.owners, ElementsAre("one"));
  EXPECT_EQ(read(R"({"name": "T", "wheel": {"spare": true}})").wheel, (Wheel{1.5, true}));
  EXPECT_EQ(read(R"({"name": "T", "seats": 1e1})").seats, 10);
}

TEST(Fields, NoneIsAValueWhereAnEnumHasIt) {
  EXPECT_EQ(read(R"({"name": "T", "trim": "none"})").trim, Trim::kNone);
  EXPECT_EQ(read(R"({"name": "T", "trim": null})").trim, std::nullopt);
  EXPECT_EQ(read(R"({"name": "T", "stripe": "none"})").stripe, std::nullopt);
}

TEST(Fields, WriteThenReadIsIdentity) {
  Car car = read(
      R"({"name": "T", "wheel": null, "doors": 2, "owners": ["me"], "engines": {"a": {"power": 3}},
                     "drive": {"engine": {"power": 8}}, "extra": {"k": 1}})");
  const Json json = write_fields(car);
  EXPECT_EQ(read(json.dump()), car);
  EXPECT_EQ(json["wheel"], nullptr);
  EXPECT_EQ(json["drive"].dump(), R"({"engine":{"power":8}})");
}

TEST(Fields, ReportsEveryProblemAtOnceWithPathAndSource) {
  EXPECT_THAT(
      problems_of(R"({"seats": 4, "rows": 3, "colour": "red", "wheel": {"size": 0, "spar": 1},
                      "engines": {"front": {}}})"),
      ElementsAre("car.name: missing; allowed text [car.yaml]",
                  "car.wheel.size = 0: allowed a number in (0, 10] [car.yaml]",
                  "car.wheel.spar: unknown key; did you mean spare? [car.yaml]",
                  "car.engines.front.power: missing; allowed an integer >= 1 [car.yaml]",
                  "car.colour: unknown key; did you mean color? [car.yaml]",
                  "car.rows = 3: allowed a divisor of seats (= 4) [car.yaml]"));
}

std::string problem_with(const std::string& field) {
  const auto lines = problems_of(R"({"name": "T", )" + field + "}");
  EXPECT_EQ(lines.size(), 1u) << field;
  return lines.empty() ? "" : lines[0].substr(0, lines[0].rfind(" ["));
}

TEST(Fields, WrongTypes) {
  EXPECT_EQ(problem_with(R"("seats": "4")"),
            "car.seats = \"4\": allowed an integer >= 1; text in quotes is not a number");
  EXPECT_EQ(problem_with(R"("seats": 1.5)"), "car.seats = 1.5: allowed an integer >= 1");
  EXPECT_EQ(problem_with(R"("seats": true)"), "car.seats = true: allowed an integer >= 1");
  EXPECT_EQ(problem_with(R"("seats": 18446744073709551615)"),
            "car.seats = 18446744073709551615: allowed an integer >= 1");
  EXPECT_EQ(problem_with(R"("fuel": 7)"), "car.fuel = 7: allowed gas | diesel; put it in quotes");
  EXPECT_EQ(problem_with(R"("wheel": {"spare": "yes"})"),
            "car.wheel.spare = \"yes\": allowed true | false; write true or false");
  EXPECT_EQ(problem_with(R"("wheel": [])"), "car.wheel = an empty list: allowed a mapping");
  EXPECT_EQ(problem_with(R"("owners": 3)"),
            "car.owners = 3: allowed a list that is not empty, each text");
  EXPECT_EQ(problem_with(R"("engines": 3)"),
            "car.engines = 3: allowed a mapping of names, each to a mapping");
  EXPECT_EQ(problem_with(R"("doors": [1])"),
            "car.doors = a list of 1 values: allowed an integer in [1, 5]");
}

TEST(Fields, ForbiddenValues) {
  EXPECT_EQ(problem_with(R"("color": "bleu")"),
            "car.color = \"bleu\": allowed red | blue; did you mean blue?");
  EXPECT_EQ(problem_with(R"("color": 3)"), "car.color = 3: allowed red | blue");
  EXPECT_EQ(problem_with(R"("fuel": "deisel")"),
            "car.fuel = \"deisel\": allowed gas | diesel; did you mean diesel?");
  EXPECT_EQ(problem_with(R"("years": [2000, 1])"), "car.years[1] = 1: allowed an integer >= 1900");
  EXPECT_EQ(problem_with(R"("box": [0.5, 1])"), "car.box[1] = 1: allowed a number in [0, 1)");
  EXPECT_EQ(problem_with(R"("box": [0.5])"),
            "car.box = a list of 1 values: allowed a list of 2, each a number in [0, 1)");
  EXPECT_EQ(problem_with(R"("owners": [])"),
            "car.owners = an empty list: allowed a list that is not empty, each text");
  EXPECT_EQ(problem_with(R"("drive": {"motor": {}})"),
            "car.drive = a mapping of 1 keys: allowed a mapping with one key of engine | sail");
  EXPECT_EQ(problem_with(R"("drive": {"sail": {"area": -1}})"),
            "car.drive.sail.area = -1: allowed a number > 0");
  EXPECT_EQ(problems_of(R"({"name": ""})")[0],
            "car.name = \"\": allowed text that is not empty [car.yaml]");
}

TEST(Fields, UnknownKeyWithoutANearNameListsAll) {
  EXPECT_EQ(problem_with(R"("wheel": {"zzzzzzz": 1})"),
            "car.wheel.zzzzzzz: unknown key; allowed size | spare");
}

TEST(Fields, InfinityIsNeverAllowed) {
  Car car;
  Problems problems;
  Json json = {{"name", "T"}, {"wheel", {{"size", std::numeric_limits<double>::infinity()}}}};
  read_fields(json, "", car, problems);
  EXPECT_THAT(problems.lines(),
              ElementsAre("wheel.size = inf: allowed a finite number in (0, 10]"));
}

TEST(Fields, DiffNamesPaths) {
  Car before, after;
  before.name = after.name = "T";
  after.wheel->size = 3;
  after.doors = 2;
  EXPECT_THAT(diff_fields(before, after),
              ElementsAre("wheel.size: 1.5 -> 3.0", "doors: null -> 2"));
}

TEST(Fields, DocsListEveryLeaf) {
  const auto docs = field_docs<Car>("car");
  const auto find = [&](const std::string& path) {
    for (const FieldDoc& doc : docs) {
      if (doc.path == path) return doc;
    }
    return FieldDoc{};
  };
  EXPECT_EQ(find("car.name").preset, "required");
  EXPECT_EQ(find("car.wheel.size").allowed, "a number in (0, 10]");
  EXPECT_EQ(find("car.wheel.size").preset, "1.5");
  EXPECT_EQ(find("car.engines.<name>.power").help, "kW");
  EXPECT_EQ(find("car.doors").allowed, "an integer in [1, 5] | none");
  EXPECT_EQ(find("car.rows").allowed, "a divisor of seats");
}

TEST(Problems, SourceIsTheNearestOverride) {
  Sources sources("run.yaml");
  sources.add_override("car.wheel", "override car.wheel=…");
  Problems problems(sources);
  problems.add("car.wheel.size", "bad");
  problems.add("car.wheels", "bad");
  EXPECT_THAT(problems.lines(), ElementsAre("car.wheel.size: bad [override car.wheel=…]",
                                            "car.wheels: bad [run.yaml]"));
  EXPECT_TRUE(problems.touches("car"));
  EXPECT_TRUE(problems.touches("car.wheel.size"));
  EXPECT_TRUE(problems.touches("car.wheel.size[0]"));
  EXPECT_FALSE(problems.touches("car.name"));
  EXPECT_THROW(problems.throw_if_any(), ConfigError);
  EXPECT_NO_THROW(Problems().throw_if_any());
}

}  // namespace
}  // namespace headway::fields_test
