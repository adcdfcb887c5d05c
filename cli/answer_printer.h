// Shows an answer while it is written, its thinking apart. Not for: the prompt.
#pragma once

#include <cstdio>
#include <string>

namespace headway::cli {

/// Text between <think> and </think> is thinking: dim on a terminal, as it is elsewhere. A tag may
/// come in pieces; what may still become one is held back.
class AnswerPrinter {
 public:
  /// `thinking`: the prompt has opened the section already.
  AnswerPrinter(std::FILE* out, bool is_terminal, bool thinking);

  void push(const std::string& piece);
  /// Shows what was held back and ends the dim text.
  void finish();

  /// Without tags, and without the white space next to them.
  std::string thinking() const;
  std::string answer() const;
  bool has_thinking() const { return has_thinking_; }

 private:
  void show(const std::string& text);
  void switch_to(bool thinking);

  std::FILE* out_;
  bool is_terminal_;
  bool inside_;
  bool has_thinking_;
  std::string held_;
  std::string thinking_;
  std::string answer_;
};

}  // namespace headway::cli
