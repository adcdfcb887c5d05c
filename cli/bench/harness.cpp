// Timing, statistics and the printed or JSON report shared by the benchmarks. Not for: what is
// timed.
#include "cli/bench/harness.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>

namespace headway::cli::bench {
namespace {

double time_once(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// A line of /proc/self/status in KiB; -1 where there is none.
double status_kib(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":")) return std::stod(line.substr(name.size() + 1));
  }
  return -1.0;
}

struct Run {
  double seconds = 0.0;
  double memory_mib = 0.0;
};

/// Seconds, and how far the resident set grew meanwhile: Linux resets its high-water mark on
/// request.
Run first_run(const std::function<void()>& work) {
  std::ofstream("/proc/self/clear_refs") << "5\n";
  const double before = status_kib("VmRSS");
  Run run;
  run.seconds = time_once(work);
  const double peak = status_kib("VmHWM");
  if (before > 0 && peak > before) run.memory_mib = (peak - before) / 1024.0;
  return run;
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
  const Run warm = first_run(work.ours);
  const Run baseline_warm = work.baseline ? first_run(work.baseline) : Run{};
  const double both = std::max(warm.seconds + baseline_warm.seconds, 1e-9);
  const int rounds = std::clamp(static_cast<int>(settings.seconds / both), 3, settings.rounds);
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
  result.memory_mib = warm.memory_mib;
  result.baseline_memory_mib = baseline_warm.memory_mib;
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
  if (result.memory_mib > 0) json["memory_mib"] = result.memory_mib;
  if (result.baseline_memory_mib > 0) json["baseline_memory_mib"] = result.baseline_memory_mib;
  if (result.tokens_per_s > 0) json["tokens_per_s"] = result.tokens_per_s;
  if (result.share_of_peak > 0) json["share_of_peak"] = result.share_of_peak;
  return json;
}

std::string to_line(const Result& result) {
  char line[400];
  int used = std::snprintf(line, sizeof line, "%-44s %9.3f ms (%.3f-%.3f)", result.name.c_str(),
                           result.seconds.median * 1e3, result.seconds.min * 1e3,
                           result.seconds.max * 1e3);
  if (!result.baseline_name.empty()) {
    used += std::snprintf(line + used, sizeof line - used, "  %s %9.3f ms  ratio %5.2f",
                          result.baseline_name.c_str(), result.baseline_seconds.median * 1e3,
                          result.ratio);
  }
  if (result.memory_mib > 0) {
    used += std::snprintf(line + used, sizeof line - used, "  %.1f MiB", result.memory_mib);
  }
  if (result.baseline_memory_mib > 0) {
    used += std::snprintf(line + used, sizeof line - used, " (%.1f)", result.baseline_memory_mib);
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
      {"decode", "tokens one by one after a long prompt", decode_cases},
      {"recompute", "time and tensor memory of recompute and delay_wgrad", recompute_cases}};
  return sets;
}

}  // namespace headway::cli::bench
