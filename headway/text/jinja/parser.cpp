// The parser's tokens and its front door. Not for: grammar (parse_*.cpp).
#include "headway/text/jinja/parser.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/error.h"

namespace headway::text::jinja {
namespace {

constexpr int kDeepestNesting = 400;  // calls of parse functions that count, not brackets
constexpr int kDeepestTree = 300;

}  // namespace

int Template::intern(const std::string& name) {
  const auto [at, added] = index_.try_emplace(name, static_cast<int>(names.size()));
  if (added) names.push_back(name);
  return at->second;
}

int Template::find_name(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? -1 : found->second;
}

Parser::Nesting::Nesting(Parser& parser) : parser_(parser) {
  if (++parser.nesting_ > kDeepestNesting) {
    fail_syntax("nested too deeply", parser.current().line);
  }
}

void Parser::adopt(Expr& parent, ExprPtr child) {
  if (child) {
    parent.depth = std::max(parent.depth, child->depth + 1);
    if (parent.depth > kDeepestTree) fail_syntax("expression too long or too deep", parent.line);
  }
  parent.children.push_back(std::move(child));
}

ExprPtr Parser::with_children(ExprKind kind, int line, ExprPtr a, ExprPtr b) {
  ExprPtr result = node(kind, line);
  adopt(*result, std::move(a));
  if (b) adopt(*result, std::move(b));
  return result;
}

bool Parser::skip_operator(std::string_view symbol) {
  if (!current().is_operator(symbol)) return false;
  next();
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  next();
  return true;
}

Token Parser::expect(TokenType type) {
  if (!current().is(type)) {
    const Token wanted{type, "name", 0};
    if (current().is(TokenType::kEof)) {
      fail_syntax(fmt::format("unexpected end of template, expected '{}'.", describe(wanted)),
                  current().line);
    }
    fail_syntax(fmt::format("expected token '{}', got '{}'", describe(wanted), describe(current())),
                current().line);
  }
  return next();
}

void Parser::expect_operator(std::string_view symbol) {
  if (skip_operator(symbol)) return;
  fail_syntax(fmt::format("expected token '{}', got '{}'", symbol, describe(current())),
              current().line);
}

void Parser::expect_name(std::string_view name) {
  if (skip_name(name)) return;
  fail_syntax(fmt::format("expected token '{}', got '{}'", name, describe(current())),
              current().line);
}

bool Parser::is_one_of(Ends ends) const {
  return current().is(TokenType::kName) &&
         std::find(ends.begin(), ends.end(), current().text) != ends.end();
}

std::unique_ptr<Template> parse_template(std::string_view source) {
  auto result = std::make_unique<Template>();
  for (const char* name : {"loop", "caller", "kwargs", "varargs"}) result->intern(name);
  Parser parser(tokenize(source), *result);
  result->body = parser.parse_all();
  check_template(*result);
  return result;
}

}  // namespace headway::text::jinja
