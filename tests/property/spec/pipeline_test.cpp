// Every split of up to 40 layers over up to 8 ranks and 4 virtual stages tiles the layers in order.
// Not for: single counts (tests/unit/spec/pipeline_test.cpp).
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "headway/base/error.h"
#include "headway/spec/pipeline_layout.h"
#include "headway/spec/pipeline_split.h"

namespace headway::spec {
namespace {

bool is_valid(const BlockArguments& arguments) {
  Problems problems;
  check_pipeline(arguments, "", problems);
  return problems.empty();
}

/// Layers of all stages, in stage order, are 0, 1, …, L-1.
testing::AssertionResult tiles(const BlockArguments& arguments) {
  int64_t next = 0;
  for (const PipelinePlace& place : pipeline_places(arguments)) {
    for (const int64_t layer : stage_layers(arguments, place)) {
      if (layer != next++) {
        return testing::AssertionFailure()
               << "layer " << layer << " in place of " << next - 1 << " on rank " << place.pp_rank;
      }
    }
  }
  if (next != arguments.num_layers) return testing::AssertionFailure() << next << " layers";
  return testing::AssertionSuccess();
}

int64_t check_all_uneven(BlockArguments arguments) {
  int64_t valid = 0;
  for (int64_t first = 0; first <= 6; ++first) {
    for (int64_t last = 0; last <= 6; ++last) {
      arguments.num_layers_in_first_pipeline_stage.reset();
      arguments.num_layers_in_last_pipeline_stage.reset();
      if (first > 0) arguments.num_layers_in_first_pipeline_stage = first;
      if (last > 0) arguments.num_layers_in_last_pipeline_stage = last;
      if (!is_valid(arguments)) continue;
      ++valid;
      EXPECT_TRUE(tiles(arguments))
          << "L " << arguments.num_layers << " pp " << arguments.pipeline_model_parallel_size
          << " V " << arguments.virtual_pipeline_model_parallel_size.value_or(0) << " F " << first
          << " B " << last;
    }
  }
  return valid;
}

TEST(PipelineProperty, SlicesTileTheLayers) {
  int64_t valid = 0;
  BlockArguments arguments;
  for (arguments.num_layers = 1; arguments.num_layers <= 40; ++arguments.num_layers) {
    for (int64_t pp = 1; pp <= 8; ++pp) {
      for (int64_t stages = 0; stages <= 4; ++stages) {
        arguments.pipeline_model_parallel_size = pp;
        arguments.virtual_pipeline_model_parallel_size.reset();
        if (stages > 0) arguments.virtual_pipeline_model_parallel_size = stages;
        for (int account = 0; account < 4; ++account) {
          arguments.account_for_embedding_in_pipeline_split = (account & 1) != 0;
          arguments.account_for_loss_in_pipeline_split = (account & 2) != 0;
          valid += check_all_uneven(arguments);
        }
      }
    }
  }
  EXPECT_GT(valid, 3818);  // the count of spec/variants.md §5.6 has a smaller grid
}

RC_GTEST_PROP(PipelineProperty, LayoutsTileTheLayers, ()) {
  const auto pp = *rc::gen::inRange<int64_t>(1, 5);
  const auto stages = *rc::gen::inRange<int64_t>(1, 4);
  std::string text = "E";
  BlockArguments arguments;
  for (int64_t i = 0; i < pp * stages; ++i) {
    if (i > 0) text += "|";
    const auto layers = *rc::gen::inRange<int64_t>(i == 0 ? 1 : 0, 4);
    text += "t*" + std::to_string(layers);
    arguments.num_layers += layers;
  }
  arguments.pipeline_model_parallel_size = pp;
  arguments.pipeline_model_parallel_layout = text + "L";
  RC_ASSERT(virtual_stages(arguments) == stages);
  RC_ASSERT(static_cast<bool>(tiles(arguments)));
}

RC_GTEST_PROP(PipelineProperty, LayoutTextIsParsedOrRefused, ()) {
  const auto text = *rc::gen::container<std::string>(
      rc::gen::element('E', 't', 'm', 'L', '|', ',', '(', ')', '*', '0', '3', '9', ' '));
  try {
    const PipelineLayout layout = parse_pipeline_layout(text);
    RC_ASSERT(!layout.stages.empty());
  } catch (const ConfigError& error) {
    RC_ASSERT(std::string(error.what()).find("pipeline_model_parallel_layout") !=
              std::string::npos);
  }
}

}  // namespace
}  // namespace headway::spec
