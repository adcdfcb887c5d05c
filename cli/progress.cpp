// Text of the training display.
// Not for: deciding what is measured.
#include "cli/progress.h"

#include <cmath>

#include <fmt/format.h>

#include "headway/base/text_util.h"

namespace headway::cli {
namespace {

constexpr auto kRedrawEvery = std::chrono::milliseconds(100);
constexpr auto kLineEvery = std::chrono::seconds(2);
constexpr int kBarWidth = 20;

std::string bar(std::int64_t done, std::int64_t total) {
  const auto filled = total > 0 ? static_cast<std::size_t>(done * kBarWidth / total) : 0;
  return "[" + std::string(filled, '#') + std::string(kBarWidth - filled, '.') + "]";
}

std::string rate(double per_second) {
  if (per_second >= 1e6) return fmt::format("{:.2f}M", per_second / 1e6);
  if (per_second >= 1e3) return fmt::format("{:.1f}k", per_second / 1e3);
  return fmt::format("{:.0f}", per_second);
}

}  // namespace

std::string format_duration(double seconds) {
  const auto total = static_cast<std::int64_t>(std::llround(std::max(0.0, seconds)));
  const std::int64_t hours = total / 3600;
  const std::int64_t minutes = total / 60 % 60;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, total % 60);
  return fmt::format("{}:{:02}", minutes, total % 60);
}

bool ConsoleProgress::is_due(Clock::duration interval) {
  const Clock::time_point now = Clock::now();
  if (now - last_drawn_ < interval) return false;
  last_drawn_ = now;
  return true;
}

void ConsoleProgress::finish_line() {
  if (drawn_width_ > 0) std::fputc('\n', out_);
  drawn_width_ = 0;
  std::fflush(out_);
}

void ConsoleProgress::print_line(const std::string& line) {
  finish_line();
  std::fprintf(out_, "%s\n", line.c_str());
  std::fflush(out_);
}

void ConsoleProgress::redraw(const std::string& line) {
  const std::size_t blank = drawn_width_ > line.size() ? drawn_width_ - line.size() : 0;
  std::fprintf(out_, "\r%s%s", line.c_str(), std::string(blank, ' ').c_str());
  std::fflush(out_);
  drawn_width_ = line.size();
}

std::string ConsoleProgress::status(const engine::StepMetrics& metrics) const {
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const auto done = static_cast<double>(metrics.step - facts_.first_step);
  const double left = elapsed / done * static_cast<double>(facts_.steps - metrics.step);
  std::string text = fmt::format("loss {:.4f}", metrics.loss.value_or(NAN));
  if (val_loss_) text += fmt::format(" (val {:.4f})", *val_loss_);
  text += fmt::format("  {} tokens/s  grad {:.2f}  lr {:.2e}  ETA {}",
                      rate(metrics.tokens_per_s.value_or(0.0)), metrics.grad_norm.value_or(NAN),
                      metrics.lr.value_or(NAN), format_duration(left));
  if (metrics.share_of_peak) text += fmt::format("  {:.0f}% of peak", 100 * *metrics.share_of_peak);
  return text;
}

void ConsoleProgress::on_start(const engine::TrainFacts& facts) {
  facts_ = facts;
  start_ = Clock::now();
  const std::string why = facts.dtype_reason.empty() ? "" : " (auto: " + facts.dtype_reason + ")";
  print_line(fmt::format("{} parameters, {} tokens a step, {}{}, peak {:.0f} GFLOP/s",
                         format_count(facts.num_parameters), format_count(facts.batch_tokens),
                         facts.dtype, why, facts.peak_flops / 1e9));
  if (facts.first_step > 0) {
    print_line(fmt::format("resuming after step {} of {}", facts.first_step, facts.steps));
  }
}

void ConsoleProgress::on_step(const engine::StepMetrics& metrics) {
  const bool edge = metrics.step == facts_.first_step + 1 || metrics.step == facts_.steps;
  if (is_terminal_) {
    if (!edge && !is_due(kRedrawEvery)) return;
    redraw(fmt::format("{} {}/{}  {}", bar(metrics.step, facts_.steps), metrics.step, facts_.steps,
                       status(metrics)));
  } else if (edge || is_due(kLineEvery)) {
    print_line(fmt::format("step {}/{}  {}", metrics.step, facts_.steps, status(metrics)));
  }
}

void ConsoleProgress::on_evaluation(std::int64_t step, double val_loss) {
  val_loss_ = val_loss;
  if (!is_terminal_ || step == 0) {
    print_line(fmt::format("step {}/{}  validation loss {:.4f}", step, facts_.steps, val_loss));
  }
}

void ConsoleProgress::on_checkpoint(std::int64_t /*step*/, const std::filesystem::path& folder) {
  if (!is_terminal_) print_line("saved " + folder.string());
}

void ConsoleProgress::on_tokenize(const data::TokenizeProgress& progress) {
  if (!is_due(is_terminal_ ? Clock::duration(kRedrawEvery) : Clock::duration(kLineEvery))) return;
  const std::string done =
      is_terminal_
          ? bar(std::min(progress.bytes_done, progress.bytes_total), progress.bytes_total) + " "
          : "";
  const std::string line =
      fmt::format("{}encoding {} of {}: {} tokens", done, format_bytes(progress.bytes_done),
                  format_bytes(progress.bytes_total), format_count(progress.tokens));
  if (is_terminal_) {
    redraw(line);
  } else {
    print_line(line);
  }
}

}  // namespace headway::cli
