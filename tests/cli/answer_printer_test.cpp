// Thinking sections of an answer that comes in pieces: dim on a terminal, tags elsewhere.
#include "cli/answer_printer.h"

#include <gtest/gtest.h>

namespace headway::cli {
namespace {

struct Shown {
  std::string text;
  std::string thinking;
  std::string answer;
};

Shown show(const std::vector<std::string>& pieces, bool terminal, bool thinking = false) {
  std::FILE* file = std::tmpfile();
  AnswerPrinter printer(file, terminal, thinking);
  for (const std::string& piece : pieces) printer.push(piece);
  printer.finish();
  Shown shown{"", printer.thinking(), printer.answer()};
  std::rewind(file);
  for (int c; (c = std::fgetc(file)) != EOF;) shown.text += static_cast<char>(c);
  std::fclose(file);
  return shown;
}

TEST(AnswerPrinter, ThinkingIsDimOnATerminal) {
  const Shown shown = show({"<th", "ink>a <b", "</thi", "nk>\n\nc"}, true);
  EXPECT_EQ(shown.text, "\x1b[2ma <b\x1b[0m\n\nc");
  EXPECT_EQ(shown.thinking, "a <b");
  EXPECT_EQ(shown.answer, "c");
}

TEST(AnswerPrinter, TagsStayElsewhere) {
  EXPECT_EQ(show({"<think>a</think>b"}, false).text, "<think>a</think>b");
  const Shown plain = show({" x <", "y"}, false);
  EXPECT_EQ(plain.text, " x <y");
  EXPECT_EQ(plain.answer, " x <y");
}

TEST(AnswerPrinter, ThePromptMayHaveOpenedTheSection) {
  const Shown shown = show({"a", "</think>", "b"}, true, true);
  EXPECT_EQ(shown.text, "\x1b[2ma\x1b[0mb");
  EXPECT_EQ(shown.thinking, "a");
  EXPECT_EQ(show({"never closed <"}, true, true).text, "\x1b[2mnever closed <\x1b[0m");
}

}  // namespace
}  // namespace headway::cli
