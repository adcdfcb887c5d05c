// Rules over the whole tree: unknown filters and tests, jumps out of loops, special names. Not for:
// which names a scope hides (scopes.cpp).
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "headway/text/jinja/parser.h"
#include "headway/text/jinja/registry.h"
#include "headway/text/jinja/scopes.h"

namespace headway::text::jinja {
namespace {

struct Place {
  bool in_loop = false;
  bool soft = false;  // under an if: an unknown filter is an error only when it is reached
};

class Checker {
 public:
  explicit Checker(Template& parsed) : template_(parsed) {}

  void body(Body& statements, Place place) {
    for (auto& statement : statements) check(*statement, place);
  }

 private:
  const std::string& name_of(int name) const {
    return template_.names[static_cast<std::size_t>(name)];
  }

  void check(Statement& s, Place place) {
    switch (s.kind) {
      case StatementKind::kOutput:
        for (OutputItem& item : s.output) expression(item.expr.get(), place);
        return;
      case StatementKind::kFor:
        return check_for(s, place);
      case StatementKind::kIf:
        return check_if(s, place);
      case StatementKind::kMacro:
      case StatementKind::kCall:
        return check_macro(s, place);
      case StatementKind::kGeneration:
        return body(s.body, {});
      case StatementKind::kBlock:
        if (!blocks_.insert(s.name).second) {
          fail_syntax(fmt::format("block '{}' defined twice", name_of(s.name)), s.line);
        }
        return body(s.body, {});
      case StatementKind::kBreak:
      case StatementKind::kContinue:
        if (place.in_loop) return;
        fail_syntax(fmt::format("'{}' outside loop",
                                s.kind == StatementKind::kBreak ? "break" : "continue"),
                    s.line);
      case StatementKind::kLoader:
        return;
      default:
        return check_simple(s, place);
    }
  }

  void check_simple(Statement& s, Place place) {
    expression(s.value.get(), {place.in_loop, s.kind != StatementKind::kFilter && place.soft});
    for (ExprPtr& value : s.defaults) expression(value.get(), place);
    body(s.body, {place.in_loop, false});
  }

  void check_for(Statement& s, Place place) {
    expression(s.value.get(), place);
    expression(s.test.get(), {});
    const bool assigns =
        assigns_loop(s.target.get()) || assigns_loop(s.body) || assigns_loop(s.otherwise);
    if (assigns) fail_syntax("Can't assign to special loop variable in for-loop target", s.line);
    body(s.body, {true, false});
    body(s.otherwise, {place.in_loop && !s.recursive, false});
  }

  void check_if(Statement& s, Place place) {
    place.soft = true;
    expression(s.value.get(), place);
    body(s.body, place);
    for (auto& branch : s.branches) {
      expression(branch->value.get(), place);
      body(branch->body, place);
    }
    body(s.otherwise, place);
  }

  void check_macro(Statement& s, Place place) {
    if (s.value) expression(s.value.get(), place);
    for (ExprPtr& value : s.defaults) expression(value.get(), {});
    const auto caller = std::find(s.parameters.begin(), s.parameters.end(), kCallerName);
    const auto at = static_cast<std::size_t>(caller - s.parameters.begin());
    if (caller != s.parameters.end() && at + s.defaults.size() < s.parameters.size()) {
      fail_syntax(
          "When defining macros or call blocks the special \"caller\" argument must be "
          "omitted or be given a default.",
          s.line);
    }
    body(s.body, {});
  }

  static bool assigns_loop(const Expr* target) {
    if (target == nullptr) return false;
    if (target->kind == ExprKind::kName) return target->name == kLoopName;
    return target->kind == ExprKind::kTuple &&
           std::any_of(target->children.begin(), target->children.end(),
                       [](const ExprPtr& child) { return assigns_loop(child.get()); });
  }

  static bool assigns_loop(const Body& statements) {
    return std::any_of(statements.begin(), statements.end(), [](const auto& s) {
      const bool branch = std::any_of(s->branches.begin(), s->branches.end(),
                                      [](const auto& b) { return assigns_loop(b->body); });
      return branch || assigns_loop(s->target.get()) || assigns_loop(s->body) ||
             assigns_loop(s->otherwise);
    });
  }

  void arguments(CallArgs* args, Place place) {
    if (args == nullptr) return;
    for (ExprPtr& value : args->positional) expression(value.get(), place);
    for (auto& [name, value] : args->keyword) expression(value.get(), place);
    expression(args->list.get(), place);
    expression(args->mapping.get(), place);
  }

  void expression(Expr* e, Place place) {
    if (e == nullptr) return;
    if (e->kind == ExprKind::kConditional) place.soft = true;
    if (e->kind == ExprKind::kFilter || e->kind == ExprKind::kTest) {
      const bool filter = e->kind == ExprKind::kFilter;
      e->native = filter ? find_filter(e->text) : find_test(e->text);
      if (e->native == nullptr && !place.soft) {
        fail_syntax(fmt::format("No {} named '{}'.", filter ? "filter" : "test", e->text), e->line);
      }
    }
    for (ExprPtr& child : e->children) expression(child.get(), place);
    arguments(e->args.get(), place);
  }

  Template& template_;
  std::set<int> blocks_;
};

}  // namespace

void check_template(Template& parsed) {
  Checker(parsed).body(parsed.body, {});
  resolve_scopes(parsed);
}

}  // namespace headway::text::jinja
