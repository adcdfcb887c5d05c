// The tree of a parsed template. Names are interned: a name is its index in Template::names.
// Not for: values at run time.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "headway/text/jinja/objects.h"
#include "headway/text/jinja/operators.h"
#include "headway/text/jinja/value.h"

namespace headway::text::jinja {

enum class ExprKind {
  kConst,
  kName,
  kNsRef,
  kList,
  kTuple,
  kDict,
  kAttribute,
  kItem,
  kSlice,
  kCall,
  kFilter,
  kTest,
  kConditional,
  kAnd,
  kOr,
  kNot,
  kNegate,
  kPositive,
  kBinary,
  kConcat,
  kCompare,
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct CallArgs {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> keyword;
  ExprPtr list;     // *args
  ExprPtr mapping;  // **kwargs
};

struct Expr {
  Expr(ExprKind kind, int line) : kind(kind), line(line) {}

  ExprKind kind;
  int line;
  int depth = 1;     // of the tree below
  int name = -1;     // kName, kNsRef
  std::string text;  // attribute, filter or test name
  Value value;       // kConst
  BinaryOp op = BinaryOp::kAdd;
  std::vector<ExprPtr> children;  // entries may be null: parts of slices, a missing else
  std::vector<CompareOp> compare;
  std::unique_ptr<CallArgs> args;
  Native native = nullptr;  // filter or test; null if unknown, where that is found out only at run
};

enum class StatementKind {
  kOutput,
  kFor,
  kIf,
  kMacro,
  kCall,
  kFilter,
  kSet,
  kSetBlock,
  kWith,
  kAutoescape,
  kBlock,
  kGeneration,
  kBreak,
  kContinue,
  kLoader,
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

struct OutputItem {
  std::string data;  // if `expr` is null
  ExprPtr expr;
};

struct Statement {
  Statement(StatementKind kind, int line) : kind(kind), line(line) {}

  StatementKind kind;
  int line;
  std::vector<OutputItem> output;  // kOutput
  ExprPtr target;                  // kFor, kSet, kSetBlock
  ExprPtr value;                   // iterable, condition, right side, call, filter
  ExprPtr test;                    // kFor
  Body body;
  Body otherwise;
  std::vector<std::unique_ptr<Statement>> branches;  // kIf: elif, as statements with value and body
  bool recursive = false;
  int name = -1;                  // kMacro, kBlock
  std::vector<int> parameters;    // kMacro, kCall
  std::vector<ExprPtr> defaults;  // of the last parameters
  std::vector<ExprPtr> targets;   // kWith, with as many `defaults` as values
  bool uses_caller = false;       // kMacro, kCall: names its body reads without being given them
  bool uses_kwargs = false;
  bool uses_varargs = false;
  std::vector<int> unset;            // names the scope starts without, though an outer one has them
  std::vector<int> unset_otherwise;  // likewise of a loop's else
};

struct Template {
  Body body;
  std::vector<std::string> names;
  std::vector<int> unset;
  bool has_generation = false;

  int intern(const std::string& name);
  /// The number of `name`, or -1 if the template never says it.
  int find_name(const std::string& name) const;

 private:
  std::unordered_map<std::string, int> index_;
};

}  // namespace headway::text::jinja
