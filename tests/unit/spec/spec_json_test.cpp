// A spec survives JSON; two specs differ in words.
#include "headway/spec/spec_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/unit/spec/specs.h"

namespace headway::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SpecJson, RoundTrip) {
  const ModelSpec spec =
      mixed_spec({"model.blocks.local.attention.rope={kind: yarn, factor: 4, mscale: 0.7}",
                  "model.blocks.local.attention.sinks=learnable", "model.final_softcap=30"});
  const Json json = parse_json(to_json(spec).dump(), "spec");
  EXPECT_EQ(spec_from_json(json, "spec"), spec);
  EXPECT_EQ(json["layers"][0]["mixer"]["attention"]["num_heads"], 4);
}

TEST(SpecJson, ErrorsNameTheirPath) {
  Json json = to_json(mixed_spec());
  json["layers"][1]["mixer"] = Json::parse(R"({"atention": {}})");
  json["layers"][2]["mlp"]["dense"].erase("intermediate_size");
  json["hiden_size"] = 1;
  try {
    spec_from_json(json, "spec.json");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.problems(),
                ElementsAre(HasSubstr("model.layers[1].mixer = a mapping of 1 keys: allowed a "
                                      "mapping with one key of attention"),
                            HasSubstr("model.layers[2].mlp.dense.intermediate_size: missing"),
                            HasSubstr("model.hiden_size: unknown key; did you mean hidden_size?")));
  }
  Json odd = to_json(mixed_spec());
  odd["layers"][0]["mixer"]["attention"]["rope"]["fraction"] = 0.2;
  EXPECT_THROW(spec_from_json(odd, "spec.json"), ConfigError);
}

TEST(SpecDiff, OneLinePerField) {
  const ModelSpec before = mixed_spec();
  ModelSpec after = before;
  std::get<AttentionSpec>(after.layers[3].mixer).window = std::nullopt;
  after.head.tied = false;
  EXPECT_THAT(diff(before, after), ElementsAre("model.layers[3].mixer.attention.window: 8 -> null",
                                               "model.head.tied: true -> false"));
  EXPECT_THAT(diff(before, before), ElementsAre());
}

}  // namespace
}  // namespace headway::spec
