// Finds the tags of thinking sections in text that comes in pieces.
#include "cli/answer_printer.h"

#include <string_view>

#include "headway/base/text_util.h"

namespace headway::cli {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
constexpr const char* kDim = "\x1b[2m";
constexpr const char* kPlain = "\x1b[0m";

// Longest end of `text` that `tag` begins with.
std::size_t held_size(std::string_view text, std::string_view tag) {
  for (std::size_t size = std::min(text.size(), tag.size() - 1); size > 0; --size) {
    if (tag.starts_with(text.substr(text.size() - size))) return size;
  }
  return 0;
}

}  // namespace

AnswerPrinter::AnswerPrinter(std::FILE* out, bool is_terminal, bool thinking)
    : out_(out), is_terminal_(is_terminal), inside_(false), has_thinking_(false) {
  if (thinking) switch_to(true);
}

void AnswerPrinter::switch_to(bool thinking) {
  inside_ = thinking;
  has_thinking_ = has_thinking_ || thinking;
  if (is_terminal_) std::fputs(thinking ? kDim : kPlain, out_);
}

void AnswerPrinter::show(const std::string& text) {
  (inside_ ? thinking_ : answer_) += text;
  std::fwrite(text.data(), 1, text.size(), out_);
  std::fflush(out_);
}

void AnswerPrinter::push(const std::string& piece) {
  held_ += piece;
  for (;;) {
    const std::string_view tag = inside_ ? kClose : kOpen;
    const std::size_t at = held_.find(tag);
    if (at == std::string::npos) break;
    show(held_.substr(0, at));
    if (!is_terminal_) std::fwrite(tag.data(), 1, tag.size(), out_);
    held_.erase(0, at + tag.size());
    switch_to(!inside_);
  }
  const std::size_t kept = held_size(held_, inside_ ? kClose : kOpen);
  show(held_.substr(0, held_.size() - kept));
  held_.erase(0, held_.size() - kept);
}

void AnswerPrinter::finish() {
  show(held_);
  held_.clear();
  if (inside_ && is_terminal_) std::fputs(kPlain, out_);
  std::fflush(out_);
}

std::string AnswerPrinter::thinking() const { return std::string(trim(thinking_)); }

std::string AnswerPrinter::answer() const {
  return has_thinking_ ? std::string(trim(answer_)) : answer_;
}

}  // namespace headway::cli
