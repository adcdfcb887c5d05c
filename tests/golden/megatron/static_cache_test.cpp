// Megatron-LM's static inference context through the probe: one full forward, and the same tokens
// as a prefill and single steps.
// Not for: paged caches.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

#include "tests/golden/megatron/probe_golden.h"

namespace headway::engine {
namespace {

using testing::HasSubstr;

class StaticGolden : public testing::TestWithParam<Case> {};

void compare(const std::map<std::string, at::Tensor>& got, const Case& given, double tolerance) {
  size_t compared = 0;
  for (const auto& [name, want] : io::load_safetensors(path_of(given.file))) {
    if (!is_result(name) || name == "out_fp32" || name.starts_with("aux.")) continue;
    ASSERT_TRUE(got.contains(name)) << name;
    expect_close(name, got.at(name), want, tolerance);
    ++compared;
  }
  EXPECT_GE(compared, 2u);
}

TEST_P(StaticGolden, Float64) { compare(probe(request_of(GetParam())), GetParam(), 1e-10); }

TEST_P(StaticGolden, Float32) {
  ProbeRequest request = request_of(GetParam());
  request.dtype = at::kFloat;
  compare(probe(request), GetParam(), 2e-5);
}

/// Fix-13: however the tokens are cut, they see what they see at once.
TEST_P(StaticGolden, EveryPrefillGivesTheFullForward) {
  ProbeRequest request = request_of(GetParam());
  for (const char* prefill : {"1", "2", "9", "11"}) {
    request.metadata["prefill"] = prefill;
    const auto got = probe(request);
    expect_close("out_incremental", got.at("out_incremental"), got.at("out"), 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(Megatron, StaticGolden,
                         testing::Values(Case{"static_cache", "static_cache_gqa"},
                                         Case{"static_cache", "static_cache_window_sink"},
                                         Case{"static_cache", "static_cache_mla"},
                                         Case{"gpt_model", "gpt_static_per_layer_base"}),
                         [](const auto& info) { return info.param.file; });

TEST(StaticProbe, Errors) {
  const ProbeRequest good = request_of({"static_cache", "static_cache_gqa"});
  ProbeRequest request = good;
  request.metadata["max_sequence_length"] = "11";
  EXPECT_THAT(error_of<ShapeError>(request), HasSubstr("inference_max_seq_length (= 11"));
  request = good;
  request.metadata["prefill"] = "13";
  EXPECT_THAT(error_of<ConfigError>(request), HasSubstr("prefill = 13, allowed an integer in [1"));
  request = good;
  request.metadata.erase("prefill");
  EXPECT_THAT(error_of<ConfigError>(request), HasSubstr("prefill: missing"));
  request = good;
  request.metadata["mask"] = "none";
  EXPECT_THAT(error_of<UnsupportedError>(request), HasSubstr("later tokens"));
}

}  // namespace
}  // namespace headway::engine
