// Attention by scalar loops in double. Not for: speed.
#include "tests/support/naive_attention.h"

#include <cmath>
#include <limits>
#include <vector>

#include <ATen/Functions.h>

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

/// One query of one head: everything its loops need.
struct Query {
  int64_t token, head, group;
  std::vector<int64_t> keys;  // rows of k that it sees
};

struct Problem {
  Cube q, k, v, d_out, out, dq, dk, dv;
  double* lse;
  double* d_sinks;
  const double* sinks;
  int64_t tokens;
  ops::AttentionOptions options;

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
  std::vector<double> scores;
  for (int64_t key : query.keys) scores.push_back(p.score(query, key));
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
    const int64_t key = query.keys[n];
    weight.push_back(std::exp(scores[n] - lse));
    double d = 0;
    for (int64_t c = 0; c < p.v.c; ++c) {
      p.out.at(query.token, query.head, c) += weight.back() * p.v.at(key, query.group, c);
      d += p.d_out.at(query.token, query.head, c) * p.v.at(key, query.group, c);
      p.dv.at(key, query.group, c) += weight.back() * p.d_out.at(query.token, query.head, c);
    }
    d_weight.push_back(d);
    mean += weight.back() * d;
  }
  for (size_t n = 0; n < query.keys.size(); ++n) {
    const int64_t key = query.keys[n];
    double d_score = weight[n] * (d_weight[n] - mean);
    if (p.options.softcap > 0) d_score *= 1 - std::pow(scores[n] / p.options.softcap, 2);
    for (int64_t c = 0; c < p.q.c; ++c) {
      p.dq.at(query.token, query.head, c) +=
          p.options.scale * d_score * p.k.at(key, query.group, c);
      p.dk.at(key, query.group, c) +=
          p.options.scale * d_score * p.q.at(query.token, query.head, c);
    }
  }
  if (p.sinks && std::isfinite(lse)) p.d_sinks[query.head] -= std::exp(sink - lse) * mean;
}

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
                   at::zeros({heads}, at::kDouble)};
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
      std::vector<int64_t> keys;
      for (int64_t j = 0; j < sk; ++j) {
        const bool left = options.rule.left < 0 || j >= position - options.rule.left;
        const bool right = options.rule.right < 0 || j <= position + options.rule.right;
        if (left && right) keys.push_back(sequences.cu_k[n] + j);
      }
      for (int64_t h = 0; h < heads; ++h) {
        run_query(problem, {sequences.cu_q[n] + i, h, h / (heads / groups), keys});
      }
    }
  }
  return r;
}

}  // namespace headway::test
