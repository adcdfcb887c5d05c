// The node that repeats a forward pass, and memory that is given back in between.
// Not for: choosing what is repeated.
#include "headway/nn/recompute.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "headway/base/error.h"

namespace headway::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

thread_local bool replaying = false;

class ReplayScope {
 public:
  ReplayScope() : before_(std::exchange(replaying, true)) {}
  ~ReplayScope() { replaying = before_; }
  ReplayScope(const ReplayScope&) = delete;
  ReplayScope& operator=(const ReplayScope&) = delete;

 private:
  bool before_;
};

/// What a node repeats: autograd's saved data takes reference-counted objects only.
struct Body : torch::CustomClassHolder {
  Body(TensorBody function, int64_t count) : function(std::move(function)), num_inputs(count) {}
  TensorBody function;
  int64_t num_inputs;
};

class RecomputeFunction : public torch::autograd::Function<RecomputeFunction> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList inputs_and_parameters,
                               const c10::intrusive_ptr<Body>& body) {
    const variable_list all = inputs_and_parameters.vec();
    context->save_for_backward(all);
    context->saved_data["body"] = c10::IValue::make_capsule(body);
    context->set_materialize_grads(false);
    return body->function({all.begin(), all.begin() + body->num_inputs});
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    if (at::GradMode::is_enabled()) {
      throw UnsupportedError("[nn::recompute] gradients of gradients: not with recompute");
    }
    const auto capsule = context->saved_data["body"].toCapsule();
    const auto& body = static_cast<const Body&>(*capsule);
    const variable_list saved = context->get_saved_variables();
    variable_list inputs;
    for (int64_t i = 0; i < body.num_inputs; ++i) {
      inputs.push_back(saved[i].detach().set_requires_grad(saved[i].requires_grad()));
    }
    const variable_list outputs = replay(body, inputs);
    if (outputs.size() != grads.size()) {
      throw InternalError("[nn::recompute] the second forward pass gave " +
                          std::to_string(outputs.size()) + " tensors, the first " +
                          std::to_string(grads.size()));
    }
    variable_list roots, root_grads;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!grads[i].defined() || !outputs[i].requires_grad()) continue;
      roots.push_back(outputs[i]);
      root_grads.push_back(grads[i]);
    }
    variable_list wanted;
    std::vector<size_t> places;
    for (size_t i = 0; i < saved.size(); ++i) {
      if (!context->needs_input_grad(i)) continue;
      wanted.push_back(i < inputs.size() ? inputs[i] : saved[i]);
      places.push_back(i);
    }
    variable_list result(saved.size() + 1);
    if (roots.empty() || wanted.empty()) return result;
    const variable_list found =
        torch::autograd::grad(roots, wanted, root_grads, /*retain_graph=*/false,
                              /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t i = 0; i < found.size(); ++i) result[places[i]] = found[i];
    return result;
  }

 private:
  static variable_list replay(const Body& body, const variable_list& inputs) {
    const at::AutoGradMode record(true);
    const ReplayScope scope;
    return body.function(inputs);
  }
};

bool any_requires_grad(const std::vector<at::Tensor>& tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const at::Tensor& tensor) { return tensor.requires_grad(); });
}

bool owns_its_memory(const at::Tensor& tensor) {
  return tensor.is_contiguous() && tensor.storage_offset() == 0 && tensor.nbytes() > 0 &&
         tensor.storage().nbytes() == tensor.nbytes();
}

/// Memory that was given back, by weak references: what nobody needs any more is not filled again.
class Discarded {
 public:
  Discarded(const std::vector<at::Tensor>& values, std::function<std::vector<at::Tensor>()> again)
      : again_(std::move(again)) {
    for (const at::Tensor& value : values) {
      c10::StorageImpl* storage = value.storage().unsafeGetStorageImpl();
      storages_.emplace_back(value.storage().getWeakStorageImpl());
      sizes_.push_back(storage->nbytes());
      storage->set_data_ptr_noswap(at::DataPtr(nullptr, value.device()));
      storage->set_nbytes(size_t{0});
    }
  }

  void fill() {
    if (!again_) return;
    const at::NoGradGuard no_grad;
    const ReplayScope scope;
    const std::vector<at::Tensor> fresh = std::exchange(again_, nullptr)();
    for (size_t i = 0; i < storages_.size(); ++i) {
      const auto storage = storages_[i].lock();
      if (!storage) continue;
      c10::StorageImpl* from = fresh.at(i).storage().unsafeGetStorageImpl();
      if (!fresh[i].is_contiguous() || from->nbytes() != sizes_[i]) {
        throw InternalError("[nn::discard_until_backward] tensor " + std::to_string(i) +
                            " came back with another size");
      }
      storage->set_data_ptr_noswap(from->set_data_ptr(at::DataPtr(nullptr, fresh[i].device())));
      storage->set_nbytes(sizes_[i]);
    }
    storages_.clear();
  }

 private:
  std::function<std::vector<at::Tensor>()> again_;
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> storages_;
  std::vector<size_t> sizes_;
};

}  // namespace

int64_t RecomputePlan::chunk_end(int64_t first, int64_t num_layers) const {
  if (chunk_layers < 1 || first >= first_layers) return first;
  return std::min({first + std::min(chunk_layers, num_layers), first_layers, num_layers});
}

std::vector<at::Tensor> recompute(const TensorBody& body, const std::vector<at::Tensor>& inputs,
                                  const std::vector<at::Tensor>& parameters) {
  if (!at::GradMode::is_enabled() ||
      !(any_requires_grad(inputs) || any_requires_grad(parameters))) {
    return body(inputs);
  }
  variable_list all = inputs;
  all.insert(all.end(), parameters.begin(), parameters.end());
  const auto holder = c10::make_intrusive<Body>(body, static_cast<int64_t>(inputs.size()));
  return RecomputeFunction::apply(at::TensorList(all), holder);
}

void discard_until_backward(const std::vector<at::Tensor>& values, const at::Tensor& user,
                            const std::function<std::vector<at::Tensor>()>& again) {
  if (!at::GradMode::is_enabled() || !user.requires_grad() || !user.grad_fn()) return;
  if (!std::all_of(values.begin(), values.end(), owns_its_memory)) return;
  const auto discarded = std::make_shared<Discarded>(values, again);
  user.register_hook([discarded](const at::Tensor&) { discarded->fill(); });
}

bool is_replaying() { return replaying; }

}  // namespace headway::nn
