// The symbol analysis of Jinja's compiler, for the one thing it decides that look-up at run time
// would not. Not for: look-up itself.
#include "headway/text/jinja/scopes.h"

#include <map>
#include <set>

namespace headway::text::jinja {
namespace {

enum class Load { kParameter, kResolve, kOuter, kUndefined };

struct Symbols {
  explicit Symbols(const Symbols* parent) : parent(parent) {}

  bool knows(int name) const {
    return loads.contains(name) || (parent != nullptr && parent->knows(name));
  }
  bool outer_knows(int name) const { return parent != nullptr && parent->knows(name); }
  void load(int name) {
    if (!knows(name)) loads[name] = Load::kResolve;
  }
  void store(int name) {
    stores.insert(name);
    if (!loads.contains(name)) loads[name] = outer_knows(name) ? Load::kOuter : Load::kUndefined;
  }
  void declare(int name) {
    stores.insert(name);
    loads[name] = Load::kParameter;
  }
  void join(const std::vector<Symbols>& branches) {
    std::set<int> conditional;
    for (const Symbols& branch : branches) {
      for (const int name : branch.stores) {
        if (!stores.contains(name)) conditional.insert(name);
      }
    }
    for (const Symbols& branch : branches) {
      for (const auto& [name, load] : branch.loads) loads[name] = load;
      stores.insert(branch.stores.begin(), branch.stores.end());
    }
    for (const int name : conditional) {
      loads[name] = outer_knows(name) ? Load::kOuter : Load::kResolve;
    }
  }
  std::vector<int> unset() const {
    std::vector<int> names;
    for (const auto& [name, load] : loads) {
      if (load == Load::kUndefined) names.push_back(name);
    }
    return names;
  }

