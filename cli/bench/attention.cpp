// Core attention against libtorch SDPA on the same tensors.
#include "headway/ops/attention.h"

#include <memory>
#include <optional>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "cli/bench/harness.h"
#include "headway/ops/paged_attention.h"

namespace headway::cli::bench {
namespace {

struct Shape {
  int64_t batch;
  int64_t length;
  int64_t heads;
  int64_t kv_heads;
  int64_t dim;
};

at::Tensor random_heads(int64_t tokens, int64_t heads, int64_t dim) {
  return at::randn({tokens, heads, dim}).set_requires_grad(true);
}

/// [T,H,K] -> [B,H,S,K]
at::Tensor batched(const at::Tensor& x, const Shape& shape) {
  return x.unflatten(0, {shape.batch, shape.length}).transpose(1, 2);
}

struct Inputs {
  at::Tensor q, k, v, cotangent;
};

std::shared_ptr<Inputs> make_inputs(const Shape& shape) {
  const int64_t tokens = shape.batch * shape.length;
  return std::make_shared<Inputs>(Inputs{random_heads(tokens, shape.heads, shape.dim),
                                         random_heads(tokens, shape.kv_heads, shape.dim),
                                         random_heads(tokens, shape.kv_heads, shape.dim),
                                         at::randn({tokens, shape.heads, shape.dim})});
}

void backward(const at::Tensor& out, const at::Tensor& cotangent, Inputs& in) {
  out.backward(cotangent);
  for (at::Tensor* tensor : {&in.q, &in.k, &in.v}) tensor->mutable_grad().reset();
}

Case causal_case(const Shape& shape, std::optional<int64_t> window) {
  const auto in = make_inputs(shape);
  ops::AttentionOptions options;
  options.scale = 1.0 / std::sqrt(static_cast<double>(shape.dim));
  if (window) options.rule.left = *window - 1;
  const auto sequences = ops::equal_sequences(shape.batch, shape.length);
  at::Tensor mask;
  if (window) {
    const at::Tensor i = at::arange(shape.length).unsqueeze(1);
    const at::Tensor j = at::arange(shape.length).unsqueeze(0);
    mask = (j <= i).logical_and(j > i - *window);
  }
  Case work;
  work.name = "causal S=" + std::to_string(shape.length) + " D=" + std::to_string(shape.dim) +
              (window ? " window=" + std::to_string(*window) : "") + " forward+backward";
  work.ours = [=] {
    backward(ops::attention(in->q, in->k, in->v, {}, sequences, options), in->cotangent, *in);
  };
  work.baseline_name = window ? "SDPA+mask" : "SDPA";
  work.baseline = [=] {
    const at::Tensor out = at::scaled_dot_product_attention(
        batched(in->q, shape), batched(in->k, shape), batched(in->v, shape),
        mask.defined() ? std::optional<at::Tensor>(mask) : std::nullopt, 0.0, !window, std::nullopt,
        shape.heads != shape.kv_heads);
    backward(out, batched(in->cotangent, shape), *in);
  };
  const double keys = window ? static_cast<double>(*window) : shape.length / 2.0;
  work.flops = 3.5 * 4.0 * shape.batch * shape.length * keys * shape.heads * shape.dim;
  work.tokens = static_cast<double>(shape.batch * shape.length);
  return work;
}

/// The same with and without dropout: what drawing costs.
Case dropout_case(const Shape& shape) {
  const auto in = make_inputs(shape);
  ops::AttentionOptions options;
  options.scale = 1.0 / std::sqrt(static_cast<double>(shape.dim));
  ops::AttentionOptions dropping = options;
  dropping.dropout = {0.1, 1};
  const auto sequences = ops::equal_sequences(shape.batch, shape.length);
  Case work;
  work.name = "dropout 0.1 S=" + std::to_string(shape.length) + " forward+backward";
  work.ours = [=] {
    backward(ops::attention(in->q, in->k, in->v, {}, sequences, dropping), in->cotangent, *in);
  };
  work.baseline_name = "ours without";
  work.baseline = [=] {
    backward(ops::attention(in->q, in->k, in->v, {}, sequences, options), in->cotangent, *in);
  };
  work.tokens = static_cast<double>(shape.batch * shape.length);
  return work;
}

/// 64 documents of lengths 64·(1 + i mod 16), packed against padded.
Case packed_case() {
  const int64_t documents = 64;
  const int64_t longest = 1024;
  const Shape padded{documents, longest, 8, 2, 64};
  std::vector<int64_t> cu{0};
  for (int64_t i = 0; i < documents; ++i) cu.push_back(cu.back() + 64 * (1 + i % 16));
  const auto in = make_inputs({1, cu.back(), 8, 2, 64});
  const auto wide = make_inputs(padded);
  const auto sequences = ops::packed_sequences(cu);
  ops::AttentionOptions options;
  options.scale = 0.125;
  Case work;
  work.name = "64 packed documents D=64 forward+backward";
  work.ours = [=] {
    backward(ops::attention(in->q, in->k, in->v, {}, sequences, options), in->cotangent, *in);
  };
  work.baseline_name = "SDPA padded";
  work.baseline = [=] {
    const at::Tensor out = at::scaled_dot_product_attention(
        batched(wide->q, padded), batched(wide->k, padded), batched(wide->v, padded), std::nullopt,
        0.0, true, std::nullopt, true);
    backward(out, batched(wide->cotangent, padded), *wide);
  };
  work.tokens = static_cast<double>(cu.back());
  return work;
}

Case decode_case(int64_t length) {
  const auto in = make_inputs({1, length, 8, 2, 64});
  const at::Tensor q = at::randn({1, 8, 64});
  ops::Sequences sequences = ops::continued_sequences({length - 1}, {1});
  ops::AttentionOptions options;
  options.scale = 0.125;
  Case work;
  work.name = "decode one token, " + std::to_string(length) + " keys";
  work.ours = [=] {
    at::NoGradGuard no_grad;
    for (int i = 0; i < 100; ++i) ops::attention(q, in->k, in->v, {}, sequences, options);
  };
  work.baseline_name = "SDPA";
  work.baseline = [=] {
    at::NoGradGuard no_grad;
    const Shape keys{1, length, 8, 2, 64};
    for (int i = 0; i < 100; ++i) {
      at::scaled_dot_product_attention(q.unsqueeze(0).transpose(1, 2), batched(in->k, keys),
                                       batched(in->v, keys), std::nullopt, 0.0, false, std::nullopt,
                                       true);
    }
  };
  work.tokens = 100;
  return work;
}

/// One decode step of 32 sequences of lengths 16·2^(i mod 9): keys in shuffled pages of 64 rows
/// against one batch padded to the longest.
Case paged_decode_case(int64_t dim) {
  const int64_t count = 32, heads = 8, kv_heads = 2, block = 64, longest = 16 << 8;
  std::vector<int64_t> past, ones(count, 1);
  int64_t pages = 0;
  for (int64_t i = 0; i < count; ++i) {
    past.push_back((16 << (i % 9)) - 1);
    pages += past.back() / block + 1;
  }
  const at::Tensor ids = at::randperm(pages, at::kInt);
  ops::PagedKeys keys{at::randn({pages, block, kv_heads, dim}),
                      at::randn({pages, block, kv_heads, dim}),
                      at::full({count, longest / block}, -1, at::kInt)};
  const at::Tensor mask = at::zeros({count, 1, 1, longest}, at::kBool);
  for (int64_t i = 0, page = 0; i < count; ++i) {
    const int64_t used = past[i] / block + 1;
    keys.block_table_NM[i].narrow(0, 0, used).copy_(ids.narrow(0, page, used));
    mask[i].narrow(2, 0, past[i] + 1).fill_(true);
    page += used;
  }
  const at::Tensor q = at::randn({count, heads, dim});
  const at::Tensor k = at::randn({count, kv_heads, longest, dim}), v = at::randn_like(k);
  const ops::Sequences sequences = ops::continued_sequences(past, ones);
  ops::AttentionOptions options;
  options.scale = 1.0 / std::sqrt(static_cast<double>(dim));
  Case work;
  work.name = "decode 32 sequences through pages D=" + std::to_string(dim);
  work.ours = [=] {
    at::NoGradGuard no_grad;
    for (int i = 0; i < 10; ++i) ops::paged_attention(q, keys, {}, sequences, options);
  };
  work.baseline_name = "SDPA padded";
  work.baseline = [=] {
    at::NoGradGuard no_grad;
    for (int i = 0; i < 10; ++i) {
      at::scaled_dot_product_attention(q.unsqueeze(2), k, v, mask, 0.0, false, std::nullopt, true);
    }
  };
  work.tokens = 10.0 * count;
  return work;
}

}  // namespace

std::vector<Case> attention_cases() {
  return {causal_case({4, 512, 8, 8, 32}, std::nullopt),
          causal_case({1, 2048, 8, 2, 64}, std::nullopt),
          causal_case({1, 2048, 8, 2, 128}, std::nullopt),
          causal_case({1, 4096, 8, 2, 64}, std::nullopt),
          causal_case({1, 8192, 8, 2, 64}, std::nullopt),
          causal_case({1, 4096, 8, 2, 64}, 256),
          causal_case({1, 8192, 8, 2, 64}, 256),
          dropout_case({1, 2048, 8, 2, 64}),
          packed_case(),
          decode_case(512),
          decode_case(8192),
          paged_decode_case(64),
          paged_decode_case(128)};
}

}  // namespace headway::cli::bench
