// `headway inspect --megatron`: block specs of all slices and of one, as JSON and as text.
// Not for: what the specs hold (tests/golden/spec).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/program.h"

namespace headway {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::Outcome;
using testing_support::run_program;
using testing_support::TempFolder;

json golden(const std::string& name) {
  return json::parse(testing_support::read_bytes(std::string(HEADWAY_TESTS_DIR) + "/golden/spec/" +
                                                 name + ".json"));
}

std::string arguments_file(const TempFolder& folder, const json& config) {
  return "inspect --megatron " + folder.write("arguments.json", config.dump());
}

TEST(CliInspectMegatron, PrintsEverySliceOfEveryGolden) {
  for (const char* name : {"dsa_pp2", "gdn_account_emb_loss", "gdn_freq4_moe", "gdn_list_dense",
                           "gdn_moe2_pp2_vp2", "std_moe_list_pp4_uneven"}) {
    const TempFolder folder;
    const json expected = golden(name);
    const Outcome outcome =
        run_program(folder, arguments_file(folder, expected["config"]) + " --json");
    ASSERT_EQ(outcome.code, 0) << name << outcome.err;
    EXPECT_EQ(json::parse(outcome.out), expected["slices"]) << name;
  }
}

TEST(CliInspectMegatron, PrintsOneSlice) {
  const TempFolder folder;
  const json expected = golden("gdn_moe2_pp2_vp2");
  const std::string command = arguments_file(folder, expected["config"]);
  for (const json& slice : expected["slices"]) {
    const Outcome outcome =
        run_program(folder, command + " --json --pp-rank " + slice["pp_rank"].dump() +
                                " --vp-stage " + slice["vp_stage"].dump());
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(json::parse(outcome.out), slice);
  }
  const Outcome rank = run_program(folder, command + " --json --pp-rank 1");
  EXPECT_EQ(json::parse(rank.out), json({expected["slices"][1], expected["slices"][3]}));
  const Outcome text = run_program(folder, command + " --pp-rank 1 --vp-stage 0");
  EXPECT_THAT(text.out, HasSubstr("pipeline rank 1, virtual stage 0"));
  EXPECT_THAT(text.out, HasSubstr("GatedDeltaNet"));
}

TEST(CliInspectMegatron, RefusesWhatDoesNotFit) {
  const TempFolder folder;
  const std::string command =
      arguments_file(folder, golden("gdn_moe2_pp2_vp2")["config"]) + " --json ";
  const auto refused = [&](const std::string& more, const std::string& message) {
    const Outcome outcome = run_program(folder, command + more);
    EXPECT_EQ(outcome.code, 2) << more << outcome.err;
    EXPECT_EQ(outcome.out, "") << more;
    EXPECT_THAT(outcome.err, HasSubstr(message)) << more;
  };
  refused("--pp-rank 2", "--pp-rank = 2");
  refused("--pp-rank 2 --vp-stage 0", "pp_rank = 2: allowed 0 to 1");
  refused("--pp-rank 0 --vp-stage 2", "vp_stage = 2");
  refused("--vp-stage 0", "--vp-stage: allowed only with --pp-rank");
  refused("some.yaml", "allowed one of MODEL and --megatron");
  json config = golden("dsa_pp2")["config"];
  config["multi_latent_attention"] = false;
  const Outcome outcome = run_program(folder, arguments_file(folder, config) + " --json");
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("multi_latent_attention = false"));
}

}  // namespace
}  // namespace headway
