// Runs a parsed template. Not for: what chat templates find in it (chat_template.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headway/text/jinja/ast.h"
#include "headway/text/jinja/budget.h"
#include "headway/text/jinja/objects.h"

namespace headway::text::jinja {

/// Variables of one scope. A name without a value hides the outer one and is undefined.
struct Frame {
  explicit Frame(std::shared_ptr<Frame> parent) : parent(std::move(parent)) {}
  struct Slot {
    int name;
    bool is_set;
    Value value;
  };
  Slot* find(int name);
  void set(int name, Value value);
  void hide(const std::vector<int>& names);

  std::shared_ptr<Frame> parent;
  std::vector<Slot> slots;
};

/// Characters [begin, end) of the rendered text that a generation block made.
struct Span {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool operator==(const Span&) const = default;
};

using Variables = std::vector<std::pair<std::string, Value>>;

class Interpreter {
 public:
  /// `format_time` is strftime_now. The template and the variables outlive the interpreter.
  Interpreter(const Template& parsed, Budget& budget,
              std::function<std::string(const std::string&)> format_time);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  /// The rendered text. Once. Errors: TemplateError.
  std::string render(const Variables& variables);
  const std::vector<Span>& spans() const { return spans_; }

  // What natives use.
  Value get_attribute(const Value& object, const std::string& name);
  Value get_item(const Value& object, const Value& key);
  Value call(const Value& callee, Args args);
  std::string format_time(const std::string& format) const { return format_time_(format); }
  bool autoescape() const { return autoescape_; }
  Budget& budget() { return budget_; }
  /// Keeps namespaces until the end, when all cycles through them are broken.
  Value adopt(std::shared_ptr<Namespace> made);

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  class Depth;
  class Buffer;
  using FramePtr = std::shared_ptr<Frame>;

  // Statements (execute.cpp).
  Flow execute(const Body& body, const FramePtr& frame);
  Flow execute(const Statement& statement, const FramePtr& frame);
  void execute_output(const Statement& statement, const FramePtr& frame);
  Flow execute_if(const Statement& statement, const FramePtr& frame);
  void execute_set(const Statement& statement, const FramePtr& frame);
  Flow execute_set_block(const Statement& statement, const FramePtr& frame);
  void execute_macro(const Statement& statement, const FramePtr& frame);
  void execute_call(const Statement& statement, const FramePtr& frame);
  void execute_generation(const Statement& statement, const FramePtr& frame);
  Flow execute_filter(const Statement& statement, const FramePtr& frame);
  Flow execute_with(const Statement& statement, const FramePtr& frame);
  Flow execute_autoescape(const Statement& statement, const FramePtr& frame);
  void execute_block(const Statement& statement);
  void assign(const Expr& target, const Value& value, Frame& frame);
  void check_namespaces(const Expr& target, const FramePtr& frame);
  void write(std::string_view text);
  void write_value(const Value& value);

  // Loops and calls (execute_loop.cpp, call.cpp).
  Flow execute_for(const Statement& statement, const FramePtr& frame);
  Flow run_loop(const Statement& statement, const Value& iterable, const FramePtr& frame,
                int depth0);
  std::shared_ptr<Iterator> filtered(const Statement& statement, std::shared_ptr<Iterator> items,
                                     const FramePtr& frame);
  Value call_loop(const Loop& loop, const Args& args);
  Value call_macro(const Macro& macro, Args& args);
  void bind_parameters(const Macro& macro, Args& args, const FramePtr& frame);

  // Expressions (evaluate.cpp).
  Value evaluate(const Expr& e, const FramePtr& frame);
  Value evaluate_name(const Expr& e, const FramePtr& frame);
  Value evaluate_binary(const Expr& e, const FramePtr& frame);
  Value evaluate_list(const Expr& e, const FramePtr& frame);
  Value evaluate_dict(const Expr& e, const FramePtr& frame);
  Value evaluate_compare(const Expr& e, const FramePtr& frame);
  Value evaluate_conditional(const Expr& e, const FramePtr& frame);
  Value evaluate_concat(const Expr& e, const FramePtr& frame);
  Value evaluate_item(const Expr& e, const FramePtr& frame);
  Value evaluate_slice(const Value& object, const Expr& slice, const FramePtr& frame);
  Value evaluate_call(const Expr& e, const FramePtr& frame);
  Value evaluate_native(const Expr& e, const FramePtr& frame, const Value* input = nullptr);
  void evaluate_args(const CallArgs& args, const FramePtr& frame, Args& out);
  Value lookup(int name, const FramePtr& frame);

  const Template& template_;
  Budget& budget_;
  std::function<std::string(const std::string&)> format_time_;
  FramePtr context_;
  FramePtr root_;
  std::string output_;
  std::string* out_ = &output_;
  std::int64_t output_chars_ = 0;
  std::vector<Span> spans_;
  bool autoescape_ = false;
  int depth_ = 0;
  int calls_ = 0;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  std::vector<FramePtr> captured_;  // frames that macros point to
};

/// Counts statements and expressions inside one another.
class Interpreter::Depth {
 public:
  explicit Depth(Interpreter& interpreter);
  ~Depth() { --interpreter_.depth_; }

 private:
  Interpreter& interpreter_;
};

/// Sends output to a text of its own while it lives.
class Interpreter::Buffer {
 public:
  explicit Buffer(Interpreter& interpreter) : interpreter_(interpreter), outer_(interpreter.out_) {
    interpreter_.out_ = &text;
  }
  ~Buffer() { interpreter_.out_ = outer_; }
  std::string text;

 private:
  Interpreter& interpreter_;
  std::string* outer_;
};

}  // namespace headway::text::jinja
