// Statements. Not for: expressions (parse_expression.cpp) or rules over the tree (check.cpp).
#include <algorithm>

#include <fmt/format.h>

#include "headway/text/jinja/parser.h"

namespace headway::text::jinja {
namespace {

std::unique_ptr<Statement> statement(StatementKind kind, int line) {
  return std::make_unique<Statement>(kind, line);
}

}  // namespace

Body Parser::parse_all() { return parse_body({}); }

// Statements and data up to one of the tags `ends`, whose name is then current, or up to the end.
Body Parser::parse_body(Ends ends) {
  const Nesting nesting(*this);
  Body body;
  std::unique_ptr<Statement> output;
  const auto flush = [&] {
    if (output) body.push_back(std::move(output));
  };
  const auto out = [&]() -> std::vector<OutputItem>& {
    if (!output) output = statement(StatementKind::kOutput, current().line);
    return output->output;
  };
  while (!current().is(TokenType::kEof)) {
    if (current().is(TokenType::kData)) {
      out().push_back({next().text, nullptr});
    } else if (current().is(TokenType::kVariableBegin)) {
      next();
      auto& items = out();
      items.push_back({"", parse_tuple({})});
      expect(TokenType::kVariableEnd);
    } else {
      flush();
      expect(TokenType::kBlockBegin);
      if (is_one_of(ends)) return body;
      parse_statement(body);
      expect(TokenType::kBlockEnd);
    }
  }
  flush();
  return body;
}

// The rest of a tag and the body after it; afterwards the name of the end tag is current.
Body Parser::parse_block(Ends ends) {
  skip_operator(":");
  expect(TokenType::kBlockEnd);
  Body body = parse_body(ends);
  if (current().is(TokenType::kEof)) {
    std::string names;
    for (const std::string_view end : ends)
      names += fmt::format("{}'{}'", names.empty() ? "" : " or ", end);
    fail_syntax("Unexpected end of template. Jinja was looking for the following tags: " + names,
                current().line);
  }
  return body;
}

void Parser::parse_statement(Body& body) {
  using Method = std::unique_ptr<Statement> (Parser::*)();
  constexpr std::pair<std::string_view, Method> kTags[] = {
      {"for", &Parser::parse_for},
      {"if", &Parser::parse_if},
      {"set", &Parser::parse_set},
      {"macro", &Parser::parse_macro},
      {"call", &Parser::parse_call_block},
      {"filter", &Parser::parse_filter_block},
      {"with", &Parser::parse_with},
      {"autoescape", &Parser::parse_autoescape},
      {"block", &Parser::parse_named_block},
      {"print", &Parser::parse_print},
      {"include", &Parser::parse_loader},
      {"import", &Parser::parse_loader},
      {"from", &Parser::parse_loader},
      {"extends", &Parser::parse_loader},
      {"generation", &Parser::parse_generation},
      {"break", &Parser::parse_jump},
      {"continue", &Parser::parse_jump}};
  const Token& token = current();
  if (!token.is(TokenType::kName)) fail_syntax("tag name expected", token.line);
  for (const auto& [name, method] : kTags) {
    if (token.text != name) continue;
    body.push_back((this->*method)());
    return;
  }
  fail_syntax(fmt::format("Encountered unknown tag '{}'.", token.text), token.line);
}

std::unique_ptr<Statement> Parser::parse_for() {
  auto loop = statement(StatementKind::kFor, next().line);
  loop->target = parse_target(false, "in");
  expect_name("in");
  loop->value = parse_tuple({.conditional = false, .end_name = "recursive"});
  if (skip_name("if")) loop->test = parse_expression();
  loop->recursive = skip_name("recursive");
  loop->body = parse_block({"endfor", "else"});
  if (next().text == "else") {
    loop->otherwise = parse_block({"endfor"});
    next();
  }
  return loop;
}

std::unique_ptr<Statement> Parser::parse_if() {
  auto result = statement(StatementKind::kIf, next().line);
  Statement* branch = result.get();
  for (;;) {
    branch->value = parse_tuple({.conditional = false});
    branch->body = parse_block({"elif", "else", "endif"});
    const Token token = next();
    if (token.text == "elif") {
      result->branches.push_back(statement(StatementKind::kIf, token.line));
      branch = result->branches.back().get();
      continue;
    }
    if (token.text == "else") {
      result->otherwise = parse_block({"endif"});
      next();
    }
    return result;
  }
}

std::unique_ptr<Statement> Parser::parse_set() {
  auto result = statement(StatementKind::kSet, next().line);
  result->target = parse_target(true);
  if (skip_operator("=")) {
    result->value = parse_tuple({});
    return result;
  }
  result->kind = StatementKind::kSetBlock;
  result->value = parse_filter(nullptr, false);
  result->body = parse_block({"endset"});
  next();
  return result;
}

void Parser::parse_signature(Statement& macro) {
  expect_operator("(");
  while (!current().is_operator(")")) {
    if (!macro.parameters.empty()) expect_operator(",");
    const int name = parse_target_name();
    if (std::find(macro.parameters.begin(), macro.parameters.end(), name) !=
        macro.parameters.end()) {
      fail_syntax(fmt::format("duplicate argument '{}' in function definition",
                              template_.names[static_cast<std::size_t>(name)]),
                  macro.line);
    }
    macro.parameters.push_back(name);
    if (skip_operator("=")) {
      macro.defaults.push_back(parse_expression());
    } else if (!macro.defaults.empty()) {
      fail_syntax("non-default argument follows default argument", current().line);
    }
  }
  expect_operator(")");
}

std::unique_ptr<Statement> Parser::parse_macro() {
  auto macro = statement(StatementKind::kMacro, next().line);
  macro->name = parse_target_name();
  parse_signature(*macro);
  macro->body = parse_block({"endmacro"});
  next();
  return macro;
}

std::unique_ptr<Statement> Parser::parse_call_block() {
  auto call = statement(StatementKind::kCall, next().line);
  if (current().is_operator("(")) parse_signature(*call);
  call->value = parse_expression();
  if (call->value->kind != ExprKind::kCall) fail_syntax("expected call", call->line);
  call->body = parse_block({"endcall"});
  next();
  return call;
}

std::unique_ptr<Statement> Parser::parse_generation() {
  auto result = statement(StatementKind::kGeneration, next().line);
  template_.has_generation = true;
  result->body = parse_block({"endgeneration"});
  next();
  return result;
}

std::unique_ptr<Statement> Parser::parse_filter_block() {
  auto result = statement(StatementKind::kFilter, next().line);
  result->value = parse_filter(nullptr, true);
  result->body = parse_block({"endfilter"});
  next();
  return result;
}

std::unique_ptr<Statement> Parser::parse_with() {
  auto with = statement(StatementKind::kWith, next().line);
  while (!current().is(TokenType::kBlockEnd)) {
    if (!with->targets.empty()) expect_operator(",");
    with->targets.push_back(parse_target(false));
    expect_operator("=");
    with->defaults.push_back(parse_expression());
  }
  with->body = parse_block({"endwith"});
  next();
  return with;
}

std::unique_ptr<Statement> Parser::parse_autoescape() {
  auto result = statement(StatementKind::kAutoescape, next().line);
  result->value = parse_expression();
  result->body = parse_block({"endautoescape"});
  next();
  return result;
}

std::unique_ptr<Statement> Parser::parse_named_block() {
  auto block = statement(StatementKind::kBlock, next().line);
  const std::string name = expect(TokenType::kName).text;
  block->name = template_.intern(name);
  block->recursive = skip_name("scoped");
  skip_name("required");
  block->body = parse_block({"endblock"});
  next();
  skip_name(name);
  return block;
}

std::unique_ptr<Statement> Parser::parse_print() {
  auto output = statement(StatementKind::kOutput, next().line);
  while (!current().is(TokenType::kBlockEnd)) {
    if (!output->output.empty()) expect_operator(",");
    output->output.push_back({"", parse_expression()});
  }
  return output;
}

// There is nothing to load from; the reference finds out when it gets there.
std::unique_ptr<Statement> Parser::parse_loader() {
  auto result = statement(StatementKind::kLoader, next().line);
  parse_expression();
  while (!current().is(TokenType::kBlockEnd) && !current().is(TokenType::kEof)) next();
  return result;
}

std::unique_ptr<Statement> Parser::parse_jump() {
  const Token token = next();
  return statement(token.text == "break" ? StatementKind::kBreak : StatementKind::kContinue,
                   token.line);
}

}  // namespace headway::text::jinja
