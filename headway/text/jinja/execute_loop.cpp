// for: filtered, with else, recursive. Not for: the loop variable itself (iterate.cpp).
#include "headway/text/jinja/error.h"
#include "headway/text/jinja/interpreter.h"
#include "headway/text/jinja/scopes.h"

namespace headway::text::jinja {
namespace {

/// Items for which a condition holds, tested when they are asked for.
class FilteredIterator final : public Iterator {
 public:
  FilteredIterator(std::shared_ptr<Iterator> source, std::function<bool(Value&)> holds)
      : Iterator("generator", source->depth),
        source_(std::move(source)),
        holds_(std::move(holds)) {}
  bool next(Value& out) override {
    while (source_->next(out)) {
      if (holds_(out)) return true;
    }
    return false;
  }

 private:
  std::shared_ptr<Iterator> source_;
  std::function<bool(Value&)> holds_;
};

}  // namespace

std::shared_ptr<Iterator> Interpreter::filtered(const Statement& s, std::shared_ptr<Iterator> items,
                                                const FramePtr& frame) {
  return std::make_shared<FilteredIterator>(std::move(items), [this, &s, frame](Value& item) {
    const auto inner = std::make_shared<Frame>(frame);
    assign(*s.target, item, *inner);
    return truth(evaluate(*s.test, inner));
  });
}

Interpreter::Flow Interpreter::run_loop(const Statement& s, const Value& iterable,
                                        const FramePtr& frame, int depth0) {
  auto items = iterate(iterable);
  Value source = iterable;
  if (s.test) {
    items = filtered(s, items, frame);
    source = items;
  }
  const auto loop = std::make_shared<Loop>(source, items, depth0);
  if (s.recursive) {
    loop->recursive = &s;
    loop->scope = frame;
  }
  bool completed = false;  // one run of the body that no break or continue cut short
  for (Value item; loop->advance(item);) {
    budget_.step();
    const auto inner = std::make_shared<Frame>(frame);
    inner->slots.reserve(s.unset.size() + 2);
    assign(*s.target, item, *inner);
    inner->set(kLoopName, loop);
    inner->hide(s.unset);
    const Flow flow = execute(s.body, inner);
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kNormal) completed = true;
  }
  if (completed || s.otherwise.empty()) return Flow::kNormal;
  const auto inner = std::make_shared<Frame>(frame);
  inner->hide(s.unset_otherwise);
  return execute(s.otherwise, inner);
}

Interpreter::Flow Interpreter::execute_for(const Statement& s, const FramePtr& frame) {
  const Value iterable = evaluate(*s.value, frame);
  if (!s.recursive) return run_loop(s, iterable, frame, 0);
  Value text;
  {
    Buffer buffer(*this);
    run_loop(s, iterable, frame, 0);
    text = Value(std::move(buffer.text), true);
  }
  write(text.text());
  return Flow::kNormal;
}

Value Interpreter::call_loop(const Loop& loop, const Args& args) {
  if (loop.recursive == nullptr) {
    fail_type("The loop must have the 'recursive' marker to be called recursively.");
  }
  if (args.positional.size() != 1 || !args.keyword.empty()) {
    fail_type("LoopContext.__call__() takes 2 positional arguments");
  }
  Buffer buffer(*this);
  run_loop(*loop.recursive, args.positional[0], loop.scope, loop.depth0 + 1);
  return Value(std::move(buffer.text), autoescape_);
}

}  // namespace headway::text::jinja
