// Pipeline splits and layout strings by hand, and every error of theirs.
// Not for: all splits (tests/property/spec/pipeline_test.cpp).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/spec/pipeline_layout.h"
#include "headway/spec/pipeline_split.h"

namespace headway::spec {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Counts = std::vector<int64_t>;

Json split(int64_t layers, int64_t pp, const Json& more = Json::object()) {
  Json all = {{"num_layers", layers}, {"pipeline_model_parallel_size", pp}};
  for (const auto& [key, value] : more.items()) all[key] = value;
  return all;
}

Counts counts(const Json& json) {
  const BlockArguments arguments = read_block_arguments(json);
  Counts result;
  for (const PipelinePlace& place : pipeline_places(arguments))
    result.push_back(get_num_layers_to_build(arguments, place));
  return result;
}

std::string error_of(const Json& json) {
  try {
    read_block_arguments(json);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no ConfigError";
}

const Json kFirst3Last3 = {{"num_layers_in_first_pipeline_stage", 3},
                           {"num_layers_in_last_pipeline_stage", 3}};
const Json kAccounted = {{"account_for_embedding_in_pipeline_split", true},
                         {"account_for_loss_in_pipeline_split", true}};

Json with(Json json, const char* key, const Json& value) {
  json[key] = value;
  return json;
}

TEST(PipelineSplit, CountsOfTheSpecsExamples) {
  const char* virtual_size = "virtual_pipeline_model_parallel_size";
  EXPECT_EQ(counts(split(62, 4, kAccounted)), (Counts{15, 16, 16, 15}));
  EXPECT_EQ(counts(split(62, 4, with(kAccounted, virtual_size, 2))),
            (Counts{7, 8, 8, 8, 8, 8, 8, 7}));
  EXPECT_EQ(counts(split(14, 4, kFirst3Last3)), (Counts{3, 4, 4, 3}));
  EXPECT_EQ(counts(split(10, 4, {{"num_layers_in_last_pipeline_stage", 1}})), (Counts{3, 3, 3, 1}));
  EXPECT_EQ(counts(split(26, 4, {{"num_layers_in_last_pipeline_stage", 2}, {virtual_size, 2}})),
            (Counts{4, 4, 4, 1, 4, 4, 4, 1}));
  EXPECT_EQ(counts(split(5, 1)), (Counts{5}));
  EXPECT_EQ(counts(split(5, 1, kAccounted)), (Counts{5}));
}

TEST(PipelineSplit, TwoRanksBothUnevenWithVirtualStages) {  // divides by zero upstream
  EXPECT_EQ(counts(split(6, 2,
                         {{"num_layers_in_first_pipeline_stage", 4},
                          {"num_layers_in_last_pipeline_stage", 2},
                          {"virtual_pipeline_model_parallel_size", 2}})),
            (Counts{2, 1, 2, 1}));
}

TEST(PipelineSplit, VirtualStagesInterleave) {
  const BlockArguments arguments =
      read_block_arguments(split(8, 2, {{"virtual_pipeline_model_parallel_size", 2}}));
  EXPECT_EQ(stage_layers(arguments, {0, 0}), (Counts{0, 1}));
  EXPECT_EQ(stage_layers(arguments, {0, 1}), (Counts{4, 5}));
  EXPECT_EQ(stage_layers(arguments, {1, 0}), (Counts{2, 3}));
  EXPECT_EQ(stage_layers(arguments, {1, 1}), (Counts{6, 7}));
}

TEST(PipelineSplit, PlacesOutsideAreRefused) {
  const auto error = [](const Json& json, PipelinePlace place) -> std::string {
    try {
      stage_layers(read_block_arguments(json), place);
    } catch (const ConfigError& config_error) {
      return config_error.what();
    }
    return "no ConfigError";
  };
  const Json two = split(8, 2, {{"virtual_pipeline_model_parallel_size", 2}});
  EXPECT_THAT(error(two, {2, 0}), HasSubstr("pp_rank = 2: allowed 0 to 1"));
  EXPECT_THAT(error(two, {-1, 0}), HasSubstr("pp_rank = -1"));
  EXPECT_THAT(error(two, {0, std::nullopt}), HasSubstr("vp_stage: missing"));
  EXPECT_THAT(error(two, {0, 2}), HasSubstr("vp_stage = 2: allowed 0 to 1"));
  EXPECT_THAT(error(split(8, 2), {0, 1}), HasSubstr("vp_stage = 1: allowed 0 to 0"));
}

TEST(PipelineSplit, RulesNameTheirFields) {
  EXPECT_THAT(error_of(split(7, 2)),
              AllOf(HasSubstr("num_layers = 7"), HasSubstr("pipeline_model_parallel_size (= 2)")));
  EXPECT_THAT(error_of(split(62, 4, {{"account_for_loss_in_pipeline_split", true}})),
              HasSubstr("63 with embedding and loss"));
  EXPECT_THAT(error_of(split(6, 2, {{"virtual_pipeline_model_parallel_size", 2}})),
              HasSubstr("virtual_pipeline_model_parallel_size (= 2)"));
  EXPECT_THAT(error_of(split(6, 1, {{"virtual_pipeline_model_parallel_size", 2}})),
              HasSubstr("needs pipeline_model_parallel_size > 1"));
  EXPECT_THAT(
      error_of(split(14, 4, with(kFirst3Last3, "account_for_loss_in_pipeline_split", true))),
      HasSubstr("are not allowed with num_layers_in_first_pipeline_stage"));
  EXPECT_THAT(error_of(split(15, 4, kFirst3Last3)), HasSubstr("9 middle layers"));
  EXPECT_THAT(error_of(split(8, 2, kFirst3Last3)), HasSubstr("2 layers are left for 0"));
  EXPECT_THAT(error_of(split(6, 4, kFirst3Last3)), HasSubstr("0 layers are left for 2"));
  EXPECT_THAT(error_of(split(14, 4, {{"num_layers_in_first_pipeline_stage", 0}})),
              HasSubstr("num_layers_in_first_pipeline_stage = 0"));
  EXPECT_THAT(error_of(split(14, 4, with(kFirst3Last3, "virtual_pipeline_model_parallel_size", 2))),
              HasSubstr("num_layers_in_first_pipeline_stage = 3: allowed a multiple of "
                        "virtual_pipeline_model_parallel_size (= 2)"));
  EXPECT_THAT(error_of(split(14, 4,
                             {{"num_layers_in_first_pipeline_stage", 2},
                              {"num_layers_in_last_pipeline_stage", 2},
                              {"virtual_pipeline_model_parallel_size", 2}})),
              HasSubstr("the 5 layers of a middle pipeline rank"));
}

TEST(PipelineLayout, ExamplesOfTheSpec) {
  const PipelineLayout deep = parse_pipeline_layout("Et*3|(tt|)*29,m|L");
  EXPECT_EQ(deep.stages.size(), 32U);
  EXPECT_EQ(deep.count(StageLayer::kDecoder), 61);
  EXPECT_EQ(deep.decoder_offset(2), 5);
  EXPECT_TRUE(validate_layer_layout(deep, {61, 1, 32}));
  const PipelineLayout four = parse_pipeline_layout("E|(tt|)*2,(t|)*4,mL");
  EXPECT_EQ(four.stages.size(), 8U);
  EXPECT_EQ(four.count(StageLayer::kDecoder), 8);
  EXPECT_FALSE(validate_layer_layout(four, {8, 1, 4}));
  const PipelineLayout hollow = parse_pipeline_layout("E|*2tL");
  EXPECT_EQ(hollow.stages.size(), 3U);
  EXPECT_TRUE(hollow.stages[1].empty());
  EXPECT_EQ(parse_pipeline_layout("Et*0L").stages[0].size(), 2U);
}

TEST(PipelineLayout, ListsOfNames) {
  const PipelineLayout layout = parse_pipeline_layout(
      Json::parse(R"([["embedding", " Decoder "], [], ["DECODER", "mtp", "loss"]])"));
  EXPECT_EQ(layout.stages.size(), 3U);
  EXPECT_EQ(layout.decoder_layers(2), 1);
  EXPECT_FALSE(validate_layer_layout(layout, {2, 1, 3}));
}

TEST(PipelineLayout, SlicesAndVirtualSizeComeFromIt) {
  const BlockArguments arguments = read_block_arguments(split(
      8, 4, {{"pipeline_model_parallel_layout", "E|(tt|)*2,(t|)*4,mL"}, {"mtp_num_layers", 1}}));
  EXPECT_EQ(virtual_stages(arguments), 2);
  EXPECT_EQ(counts(split(8, 4,
                         {{"pipeline_model_parallel_layout", "E|(tt|)*2,(t|)*4,mL"},
                          {"mtp_num_layers", 1}})),
            (Counts{0, 2, 2, 1, 1, 1, 1, 0}));
  EXPECT_EQ(stage_layers(arguments, {2, 0}), (Counts{2, 3}));
  EXPECT_EQ(stage_layers(arguments, {1, 1}), (Counts{6}));
  EXPECT_THAT(error_of(split(8, 4,
                             {{"pipeline_model_parallel_layout", "E|(tt|)*2,(t|)*4,L"},
                              {"virtual_pipeline_model_parallel_size", 4}})),
              HasSubstr("the layout has 2 stages per rank"));
  EXPECT_THAT(error_of(split(2, 2,
                             {{"pipeline_model_parallel_layout", "Et|tL"},
                              {"num_layers_in_first_pipeline_stage", 1}})),
              HasSubstr("not allowed together"));
}

struct BadLayout {
  const char* layout;
  const char* fragment;
};

class BadLayouts : public testing::TestWithParam<BadLayout> {};

TEST_P(BadLayouts, NameTheRule) {
  try {
    validate_layer_layout(parse_pipeline_layout(Json::parse(GetParam().layout)), {2, 1, 2});
    FAIL() << "accepted " << GetParam().layout;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(GetParam().fragment));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Rules, BadLayouts,
    testing::Values(BadLayout{R"("Et|t mL")", "Invalid layer character ' '"},
                    BadLayout{R"("Et|xmL")", "Invalid layer character 'x'"},
                    BadLayout{R"("E((t)*2|)*1mL")", "Invalid layer character '('"},
                    BadLayout{R"("E()*2|mL")", "Invalid layer character '('"},
                    BadLayout{R"("E(tt|mL")", "Invalid layer character '('"},
                    BadLayout{R"("Et*|tmL")", "Invalid layer character '*'"},
                    BadLayout{R"("Et*99999999999999999999|mL")", "at most 65536"},
                    BadLayout{R"("E(t*60000)*60000|mL")", "at most 65536"},
                    BadLayout{R"("tE|tmL")", "the first layer must be embedding"},
                    BadLayout{R"("Et|tLm")", "the last layer must be loss"},
                    BadLayout{R"("Et|EtmL")", "2 embedding layers, allowed 1"},
                    BadLayout{R"("EtL|tmL")", "2 loss layers, allowed 1"},
                    BadLayout{R"("Et|mL")", "1 decoder layers, allowed 2 (num_layers)"},
                    BadLayout{R"("Et|tL")", "0 mtp layers, allowed 1 (mtp_num_layers)"},
                    BadLayout{R"("Et|mtL")", "behind an mtp layer"},
                    BadLayout{R"("Et|t|mL")", "3 stages, allowed a multiple"},
                    BadLayout{R"("Ett|m||L")", "last virtual stage"},
                    BadLayout{R"([["embedding","encoder"],["decoder","decoder","mtp","loss"]])",
                              "encoder layers are not in this build"},
                    BadLayout{R"([["embedding","decodr"]])", "decodr"},
                    BadLayout{R"([["embedding",3]])", "3"},
                    BadLayout{R"(["embedding"])", "a list of names for every stage"},
                    BadLayout{R"(3)", "a layout string or a list"}));

}  // namespace
}  // namespace headway::spec
