// Times a piece of work, alone or in turn with a baseline (A B A B …), so that ratios hold on a
// noisy machine. Not for: tests.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "headway/base/json.h"

namespace headway::cli::bench {

struct Case {
  std::string name;
  std::function<void()> ours;
  std::string baseline_name;  // empty: no baseline
  std::function<void()> baseline;
  double flops = 0.0;   // of one run; 0 = share of peak is not given
  double tokens = 0.0;  // of one run; 0 = tokens/s are not given
};

struct Spread {
  double min = 0.0;
  double median = 0.0;
  double max = 0.0;
};

/// Sorted statistics; `samples` is not empty.
Spread spread_of(std::vector<double> samples);

struct Result {
  std::string name;
  Spread seconds;
  std::string baseline_name;
  Spread baseline_seconds;
  double ratio = 0.0;       // median of baseline/ours over neighbouring runs: above 1 we are faster
  double memory_mib = 0.0;  // most that one run needs beside its inputs; 0 = unknown
  double baseline_memory_mib = 0.0;
  double tokens_per_s = 0.0;
  double share_of_peak = 0.0;
};

struct Settings {
  int rounds = 9;           // counted runs of each side
  double seconds = 3.0;     // fewer rounds (at least 3) when a case takes longer than this
  double peak_flops = 0.0;  // measured GEMM peak of the machine
};

/// One warm-up of each side, then rounds in turn.
Result measure(const Case& work, const Settings& settings);

Json to_json(const Result& result);
std::string to_line(const Result& result);

/// Every set of cases by name, made only when asked for.
struct CaseSet {
  std::string name;
  std::string help;
  std::vector<Case> (*make)();
};
const std::vector<CaseSet>& case_sets();

std::vector<Case> attention_cases();
std::vector<Case> row_op_cases();
std::vector<Case> delta_rule_cases();
std::vector<Case> head_cases();
std::vector<Case> train_cases();
std::vector<Case> decode_cases();
std::vector<Case> recompute_cases();

}  // namespace headway::cli::bench
