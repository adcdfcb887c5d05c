// Attention by scalar loops in double. Not for: speed.
#include "tests/support/naive_attention.h"

#include <cmath>
#include <limits>
#include <vector>

#include <ATen/Functions.h>

#include "headway/ops/internal/dropout.h"

namespace headway::test {
namespace {

/// Element access to a contiguous [a,b,c] tensor of doubles.
struct Cube {
  double* data;
  int64_t b, c;
  explicit Cube(const at::Tensor& x) : data(x.data_ptr<double>()), b(x.size(1)), c(x.size(2)) {}
  double& at(int64_t i, int64_t j, int64_t k) const { return data[(i * b + j) * c + k]; }
};

at::Tensor as_double(const at::Tensor& x) { return x.detach().to(at::kDouble).contiguous(); }

/// A key that a query sees: its row of k, what is added to its score and where that came from.
struct Seen {
  int64_t row;
  double bias = 0;
  double* d_bias = nullptr;
};

/// One query of one head: everything its loops need.
struct Query {
  int64_t token, head, group;
  std::vector<Seen> keys;
};

struct Problem {
  Cube q, k, v, d_out, out, dq, dk, dv;
  double* lse;
  double* d_sinks;
  const double* sinks;
  int64_t tokens;
  ops::AttentionOptions options;

  /// 0 where dropped, else 1 / (1 - probability).
  double kept(const Query& query, int64_t key) const {
    const double probability = options.dropout.probability;
    if (probability == 0) return 1;
    const auto row = ops::internal::dropout_row(options.dropout.key, query.head, query.token);
    const double draw = ops::internal::dropout_bits(row, static_cast<uint32_t>(key)) / 0x1p31;
    return draw < probability ? 0 : 1 / (1 - probability);
  }

  /// Before the bias.
  double score(const Query& query, int64_t key) const {
    double dot = 0;
    for (int64_t c = 0; c < q.c; ++c)
      dot += q.at(query.token, query.head, c) * k.at(key, query.group, c);
    const double raw = options.scale * dot;
    return options.softcap > 0 ? options.softcap * std::tanh(raw / options.softcap) : raw;
  }
};

void run_query(const Problem& p, const Query& query) {
  const double sink = p.sinks ? p.sinks[query.head] : -std::numeric_limits<double>::infinity();
  std::vector<double> capped, scores;
  for (const Seen& key : query.keys) {
    capped.push_back(p.score(query, key.row));
    scores.push_back(capped.back() + key.bias);
  }
  double max = sink;
  for (double score : scores) max = std::max(max, score);
  double sum = std::exp(sink - max);
  if (std::isinf(sink)) sum = 0;
  for (double score : scores) sum += std::exp(score - max);
  const double lse = sum == 0 ? -std::numeric_limits<double>::infinity() : max + std::log(sum);
  p.lse[query.head * p.tokens + query.token] = lse;

  // d loss / d p of every key, and its mean under p (the sink's value is zero).
  std::vector<double> weight, d_weight;
  double mean = 0;
  for (size_t n = 0; n < query.keys.size(); ++n) {
    const int64_t key = query.keys[n].row;
    weight.push_back(std::exp(scores[n] - lse));
    const double kept = p.kept(query, key), passed = weight.back() * kept;
    double d = 0;
    for (int64_t c = 0; c < p.v.c; ++c) {
      p.out.at(query.token, query.head, c) += passed * p.v.at(key, query.group, c);
      d += p.d_out.at(query.token, query.head, c) * p.v.at(key, query.group, c);
      p.dv.at(key, query.group, c) += passed * p.d_out.at(query.token, query.head, c);
    }
    d_weight.push_back(d * kept);
    mean += weight.back() * d_weight.back();
  }
  for (size_t n = 0; n < query.keys.size(); ++n) {
    const int64_t key = query.keys[n].row;
    double d_score = weight[n] * (d_weight[n] - mean);
    if (query.keys[n].d_bias) *query.keys[n].d_bias += d_score;
    if (p.options.softcap > 0) d_score *= 1 - std::pow(capped[n] / p.options.softcap, 2);
    for (int64_t c = 0; c < p.q.c; ++c) {
      p.dq.at(query.token, query.head, c) +=
          p.options.scale * d_score * p.k.at(key, query.group, c);
      p.dk.at(key, query.group, c) +=
          p.options.scale * d_score * p.q.at(query.token, query.head, c);
    }
  }
  if (p.sinks && std::isfinite(lse)) p.d_sinks[query.head] -= std::exp(sink - lse) * mean;
}

int64_t longest(const std::vector<int64_t>& cu) {
  int64_t length = 0;
  for (size_t n = 0; n + 1 < cu.size(); ++n) length = std::max(length, cu[n + 1] - cu[n]);
  return length;
}

/// Mask, bias and its gradient in full: [N,H,max sq,max sk] doubles each, or undefined.
struct Pairs {
  at::Tensor mask, bias, d_bias;
  int64_t heads, queries, keys;

