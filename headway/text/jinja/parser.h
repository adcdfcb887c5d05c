// Tokens to a checked tree. Not for: running it (interpreter.h).
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "headway/text/jinja/ast.h"
#include "headway/text/jinja/lexer.h"

namespace headway::text::jinja {

/// Parses `source` and finds everything that can be found before rendering: grammar, unknown tags,
/// filters and tests, break outside a loop.
/// Errors: TemplateError of kind syntax, with the line. Test: tests/unit/text/jinja_parser_test.cpp
std::unique_ptr<Template> parse_template(std::string_view source);

class Parser {
 public:
  Parser(std::vector<Token> tokens, Template& result)
      : tokens_(std::move(tokens)), template_(result) {}
  Body parse_all();

 private:
  struct TupleRule {
    bool simplified = false;    // elements are targets
    bool conditional = true;    // elements may be `a if b`
    bool parentheses = false;   // an empty tuple is fine
    bool namespaces = false;    // ns.x is a target
    std::string_view end_name;  // a name that ends the tuple
  };
  class Nesting;
  using Ends = std::initializer_list<std::string_view>;

  // Tokens.
  const Token& current() const { return tokens_[position_]; }
  const Token& ahead() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  const Token& next() { return tokens_[position_ + 1 < tokens_.size() ? position_++ : position_]; }
  bool skip_operator(std::string_view symbol);
  bool skip_name(std::string_view name);
  Token expect(TokenType type);
  void expect_operator(std::string_view symbol);
  void expect_name(std::string_view name);
  bool is_one_of(Ends ends) const;

  // Statements (parse_statement.cpp).
  Body parse_body(Ends ends);
  Body parse_block(Ends ends);
  void parse_statement(Body& body);
  std::unique_ptr<Statement> parse_for();
  std::unique_ptr<Statement> parse_if();
  std::unique_ptr<Statement> parse_set();
  std::unique_ptr<Statement> parse_macro();
  std::unique_ptr<Statement> parse_call_block();
  std::unique_ptr<Statement> parse_generation();
  std::unique_ptr<Statement> parse_filter_block();
  std::unique_ptr<Statement> parse_with();
  std::unique_ptr<Statement> parse_autoescape();
  std::unique_ptr<Statement> parse_named_block();
  std::unique_ptr<Statement> parse_print();
  std::unique_ptr<Statement> parse_loader();
  std::unique_ptr<Statement> parse_jump();
  void parse_signature(Statement& statement);

  // Expressions (parse_expression.cpp).
  ExprPtr parse_expression(bool conditional = true);
  ExprPtr parse_conditional();
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filter = true);
  ExprPtr parse_primary(bool namespaces = false);
  ExprPtr parse_name(const Token& token, bool namespaces);
  ExprPtr parse_list();
  ExprPtr parse_dict();
  ExprPtr parse_tuple(const TupleRule& rule);
  ExprPtr parse_postfix(ExprPtr node);
  ExprPtr parse_filters_and_tests(ExprPtr node);
  ExprPtr parse_filter(ExprPtr node, bool start_inline);
  ExprPtr parse_test(ExprPtr node);
  ExprPtr parse_subscript(ExprPtr node);
  ExprPtr parse_slice_or_index();
  ExprPtr parse_call(ExprPtr node);
  std::unique_ptr<CallArgs> parse_call_args();
  ExprPtr parse_target(bool namespaces, std::string_view end_name = {});
  int parse_target_name();
  std::string parse_dotted_name();

  ExprPtr node(ExprKind kind, int line) const { return std::make_unique<Expr>(kind, line); }
  ExprPtr with_children(ExprKind kind, int line, ExprPtr a, ExprPtr b = nullptr);
  void adopt(Expr& parent, ExprPtr child);

  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  Template& template_;
  int nesting_ = 0;
};

/// Counts recursion of the parser. Errors: TemplateError of kind syntax beyond its limit.
class Parser::Nesting {
 public:
  explicit Nesting(Parser& parser);
  ~Nesting() { --parser_.nesting_; }

 private:
  Parser& parser_;
};

/// Rules that need the whole tree: unknown filters, jumps, names of scopes. Called by
/// parse_template.
void check_template(Template& parsed);

}  // namespace headway::text::jinja
