// Timing, statistics and the printed or JSON report shared by the benchmarks. Not for: what is
// timed.
#include "cli/bench/harness.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace headway::cli::bench {
namespace {

double time_once(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Json spread_json(const Spread& spread) {
  return {{"min_ms", spread.min * 1e3},
          {"median_ms", spread.median * 1e3},
          {"max_ms", spread.max * 1e3}};
}

}  // namespace

Spread spread_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return {samples.front(), samples[samples.size() / 2], samples.back()};
}

Result measure(const Case& work, const Settings& settings) {
  const double warm = time_once(work.ours) + (work.baseline ? time_once(work.baseline) : 0.0);
  const int rounds =
      std::clamp(static_cast<int>(settings.seconds / std::max(warm, 1e-9)), 3, settings.rounds);
  std::vector<double> ours;
  std::vector<double> baseline;
  std::vector<double> ratios;
  for (int round = 0; round < rounds; ++round) {
    ours.push_back(time_once(work.ours));
    if (!work.baseline) continue;
    baseline.push_back(time_once(work.baseline));
    ratios.push_back(baseline.back() / ours.back());
  }
  Result result;
  result.name = work.name;
  result.seconds = spread_of(ours);
  if (work.baseline) {
    result.baseline_name = work.baseline_name;
    result.baseline_seconds = spread_of(baseline);
    result.ratio = spread_of(ratios).median;
  }
  result.tokens_per_s = work.tokens / result.seconds.median;
  if (settings.peak_flops > 0)
    result.share_of_peak = work.flops / result.seconds.median / settings.peak_flops;
  return result;
}

Json to_json(const Result& result) {
  Json json{{"name", result.name}, {"ours", spread_json(result.seconds)}};
  if (!result.baseline_name.empty()) {
    json["baseline"] = result.baseline_name;
    json["baseline_time"] = spread_json(result.baseline_seconds);
    json["ratio"] = result.ratio;
  }
  if (result.tokens_per_s > 0) json["tokens_per_s"] = result.tokens_per_s;
  if (result.share_of_peak > 0) json["share_of_peak"] = result.share_of_peak;
  return json;
}

std::string to_line(const Result& result) {
  char line[320];
  int used = std::snprintf(line, sizeof line, "%-44s %9.3f ms (%.3f-%.3f)", result.name.c_str(),
                           result.seconds.median * 1e3, result.seconds.min * 1e3,
                           result.seconds.max * 1e3);
  if (!result.baseline_name.empty()) {
    used += std::snprintf(line + used, sizeof line - used, "  %s %9.3f ms  ratio %5.2f",
                          result.baseline_name.c_str(), result.baseline_seconds.median * 1e3,
                          result.ratio);
  }
  if (result.tokens_per_s > 0) {
    used += std::snprintf(line + used, sizeof line - used, "  %.0f tokens/s", result.tokens_per_s);
  }
  if (result.share_of_peak > 0) {
    std::snprintf(line + used, sizeof line - used, "  %.0f %% of peak", result.share_of_peak * 100);
  }
  return line;
}

const std::vector<CaseSet>& case_sets() {
  static const std::vector<CaseSet> sets = {
      {"attention", "core attention against libtorch's scaled_dot_product_attention",
       attention_cases},
      {"rows", "norms, rotation, gate and activation against composed libtorch operators",
       row_op_cases},
      {"delta_rule", "the gated delta rule against the same chunks by libtorch operators",
       delta_rule_cases},
      {"head", "linear + cross-entropy against libtorch with all logits", head_cases},
      {"train", "whole training steps: forward, backward", train_cases},
      {"decode", "tokens one by one after a long prompt", decode_cases}};
  return sets;
}

}  // namespace headway::cli::bench
