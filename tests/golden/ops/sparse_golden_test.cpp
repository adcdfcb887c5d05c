// The lightning indexer against recorded operator data: scores and chosen keys.
#include <cmath>
#include <filesystem>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "headway/io/safetensors_file.h"
#include "headway/ops/norm.h"
#include "headway/ops/rope.h"
#include "headway/ops/select_keys.h"

#include "tests/support/tensors.h"

namespace headway::ops {
namespace {

class SparseGoldenOps : public testing::TestWithParam<std::tuple<bool, at::ScalarType>> {};

TEST_P(SparseGoldenOps, IndexerChoosesTheRecordedKeys) {
  const auto [interleaved, type] = GetParam();
  const std::filesystem::path folder = std::filesystem::path(HEADWAY_TESTS_DIR) / "golden/ops";
  const auto data =
      io::load_safetensors(folder / (interleaved ? "dsa_indexer_interleaved.safetensors"
                                                 : "dsa_indexer_half.safetensors"));
  const auto get = [&, wanted = type](const char* name) { return data.at(name).to(wanted); };
  const at::Tensor x = get("x").flatten(0, 1), latent = get("q_latent").flatten(0, 1);
  const int64_t batch = data.at("x").size(0), length = data.at("x").size(1);
  const int64_t dim = get("wk").size(0), heads = get("weights_proj").size(0);

  const at::Tensor angles = at::arange(length, type).unsqueeze(1) * get("inv_freq").unsqueeze(0);
  const Sequences sequences = equal_sequences(batch, length);
  const auto turned = [&, pairs = interleaved](const at::Tensor& heads_TND) {
    return rope(heads_TND, at::cos(angles), at::sin(angles), sequences.positions, pairs);
  };
  IndexInputs in;
  in.q_TND = turned(at::matmul(latent, get("wq_b").t()).unflatten(1, {heads, dim}));
  const at::Tensor key =
      layer_norm(at::matmul(x, get("wk").t()), get("k_norm_weight"), get("k_norm_bias"), 1e-6);
  in.k_SD = turned(key.unsqueeze(1)).squeeze(1);
  in.w_TN = at::matmul(x, get("weights_proj").t()) / std::sqrt(static_cast<double>(heads * dim));

  const int64_t top_k = data.at("indices").size(2);
  at::Tensor chosen = select_keys(in, sequences, {top_k, true}).unflatten(0, {batch, length});
  const at::Tensor first = (at::arange(batch, at::kLong) * length).view({-1, 1, 1});
  chosen = at::where(chosen < 0, chosen, chosen - first);
  EXPECT_TRUE(at::equal(chosen, data.at("indices").to(at::kLong)));

  const double allowed = type == at::kDouble ? 2e-6 : 5e-5;
  for (int64_t b = 0; b < batch; ++b) {
    const auto rows = [&](const at::Tensor& t) { return t.narrow(0, b * length, length); };
    const at::Tensor scores =
        index_scores({rows(in.q_TND), rows(in.k_SD), rows(in.w_TN)}, {top_k, true}).tril();
    EXPECT_TRUE(test::close(scores, data.at("scores")[b].to(type), allowed));
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, SparseGoldenOps,
                         testing::Combine(testing::Bool(),
                                          testing::Values(at::kFloat, at::kDouble)));

}  // namespace
}  // namespace headway::ops
