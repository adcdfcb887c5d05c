// Statements but loops. Not for: expressions (evaluate.cpp).
#include <fmt/format.h>

#include "headway/text/jinja/attributes.h"
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/print.h"
#include "headway/text/jinja/unicode.h"

namespace headway::text::jinja {

Frame::Slot* Frame::find(int name) {
  for (Slot& slot : slots) {
    if (slot.name == name) return &slot;
  }
  return nullptr;
}

void Frame::set(int name, Value value) {
  if (Slot* slot = find(name)) {
    slot->is_set = true;
    slot->value = std::move(value);
  } else {
    slots.push_back({name, true, std::move(value)});
  }
}

void Frame::hide(const std::vector<int>& names) {
  for (const int name : names) {
    if (find(name) == nullptr) slots.push_back({name, false, Value()});
  }
}

Interpreter::Depth::Depth(Interpreter& interpreter) : interpreter_(interpreter) {
  if (++interpreter.depth_ > interpreter.budget_.limits().depth) {
    --interpreter.depth_;
    fail(ErrorKind::kRecursion, "maximum recursion depth exceeded");
  }
  interpreter.budget_.step();
}

Interpreter::Interpreter(const Template& parsed, Budget& budget,
                         std::function<std::string(const std::string&)> format_time)
    : template_(parsed),
      budget_(budget),
      format_time_(std::move(format_time)),
      context_(std::make_shared<Frame>(nullptr)),
      root_(std::make_shared<Frame>(context_)) {}

Interpreter::~Interpreter() {
  // Namespaces and scopes may point to one another in circles.
  for (auto& made : namespaces_) made->attributes.items.clear();
  for (auto& frame : captured_) frame->slots.clear();
  root_->slots.clear();
}

Value Interpreter::adopt(std::shared_ptr<Namespace> made) {
  charge(256);
  namespaces_.push_back(made);
  return made;
}

std::string Interpreter::render(const Variables& variables) {
  for (const auto& [name, value] : variables) {
    const int number = template_.find_name(name);
    if (number >= 0) context_->set(number, value);
  }
  root_->hide(template_.unset);
  execute(template_.body, root_);
  return std::move(output_);
}

void Interpreter::write(std::string_view text) {
  budget_.step(std::ssize(text) / 256);
  *out_ += text;
  if (out_ == &output_) output_chars_ += char_count(text);
  budget_.check_size(std::ssize(*out_));
}

void Interpreter::write_value(const Value& value) {
  if (autoescape_ && !value.is_safe()) {
    write(escaped(value));
  } else if (value.is_str()) {
    write(value.text());
  } else {
    write(to_text(value));
  }
}

Interpreter::Flow Interpreter::execute(const Body& body, const FramePtr& frame) {
  for (const auto& statement : body) {
    const Flow flow = execute(*statement, frame);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const Statement& s, const FramePtr& frame) {
  const Depth depth(*this);
  switch (s.kind) {
    case StatementKind::kOutput:
      execute_output(s, frame);
      break;
    case StatementKind::kFor:
      return execute_for(s, frame);
    case StatementKind::kIf:
      return execute_if(s, frame);
    case StatementKind::kMacro:
      execute_macro(s, frame);
      break;
    case StatementKind::kCall:
      execute_call(s, frame);
      break;
    case StatementKind::kFilter:
      return execute_filter(s, frame);
    case StatementKind::kSet:
      execute_set(s, frame);
      break;
    case StatementKind::kSetBlock:
      return execute_set_block(s, frame);
    case StatementKind::kWith:
      return execute_with(s, frame);
    case StatementKind::kAutoescape:
      return execute_autoescape(s, frame);
    case StatementKind::kBlock:
      execute_block(s);
      break;
    case StatementKind::kGeneration:
      execute_generation(s, frame);
      break;
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
    case StatementKind::kLoader:
      fail_type("no loader for this environment specified");
  }
  return Flow::kNormal;
}

void Interpreter::execute_output(const Statement& s, const FramePtr& frame) {
  for (const OutputItem& item : s.output) {
    if (item.expr) {
      write_value(evaluate(*item.expr, frame));
    } else {
      write(item.data);
    }
  }
}

Interpreter::Flow Interpreter::execute_if(const Statement& s, const FramePtr& frame) {
  if (truth(evaluate(*s.value, frame))) return execute(s.body, frame);
  for (const auto& branch : s.branches) {
    if (truth(evaluate(*branch->value, frame))) return execute(branch->body, frame);
  }
  return execute(s.otherwise, frame);
}

void Interpreter::check_namespaces(const Expr& target, const FramePtr& frame) {
  if (target.kind == ExprKind::kNsRef && !lookup(target.name, frame).is(Type::kNamespace)) {
    fail(ErrorKind::kRuntime, "cannot assign attribute on non-namespace object");
  }
  for (const ExprPtr& child : target.children) check_namespaces(*child, frame);
}

void Interpreter::assign(const Expr& target, const Value& value, Frame& frame) {
  if (target.kind == ExprKind::kName) return frame.set(target.name, value);
  if (target.kind == ExprKind::kNsRef) {
    Value found;
    for (Frame* at = &frame; at != nullptr; at = at->parent.get()) {
      const Frame::Slot* slot = at->find(target.name);
      if (slot == nullptr) continue;
      found = slot->value;
      break;
    }
    if (!found.is(Type::kNamespace)) {
      fail(ErrorKind::kRuntime, "cannot assign attribute on non-namespace object");
    }
    if (target.text.starts_with('_')) fail_underscore(target.text);
    found.object<Namespace>().attributes.set(Value(target.text), value);
    return;
  }
  const std::size_t wanted = target.children.size();
  if (!is_iterable(value)) {
    fail_type(fmt::format("cannot unpack non-iterable {} object", type_name(value)));
  }
  const auto items = iterate(value);
  Values parts;
  for (Value item; items->next(item);) {
    if (parts.size() == wanted) {
      fail(ErrorKind::kValue, fmt::format("too many values to unpack (expected {})", wanted));
    }
    parts.push_back(std::move(item));
  }
  if (parts.size() != wanted) {
    fail(ErrorKind::kValue,
         fmt::format("not enough values to unpack (expected {}, got {})", wanted, parts.size()));
  }
  for (std::size_t i = 0; i < wanted; ++i) assign(*target.children[i], parts[i], frame);
}

void Interpreter::execute_set(const Statement& s, const FramePtr& frame) {
  check_namespaces(*s.target, frame);
  assign(*s.target, evaluate(*s.value, frame), *frame);
}

Interpreter::Flow Interpreter::execute_set_block(const Statement& s, const FramePtr& frame) {
  check_namespaces(*s.target, frame);
  const auto inner = std::make_shared<Frame>(frame);
  inner->hide(s.unset);
  Value value;
  {
    Buffer buffer(*this);
    const Flow flow = execute(s.body, inner);
    if (flow != Flow::kNormal) return flow;
    value = Value(std::move(buffer.text), autoescape_);
  }
  if (s.value) {
    value = evaluate_native(*s.value, inner, &value);
    if (autoescape_) value = Value(to_text(value), true);
  }
  assign(*s.target, value, *frame);
  return Flow::kNormal;
}

void Interpreter::execute_macro(const Statement& s, const FramePtr& frame) {
  charge(256);
  captured_.push_back(frame);
  auto macro = std::make_shared<Macro>(s, frame, autoescape_);
  macro->name = template_.names[static_cast<std::size_t>(s.name)];
  frame->set(s.name, std::move(macro));
}

void Interpreter::execute_call(const Statement& s, const FramePtr& frame) {
  charge(256);
  captured_.push_back(frame);
  const Value caller = std::make_shared<Macro>(s, frame, autoescape_);
  const Value callee = evaluate(*s.value->children.front(), frame);
  Args args;
  evaluate_args(*s.value->args, frame, args);
  args.keyword.emplace_back("caller", caller);
  write_value(call(callee, std::move(args)));
}

void Interpreter::execute_generation(const Statement& s, const FramePtr& frame) {
  const auto inner = std::make_shared<Frame>(frame);
  inner->hide(s.unset);
  Value value;
  {
    Buffer buffer(*this);
    execute(s.body, inner);
    value = Value(std::move(buffer.text), autoescape_);
  }
  // Inside a macro or set block the reference counts from the text that has left the template too.
  spans_.push_back({output_chars_, output_chars_ + char_count(value.text())});
  write_value(value);
}

Interpreter::Flow Interpreter::execute_filter(const Statement& s, const FramePtr& frame) {
  const auto inner = std::make_shared<Frame>(frame);
  inner->hide(s.unset);
  Value value;
  {
    Buffer buffer(*this);
    const Flow flow = execute(s.body, inner);
    if (flow != Flow::kNormal) return flow;
    value = Value(std::move(buffer.text), autoescape_);
  }
  write_value(evaluate_native(*s.value, inner, &value));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute_with(const Statement& s, const FramePtr& frame) {
  const auto inner = std::make_shared<Frame>(frame);
  inner->hide(s.unset);
  for (std::size_t i = 0; i < s.targets.size(); ++i) {
    assign(*s.targets[i], evaluate(*s.defaults[i], frame), *inner);
  }
  return execute(s.body, inner);
}

Interpreter::Flow Interpreter::execute_autoescape(const Statement& s, const FramePtr& frame) {
  const bool before = autoescape_;
  const auto inner = std::make_shared<Frame>(frame);
  inner->hide(s.unset);
  autoescape_ = truth(evaluate(*s.value, inner));
  const Flow flow = execute(s.body, inner);
  autoescape_ = before;
  return flow;
}

void Interpreter::execute_block(const Statement& s) {
  const auto inner = std::make_shared<Frame>(root_);
  inner->hide(s.unset);
  execute(s.body, inner);
}

}  // namespace headway::text::jinja