  Pairs(const ops::AttentionOptions& options, const ops::Sequences& sequences, int64_t num_heads)
      : heads(num_heads), queries(longest(sequences.cu_q)), keys(longest(sequences.cu_k)) {
    const std::vector<int64_t> full{sequences.num_sequences(), heads, queries, keys};
    if (options.mask.defined()) mask = as_double(options.mask).expand(full).contiguous();
    if (!options.bias.defined()) return;
    bias = as_double(options.bias).expand(full).contiguous();
    d_bias = at::zeros(full, at::kDouble);
  }
  int64_t place(int64_t n, int64_t h, int64_t i, int64_t j) const {
    return ((n * heads + h) * queries + i) * keys + j;
  }
  bool hides(int64_t n, int64_t h, int64_t i, int64_t j) const {
    return mask.defined() && mask.data_ptr<double>()[place(n, h, i, j)] != 0;
  }
  Seen seen(int64_t row, int64_t n, int64_t h, int64_t i, int64_t j) const {
    if (!bias.defined()) return {row};
    const int64_t at = place(n, h, i, j);
    return {row, bias.data_ptr<double>()[at], d_bias.data_ptr<double>() + at};
  }
};

}  // namespace

NaiveAttention naive_attention(const at::Tensor& q_THK, const at::Tensor& k_SGK,
                               const at::Tensor& v_SGV, const at::Tensor& sinks_H,
                               const at::Tensor& d_out_THV, const ops::Sequences& sequences,
                               const ops::AttentionOptions& options) {
  const at::Tensor q = as_double(q_THK), k = as_double(k_SGK), v = as_double(v_SGV);
  const at::Tensor d_out = as_double(d_out_THV);
  const int64_t tokens = q.size(0), heads = q.size(1), groups = k.size(1);
  const at::Tensor sinks = sinks_H.defined() ? as_double(sinks_H) : at::Tensor();
  NaiveAttention r{at::zeros({tokens, heads, v.size(2)}, at::kDouble),
                   at::zeros({heads, tokens}, at::kDouble),
                   at::zeros_like(q),
                   at::zeros_like(k),
                   at::zeros_like(v),
                   at::zeros({heads}, at::kDouble),
                   {}};
  const Pairs pairs(options, sequences, heads);
  r.d_bias = pairs.d_bias;
  const Problem problem{Cube(q),
                        Cube(k),
                        Cube(v),
                        Cube(d_out),
                        Cube(r.out),
                        Cube(r.dq),
                        Cube(r.dk),
                        Cube(r.dv),
                        r.lse.data_ptr<double>(),
                        r.d_sinks.data_ptr<double>(),
                        sinks.defined() ? sinks.data_ptr<double>() : nullptr,
                        tokens,
                        options};
  for (int64_t n = 0; n < sequences.num_sequences(); ++n) {
    const int64_t sq = sequences.cu_q[n + 1] - sequences.cu_q[n];
    const int64_t sk = sequences.cu_k[n + 1] - sequences.cu_k[n];
    for (int64_t i = 0; i < sq; ++i) {
      const int64_t position = i + sk - sq;
      for (int64_t h = 0; h < heads; ++h) {
        std::vector<Seen> keys;
        for (int64_t j = 0; j < sk; ++j) {
          const bool left = options.rule.left < 0 || j >= position - options.rule.left;
          const bool right = options.rule.right < 0 || j <= position + options.rule.right;
          if (!left || !right || pairs.hides(n, h, i, j)) continue;
          keys.push_back(pairs.seen(sequences.cu_k[n] + j, n, h, i, j));
        }
        run_query(problem, {sequences.cu_q[n] + i, h, h / (heads / groups), keys});
      }
    }
  }
  return r;
}

}  // namespace headway::test
