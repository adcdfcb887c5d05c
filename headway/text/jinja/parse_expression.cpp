// Expressions, with Jinja's precedence: ~ binds tighter than + and -, ** is left-associative and
// looser than a sign. Not for: statements.
#include <fmt/format.h>

#include "headway/text/jinja/error.h"
#include "headway/text/jinja/format.h"
#include "headway/text/jinja/parser.h"

namespace headway::text::jinja {

ExprPtr Parser::parse_expression(bool conditional) {
  const Nesting nesting(*this);
  return conditional ? parse_conditional() : parse_or();
}

ExprPtr Parser::parse_conditional() {
  int line = current().line;
  ExprPtr value = parse_or();
  while (skip_name("if")) {
    ExprPtr test = parse_or();
    const Nesting nesting(*this);
    ExprPtr otherwise = skip_name("else") ? parse_conditional() : nullptr;
    ExprPtr result = with_children(ExprKind::kConditional, line, std::move(test), std::move(value));
    adopt(*result, std::move(otherwise));
    value = std::move(result);
    line = current().line;
  }
  return value;
}

ExprPtr Parser::parse_or() {
  const int line = current().line;
  ExprPtr left = parse_and();
  while (skip_name("or")) {
    left = with_children(ExprKind::kOr, line, std::move(left), parse_and());
  }
  return left;
}

ExprPtr Parser::parse_and() {
  const int line = current().line;
  ExprPtr left = parse_not();
  while (skip_name("and")) {
    left = with_children(ExprKind::kAnd, line, std::move(left), parse_not());
  }
  return left;
}

ExprPtr Parser::parse_not() {
  const int line = current().line;
  if (!skip_name("not")) return parse_compare();
  const Nesting nesting(*this);
  return with_children(ExprKind::kNot, line, parse_not());
}

ExprPtr Parser::parse_compare() {
  constexpr std::pair<std::string_view, CompareOp> kOperators[] = {
      {"==", CompareOp::kEq}, {"!=", CompareOp::kNe}, {"<=", CompareOp::kLe},
      {">=", CompareOp::kGe}, {"<", CompareOp::kLt},  {">", CompareOp::kGt}};
  const int line = current().line;
  ExprPtr first = parse_sum();
  ExprPtr result;
  for (;;) {
    const CompareOp* op = nullptr;
    CompareOp word = CompareOp::kIn;
    for (const auto& [symbol, candidate] : kOperators) {
      if (current().is_operator(symbol)) op = &candidate;
    }
    if (op != nullptr) {
      word = *op;
      next();
    } else if (skip_name("in")) {
      op = &word;
    } else if (current().is_name("not") && ahead().is_name("in")) {
      next();
      next();
      word = CompareOp::kNotIn;
      op = &word;
    }
    if (op == nullptr) break;
    if (!result) result = with_children(ExprKind::kCompare, line, std::move(first));
    result->compare.push_back(word);
    adopt(*result, parse_sum());
  }
  return result ? std::move(result) : std::move(first);
}

ExprPtr Parser::parse_sum() {
  const int line = current().line;
  ExprPtr left = parse_concat();
  while (current().is_operator("+") || current().is_operator("-")) {
    const BinaryOp op = next().text == "+" ? BinaryOp::kAdd : BinaryOp::kSub;
    left = with_children(ExprKind::kBinary, line, std::move(left), parse_concat());
    left->op = op;
  }
  return left;
}

ExprPtr Parser::parse_concat() {
  const int line = current().line;
  ExprPtr first = parse_product();
  if (!current().is_operator("~")) return first;
  ExprPtr result = with_children(ExprKind::kConcat, line, std::move(first));
  while (skip_operator("~")) adopt(*result, parse_product());
  return result;
}

ExprPtr Parser::parse_product() {
  constexpr std::pair<std::string_view, BinaryOp> kOperators[] = {{"*", BinaryOp::kMul},
                                                                  {"/", BinaryOp::kDiv},
                                                                  {"//", BinaryOp::kFloorDiv},
                                                                  {"%", BinaryOp::kMod}};
  const int line = current().line;
  ExprPtr left = parse_power();
  for (bool found = true; found;) {
    found = false;
    for (const auto& [symbol, op] : kOperators) {
      if (!skip_operator(symbol)) continue;
      left = with_children(ExprKind::kBinary, line, std::move(left), parse_power());
      left->op = op;
      found = true;
      break;
    }
  }
  return left;
}

ExprPtr Parser::parse_power() {
  const int line = current().line;
  ExprPtr left = parse_unary();
  while (skip_operator("**")) {
    left = with_children(ExprKind::kBinary, line, std::move(left), parse_unary());
    left->op = BinaryOp::kPow;
  }
  return left;
}

ExprPtr Parser::parse_unary(bool with_filter) {
  const Nesting nesting(*this);
  const int line = current().line;
  ExprPtr result;
  if (skip_operator("-")) {
    result = with_children(ExprKind::kNegate, line, parse_unary(false));
  } else if (skip_operator("+")) {
    result = with_children(ExprKind::kPositive, line, parse_unary(false));
  } else {
    result = parse_primary();
  }
  result = parse_postfix(std::move(result));
  return with_filter ? parse_filters_and_tests(std::move(result)) : std::move(result);
}

ExprPtr Parser::parse_name(const Token& token, bool namespaces) {
  ExprPtr result = node(ExprKind::kConst, token.line);
  if (token.text == "true" || token.text == "True") {
    result->value = true;
  } else if (token.text == "false" || token.text == "False") {
    result->value = false;
  } else if (token.text == "none" || token.text == "None") {
    result->value = Value();
  } else if (namespaces && skip_operator(".")) {
    result->kind = ExprKind::kNsRef;
    result->name = template_.intern(token.text);
    result->text = expect(TokenType::kName).text;
  } else {
    result->kind = ExprKind::kName;
    result->name = template_.intern(token.text);
  }
  return result;
}

ExprPtr Parser::parse_primary(bool namespaces) {
  const Token token = current();
  if (token.is(TokenType::kName)) {
    next();
    return parse_name(token, namespaces);
  }
  if (token.is(TokenType::kOperator)) {
    if (skip_operator("(")) {
      ExprPtr inside = parse_tuple({.parentheses = true});
      expect_operator(")");
      return inside;
    }
    if (token.text == "[") return parse_list();
    if (token.text == "{") return parse_dict();
  }
  ExprPtr result = node(ExprKind::kConst, token.line);
  if (token.is(TokenType::kString)) {
    std::string text;
    while (current().is(TokenType::kString)) text += next().text;
    result->value = Value(std::move(text));
  } else if (token.is(TokenType::kInteger)) {
    const auto number = parse_int(next().text, 0);
    if (!number) fail_syntax("bad integer " + token.text, token.line);
    result->value = Value(*number);
  } else if (token.is(TokenType::kFloat)) {
    result->value = *parse_float(next().text);
  } else {
    fail_syntax(fmt::format("unexpected '{}'", describe(token)), token.line);
  }
  return result;
}

ExprPtr Parser::parse_list() {
  ExprPtr result = node(ExprKind::kList, current().line);
  expect_operator("[");
  while (!current().is_operator("]")) {
    if (!result->children.empty()) expect_operator(",");
    if (current().is_operator("]")) break;
    adopt(*result, parse_expression());
  }
  expect_operator("]");
  return result;
}

ExprPtr Parser::parse_dict() {
  ExprPtr result = node(ExprKind::kDict, current().line);
  expect_operator("{");
  while (!current().is_operator("}")) {
    if (!result->children.empty()) expect_operator(",");
    if (current().is_operator("}")) break;
    adopt(*result, parse_expression());
    expect_operator(":");
    adopt(*result, parse_expression());
  }
  expect_operator("}");
  return result;
}

ExprPtr Parser::parse_tuple(const TupleRule& rule) {
  const Nesting nesting(*this);
  ExprPtr result = node(ExprKind::kTuple, current().line);
  bool is_tuple = false;
  for (;;) {
    if (!result->children.empty()) expect_operator(",");
    if (current().is(TokenType::kVariableEnd) || current().is(TokenType::kBlockEnd) ||
        current().is_operator(")") ||
        (!rule.end_name.empty() && current().is_name(rule.end_name))) {
      break;
    }
    adopt(*result,
          rule.simplified ? parse_primary(rule.namespaces) : parse_expression(rule.conditional));
    if (!current().is_operator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return result;
  if (!result->children.empty()) return std::move(result->children.front());
  if (!rule.parentheses) {
    fail_syntax(fmt::format("Expected an expression, got '{}'", describe(current())),
                current().line);
  }
  return result;
}

ExprPtr Parser::parse_target(bool namespaces, std::string_view end_name) {
  ExprPtr target =
      parse_tuple({.simplified = true, .namespaces = namespaces, .end_name = end_name});
  std::vector<const Expr*> open{target.get()};
  while (!open.empty()) {
    const Expr& part = *open.back();
    open.pop_back();
    if (part.kind == ExprKind::kTuple) {
      for (const ExprPtr& child : part.children) open.push_back(child.get());
    } else if (part.kind != ExprKind::kName && part.kind != ExprKind::kNsRef) {
      fail_syntax("can't assign to this expression", part.line);
    }
  }
  return target;
}

int Parser::parse_target_name() {
  const Token token = expect(TokenType::kName);
  for (const char* constant : {"true", "false", "none", "True", "False", "None"}) {
    if (token.text == constant) fail_syntax("can't assign to 'name'", token.line);
  }
  return template_.intern(token.text);
}

}  // namespace headway::text::jinja