  const Symbols* parent;
  std::map<int, Load> loads;
  std::set<int> stores;
};

// Names an expression reads.
void visit(const Expr* e, Symbols& symbols) {
  if (e == nullptr) return;
  if (e->kind == ExprKind::kName || e->kind == ExprKind::kNsRef) symbols.load(e->name);
  for (const ExprPtr& child : e->children) visit(child.get(), symbols);
  if (!e->args) return;
  for (const ExprPtr& value : e->args->positional) visit(value.get(), symbols);
  for (const auto& [name, value] : e->args->keyword) visit(value.get(), symbols);
  visit(e->args->list.get(), symbols);
  visit(e->args->mapping.get(), symbols);
}

// Names an assignment writes; of `ns.x`, the one it reads.
void visit_target(const Expr* e, Symbols& symbols, bool as_parameter) {
  if (e == nullptr) return;
  if (e->kind == ExprKind::kNsRef) {
    symbols.load(e->name);
  } else if (e->kind == ExprKind::kName) {
    as_parameter ? symbols.declare(e->name) : symbols.store(e->name);
  }
  for (const ExprPtr& child : e->children) visit_target(child.get(), symbols, as_parameter);
}

void visit(const Body& body, Symbols& symbols);

void visit_if(const Statement& s, Symbols& symbols) {
  visit(s.value.get(), symbols);
  std::vector<Symbols> branches(3, symbols);
  visit(s.body, branches[0]);
  for (const auto& branch : s.branches) visit_if(*branch, branches[1]);
  visit(s.otherwise, branches[2]);
  symbols.join(branches);
}

// What a statement does to the names of the scope it stands in, not to those of scopes it opens.
void visit(const Statement& s, Symbols& symbols) {
  switch (s.kind) {
    case StatementKind::kOutput:
      for (const OutputItem& item : s.output) visit(item.expr.get(), symbols);
      return;
    case StatementKind::kIf:
      return visit_if(s, symbols);
    case StatementKind::kMacro:
      return symbols.store(s.name);
    case StatementKind::kFor:
    case StatementKind::kCall:
    case StatementKind::kFilter:
      return visit(s.value.get(), symbols);
    case StatementKind::kSet:
      visit(s.value.get(), symbols);
      return visit_target(s.target.get(), symbols, false);
    case StatementKind::kSetBlock:
      return visit_target(s.target.get(), symbols, false);
    case StatementKind::kWith:
      for (const ExprPtr& value : s.defaults) visit(value.get(), symbols);
      return;
    default:
      return;
  }
}

void visit(const Body& body, Symbols& symbols) {
  for (const auto& statement : body) visit(*statement, symbols);
}

bool reads(const Expr* e, int name) {
  Symbols symbols(nullptr);
  visit(e, symbols);
  return symbols.loads.contains(name);
}

// Whether a macro's body reads `name` anywhere, scopes inside it included.
bool reads(const Body& body, int name) {
  for (const auto& s : body) {
    for (const OutputItem& item : s->output) {
      if (reads(item.expr.get(), name)) return true;
    }
    if (reads(s->value.get(), name) || reads(s->test.get(), name)) return true;
    for (const ExprPtr& value : s->defaults) {
      if (reads(value.get(), name)) return true;
    }
    for (const auto& branch : s->branches) {
      if (reads(branch->value.get(), name) || reads(branch->body, name)) return true;
    }
    if (s->kind == StatementKind::kBlock) continue;
    if (reads(s->body, name) || reads(s->otherwise, name)) return true;
  }
  return false;
}

void open_scopes(Body& body, const Symbols& around);

void open_scope(Statement& s, Symbols& inner) {
  visit(s.body, inner);
  s.unset = inner.unset();
  open_scopes(s.body, inner);
}

void open_macro(Statement& s, const Symbols& around) {
  Symbols inner(&around);
  s.uses_caller = reads(s.body, kCallerName);
  s.uses_kwargs = reads(s.body, kKwargsName);
  s.uses_varargs = reads(s.body, kVarargsName);
  if (s.uses_caller) inner.declare(kCallerName);
  if (s.uses_kwargs) inner.declare(kKwargsName);
  if (s.uses_varargs) inner.declare(kVarargsName);
  for (const int name : s.parameters) inner.declare(name);
  for (const ExprPtr& value : s.defaults) visit(value.get(), inner);
  open_scope(s, inner);
}

void open_scopes(Statement& s, const Symbols& around) {
  switch (s.kind) {
    case StatementKind::kIf:
      open_scopes(s.body, around);
      for (auto& branch : s.branches) open_scopes(branch->body, around);
      return open_scopes(s.otherwise, around);
    case StatementKind::kMacro:
    case StatementKind::kCall:
      return open_macro(s, around);
    case StatementKind::kFor: {
      Symbols inner(&around);
      inner.declare(kLoopName);
      visit_target(s.target.get(), inner, true);
      open_scope(s, inner);
      Symbols otherwise(&around);
      visit(s.otherwise, otherwise);
      s.unset_otherwise = otherwise.unset();
      return open_scopes(s.otherwise, otherwise);
    }
    case StatementKind::kBlock: {
      Symbols inner(nullptr);
      return open_scope(s, inner);
    }
    case StatementKind::kWith: {
      Symbols inner(&around);
      for (const ExprPtr& target : s.targets) visit_target(target.get(), inner, true);
      return open_scope(s, inner);
    }
    case StatementKind::kGeneration:
    case StatementKind::kFilter:
    case StatementKind::kSetBlock:
    case StatementKind::kAutoescape: {
      Symbols inner(&around);
      return open_scope(s, inner);
    }
    default:
      return;
  }
}

void open_scopes(Body& body, const Symbols& around) {
  for (auto& statement : body) open_scopes(*statement, around);
}

}  // namespace

void resolve_scopes(Template& parsed) {
  Symbols root(nullptr);
  visit(parsed.body, root);
  parsed.unset = root.unset();
  open_scopes(parsed.body, root);
}

}  // namespace headway::text::jinja
