// What follows a value: attributes, items, slices, calls, filters, tests. Not for: operators.
#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/format.h"
#include "headway/text/jinja/parser.h"

namespace headway::text::jinja {

ExprPtr Parser::parse_postfix(ExprPtr value) {
  for (;;) {
    if (current().is_operator(".") || current().is_operator("[")) {
      value = parse_subscript(std::move(value));
    } else if (current().is_operator("(")) {
      value = parse_call(std::move(value));
    } else {
      return value;
    }
  }
}

ExprPtr Parser::parse_filters_and_tests(ExprPtr value) {
  for (;;) {
    if (current().is_operator("|")) {
      value = parse_filter(std::move(value), false);
    } else if (current().is_name("is")) {
      value = parse_test(std::move(value));
    } else if (current().is_operator("(")) {
      value = parse_call(std::move(value));
    } else {
      return value;
    }
  }
}

std::string Parser::parse_dotted_name() {
  std::string name = expect(TokenType::kName).text;
  while (skip_operator(".")) name += "." + expect(TokenType::kName).text;
  return name;
}

ExprPtr Parser::parse_filter(ExprPtr value, bool start_inline) {
  while (current().is_operator("|") || start_inline) {
    if (!start_inline) next();
    start_inline = false;
    ExprPtr result = node(ExprKind::kFilter, current().line);
    result->text = parse_dotted_name();
    adopt(*result, std::move(value));
    result->args = current().is_operator("(") ? parse_call_args() : std::make_unique<CallArgs>();
    value = std::move(result);
  }
  return value;
}

ExprPtr Parser::parse_test(ExprPtr value) {
  const int line = next().line;
  const bool negated = skip_name("not");
  ExprPtr result = node(ExprKind::kTest, line);
  result->text = parse_dotted_name();
  adopt(*result, std::move(value));
  result->args = std::make_unique<CallArgs>();
  const Token& token = current();
  const bool starts_value = token.is(TokenType::kName) || token.is(TokenType::kString) ||
                            token.is(TokenType::kInteger) || token.is(TokenType::kFloat) ||
                            token.is_operator("[") || token.is_operator("{");
  if (token.is_operator("(")) {
    result->args = parse_call_args();
  } else if (starts_value && !is_one_of({"else", "or", "and"})) {
    if (token.is_name("is")) fail_syntax("You cannot chain multiple tests with is", token.line);
    result->args->positional.push_back(parse_postfix(parse_primary()));
  }
  return negated ? with_children(ExprKind::kNot, line, std::move(result)) : std::move(result);
}

ExprPtr Parser::parse_subscript(ExprPtr value) {
  const int line = current().line;
  if (skip_operator(".")) {
    const Token token = next();
    if (token.is(TokenType::kName)) {
      ExprPtr result = with_children(ExprKind::kAttribute, line, std::move(value));
      result->text = token.text;
      return result;
    }
    if (!token.is(TokenType::kInteger)) fail_syntax("expected name or number", token.line);
    ExprPtr index = node(ExprKind::kConst, line);
    index->value = Value(parse_int(token.text, 0).value_or(BigInt(0)));
    return with_children(ExprKind::kItem, line, std::move(value), std::move(index));
  }
  expect_operator("[");
  ExprPtr items = node(ExprKind::kTuple, line);
  while (!current().is_operator("]")) {
    if (!items->children.empty()) expect_operator(",");
    adopt(*items, parse_slice_or_index());
  }
  expect_operator("]");
  ExprPtr index =
      items->children.size() == 1 ? std::move(items->children.front()) : std::move(items);
  return with_children(ExprKind::kItem, line, std::move(value), std::move(index));
}

ExprPtr Parser::parse_slice_or_index() {
  const int line = current().line;
  ExprPtr start;
  if (!current().is_operator(":")) {
    start = parse_expression();
    if (!current().is_operator(":")) return start;
  }
  next();
  ExprPtr result = node(ExprKind::kSlice, line);
  adopt(*result, std::move(start));
  const auto at_end = [this] { return current().is_operator("]") || current().is_operator(","); };
  const bool no_stop = current().is_operator(":") || at_end();
  adopt(*result, no_stop ? nullptr : parse_expression());
  const bool has_step = skip_operator(":") && !at_end();
  adopt(*result, has_step ? parse_expression() : nullptr);
  return result;
}

ExprPtr Parser::parse_call(ExprPtr callee) {
  ExprPtr result = with_children(ExprKind::kCall, current().line, std::move(callee));
  result->args = parse_call_args();
  return result;
}

std::unique_ptr<CallArgs> Parser::parse_call_args() {
  const Nesting nesting(*this);
  auto args = std::make_unique<CallArgs>();
  const int line = current().line;
  const auto require = [&](bool holds) {
    if (!holds) fail_syntax("invalid syntax for function call expression", line);
  };
  expect_operator("(");
  for (bool first = true; !current().is_operator(")"); first = false) {
    if (!first) {
      expect_operator(",");
      if (current().is_operator(")")) break;
    }
    if (skip_operator("*")) {
      require(!args->list && !args->mapping);
      args->list = parse_expression();
    } else if (skip_operator("**")) {
      require(!args->mapping);
      args->mapping = parse_expression();
    } else if (current().is(TokenType::kName) && ahead().is_operator("=")) {
      require(!args->mapping);
      std::string name = next().text;
      next();
      args->keyword.emplace_back(std::move(name), parse_expression());
    } else {
      require(!args->list && !args->mapping && args->keyword.empty());
      args->positional.push_back(parse_expression());
    }
  }
  expect_operator(")");
  return args;
}

}  // namespace headway::text::jinja
