// Expressions. Not for: what operators and natives do.
#include <fmt/format.h>

#include "headway/text/jinja/error.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/registry.h"
#include "headway/text/jinja/slice.h"

namespace headway::text::jinja {

Value Interpreter::lookup(int name, const FramePtr& frame) {
  for (Frame* at = frame.get(); at != nullptr; at = at->parent.get()) {
    const Frame::Slot* slot = at->find(name);
    if (slot == nullptr) continue;
    if (slot->is_set) return slot->value;
    return undefined_variable(template_.names[static_cast<std::size_t>(name)]);
  }
  const std::string& text = template_.names[static_cast<std::size_t>(name)];
  if (const Native global = find_global(text)) return std::make_shared<Callable>(text, global);
  return undefined_variable(text);
}

Value Interpreter::evaluate_name(const Expr& e, const FramePtr& frame) {
  return lookup(e.name, frame);
}

Value Interpreter::evaluate(const Expr& e, const FramePtr& frame) {
  const Depth depth(*this);
  switch (e.kind) {
    case ExprKind::kConst:
      return e.value;
    case ExprKind::kName:
    case ExprKind::kNsRef:
      return evaluate_name(e, frame);
    case ExprKind::kList:
    case ExprKind::kTuple:
      return evaluate_list(e, frame);
    case ExprKind::kDict:
      return evaluate_dict(e, frame);
    case ExprKind::kAttribute:
      return get_attribute(evaluate(*e.children[0], frame), e.text);
    case ExprKind::kItem:
      return evaluate_item(e, frame);
    case ExprKind::kSlice:
      return Value();  // only as the index of kItem
    case ExprKind::kCall:
      return evaluate_call(e, frame);
    case ExprKind::kFilter:
    case ExprKind::kTest:
      return evaluate_native(e, frame);
    case ExprKind::kConditional:
      return evaluate_conditional(e, frame);
    case ExprKind::kNot:
      return !truth(evaluate(*e.children[0], frame));
    case ExprKind::kNegate:
      return negate(evaluate(*e.children[0], frame));
    case ExprKind::kPositive:
      return positive(evaluate(*e.children[0], frame));
    case ExprKind::kConcat:
      return evaluate_concat(e, frame);
    case ExprKind::kCompare:
      return evaluate_compare(e, frame);
    default:
      return evaluate_binary(e, frame);
  }
}

Value Interpreter::evaluate_binary(const Expr& e, const FramePtr& frame) {
  Value left = evaluate(*e.children[0], frame);
  if (e.kind == ExprKind::kAnd && !truth(left)) return left;
  if (e.kind == ExprKind::kOr && truth(left)) return left;
  const Value right = evaluate(*e.children[1], frame);
  return e.kind == ExprKind::kBinary ? binary(e.op, left, right) : right;
}

Value Interpreter::evaluate_list(const Expr& e, const FramePtr& frame) {
  Values items;
  items.reserve(e.children.size());
  for (const ExprPtr& child : e.children) items.push_back(evaluate(*child, frame));
  return e.kind == ExprKind::kList ? make_list(std::move(items)) : make_tuple(std::move(items));
}

Value Interpreter::evaluate_dict(const Expr& e, const FramePtr& frame) {
  auto dict = std::make_shared<Dict>();
  for (std::size_t i = 0; i < e.children.size(); i += 2) {
    const Value key = evaluate(*e.children[i], frame);
    dict->set(key, evaluate(*e.children[i + 1], frame));
  }
  return dict;
}

Value Interpreter::evaluate_conditional(const Expr& e, const FramePtr& frame) {
  if (truth(evaluate(*e.children[0], frame))) return evaluate(*e.children[1], frame);
  if (e.children[2]) return evaluate(*e.children[2], frame);
  return make_undefined(fmt::format(
      "the inline if-expression on line {} evaluated to false and no else section was defined.",
      e.line));
}

Value Interpreter::evaluate_compare(const Expr& e, const FramePtr& frame) {
  Value left = evaluate(*e.children[0], frame);
  for (std::size_t i = 0; i < e.compare.size(); ++i) {
    Value right = evaluate(*e.children[i + 1], frame);
    if (!compare(e.compare[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate_concat(const Expr& e, const FramePtr& frame) {
  Values parts;
  bool any_safe = false;
  for (const ExprPtr& child : e.children) {
    parts.push_back(evaluate(*child, frame));
    any_safe = any_safe || parts.back().is_safe();
  }
  const bool escape = autoescape_ && any_safe;
  std::string text;
  for (const Value& part : parts) {
    text += escape ? escaped(part) : to_text(part);
    budget_.check_size(std::ssize(text));
  }
  return Value(std::move(text), escape);
}

Value Interpreter::evaluate_item(const Expr& e, const FramePtr& frame) {
  const Value object = evaluate(*e.children[0], frame);
  const Expr& index = *e.children[1];
  if (index.kind == ExprKind::kSlice) return evaluate_slice(object, index, frame);
  return get_item(object, evaluate(index, frame));
}

Value Interpreter::evaluate_slice(const Value& object, const Expr& e, const FramePtr& frame) {
  const auto part = [&](std::size_t i) {
    return e.children[i] ? evaluate(*e.children[i], frame) : Value();
  };
  const SliceParts parts{part(0), part(1), part(2)};
  return slice(object, parts);
}

void Interpreter::evaluate_args(const CallArgs& args, const FramePtr& frame, Args& out) {
  for (const ExprPtr& value : args.positional) out.positional.push_back(evaluate(*value, frame));
  const auto add_keyword = [&](const std::string& name, Value value) {
    for (const auto& [known, ignored] : out.keyword) {
      if (known == name) fail_type("got multiple values for keyword argument '" + name + "'");
    }
    out.keyword.emplace_back(name, std::move(value));
  };
  for (const auto& [name, value] : args.keyword) add_keyword(name, evaluate(*value, frame));
  if (args.list) {
    for (Value& value : to_values(evaluate(*args.list, frame))) {
      out.positional.push_back(std::move(value));
    }
  }
  if (!args.mapping) return;
  const Value mapping = evaluate(*args.mapping, frame);
  if (!mapping.is(Type::kDict)) {
    fail_type("argument after ** must be a mapping, not " + type_name(mapping));
  }
  for (const auto& [key, value] : mapping.object<Dict>().items) {
    if (!key.is_str()) fail_type("keywords must be strings");
    add_keyword(key.text(), value);
  }
}

Value Interpreter::evaluate_call(const Expr& e, const FramePtr& frame) {
  const Value callee = evaluate(*e.children[0], frame);
  Args args;
  evaluate_args(*e.args, frame, args);
  return call(callee, std::move(args));
}

// A filter or test. `input` stands in for the missing first value of a filter on a block.
Value Interpreter::evaluate_native(const Expr& e, const FramePtr& frame, const Value* input) {
  if (e.native == nullptr) {
    fail(ErrorKind::kRuntime, fmt::format("No {} named '{}' found.",
                                          e.kind == ExprKind::kFilter ? "filter" : "test", e.text));
  }
  Args args;
  const Expr* source = e.children[0].get();
  if (source == nullptr) {
    args.positional.push_back(*input);
  } else if (input != nullptr && source->kind == ExprKind::kFilter) {
    args.positional.push_back(evaluate_native(*source, frame, input));
  } else {
    args.positional.push_back(evaluate(*source, frame));
  }
  evaluate_args(*e.args, frame, args);
  return e.native(*this, args);
}

}  // namespace headway::text::jinja
