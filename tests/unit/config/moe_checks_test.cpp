// Rules of a mixture of experts in a run file, each by its text.
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/fields.h"
#include "headway/config/part_checks.h"

namespace headway::config {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

MoeConfig sound() {
  MoeConfig moe;
  moe.num_experts = 8;
  moe.top_k = 2;
  moe.intermediate_size = 4;
  return moe;
}

std::vector<std::string> problems_of(const std::function<void(MoeConfig&)>& change) {
  MoeConfig moe = sound();
  change(moe);
  Problems problems;
  check_fields(moe, "moe", problems);
  check_moe(moe, "moe", problems);
  return problems.lines();
}

TEST(CheckMoe, SoundOnesPass) {
  EXPECT_THAT(problems_of([](MoeConfig&) {}), IsEmpty());
  EXPECT_THAT(problems_of([](MoeConfig& m) {
                m.router.score = RouterScore::kSigmoid;
                m.router.num_groups = 4;
                m.router.kept_groups = 2;
                m.router.expert_bias = true;
                m.router.bias_update_rate = 0;
                m.router.losses = {{BalanceKind::kSequence, 0.1}};
                m.router.balance_choices = true;
                m.capacity = CapacityConfig{1.5, DropPolicy::kPosition};
              }),
              IsEmpty());
}

TEST(CheckMoe, LimitsAndOffsetsNeedAGate) {
  EXPECT_THAT(problems_of([](MoeConfig& m) {
                m.limit = 7;
                m.limit_input = true;
                m.linear_offset = 1;
              }),
              IsEmpty());
  EXPECT_THAT(problems_of([](MoeConfig& m) { m.limit_input = true; }),
              ElementsAre("moe.limit_input = true: allowed only with a limit"));
  EXPECT_THAT(problems_of([](MoeConfig& m) {
                m.gated = false;
                m.linear_offset = 1;
              }),
              ElementsAre(testing::HasSubstr("only with gated true")));
}

TEST(CheckMoe, ChoicesFitExpertsAndGroups) {
  EXPECT_THAT(problems_of([](MoeConfig& m) { m.num_experts = 0; }),
              ElementsAre("moe.num_experts = 0: allowed an integer in [1, 65536]"));
  EXPECT_THAT(problems_of([](MoeConfig& m) { m.top_k = 9; }),
              ElementsAre("moe.top_k = 9: allowed at most num_experts (= 8)"));
  EXPECT_THAT(problems_of([](MoeConfig& m) { m.router.num_groups = 3; }),
              ElementsAre("moe.router.num_groups = 3: allowed a divisor of num_experts (= 8)"));
  EXPECT_THAT(problems_of([](MoeConfig& m) { m.router.kept_groups = 2; }),
              ElementsAre("moe.router.kept_groups = 2: allowed at most num_groups (= 1)"));
  EXPECT_THAT(problems_of([](MoeConfig& m) {
                m.router.num_groups = 8;
                m.top_k = 2;
              }),
              ElementsAre("moe.top_k = 2: allowed at most the experts of the kept groups (= 1 x "
                          "1)",
                          "moe.router.best_of_group = 2: allowed at most the experts of a group "
                          "(= 1)"));
  EXPECT_THAT(problems_of([](MoeConfig& m) {
                m.router.num_groups = 4;
                m.router.kept_groups = 3;
              }),
              ElementsAre("moe.router.kept_groups = 3: allowed at most top_k (= 2), or set "
                          "best_of_group"));
}

TEST(CheckMoe, RouterFieldsThatNobodyReads) {
  EXPECT_THAT(
      problems_of([](MoeConfig& m) { m.router.expert_bias = true; }),
      ElementsAre("moe.router.expert_bias = true: allowed only with score sigmoid | sqrtsoftplus"));
  EXPECT_THAT(problems_of([](MoeConfig& m) { m.router.bias_update_rate = 0.5; }),
              ElementsAre("moe.router.bias_update_rate = 0.5: allowed only with expert_bias true"));
  EXPECT_THAT(problems_of([](MoeConfig& m) { m.router.balance_choices = true; }),
              ElementsAre("moe.router.balance_choices = true: allowed only with losses"));
  EXPECT_THAT(problems_of([](MoeConfig& m) { m.router.best_of_group = 2; }),
              ElementsAre("moe.router.best_of_group = 2: allowed only with num_groups > 1"));
  EXPECT_THAT(problems_of([](MoeConfig& m) { m.top_k = 1; }),
              ElementsAre("moe.router.normalize = true: allowed false with score softmax and top_k "
                          "1: the only weight would be 1, without a gradient"));
}

TEST(CheckMoe, SinkhornStandsAlone) {
  EXPECT_THAT(problems_of([](MoeConfig& m) { m.router.sinkhorn = true; }),
              ElementsAre("moe.router.sinkhorn = true: allowed only with normalize false and "
                          "without groups, expert_bias and losses"));
  EXPECT_THAT(problems_of([](MoeConfig& m) {
                m.router.sinkhorn = true;
                m.router.normalize = false;
              }),
              IsEmpty());
}

TEST(CheckMoe, ExpertsWithoutGateHaveNoLimit) {
  EXPECT_THAT(problems_of([](MoeConfig& m) {
                m.gated = false;
                m.limit = 2;
                m.shared = SharedExpertConfig{8, false, 3.0};
              }),
              ElementsAre("moe.limit = 2: allowed only with gated true",
                          "moe.shared.limit = 3: allowed only with gated true"));
  EXPECT_THAT(problems_of([](MoeConfig& m) { m.weight_input = true; }),
              ElementsAre("moe.weight_input = true: allowed only with top_k 1 (top_k = 2)"));
}

}  // namespace
}  // namespace headway::config
