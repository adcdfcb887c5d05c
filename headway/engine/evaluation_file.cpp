// Token files in, logits, losses and gradients out. Not for: computing them.
#include "headway/engine/evaluation_file.h"

#include <ATen/Functions.h>

#include "headway/base/error.h"
#include "headway/io/safetensors_file.h"
#include "headway/io/tensor_layout.h"
#include "headway/io/tensor_source.h"

namespace headway::engine {
namespace {

/// Gradients per tensor on disk: the rows of the fused parameter that the file's tensor stands for.
void add_gradients(std::map<std::string, at::Tensor>& out, const LoadedModel& loaded,
                   const std::map<std::string, at::Tensor>& gradients) {
  const io::TensorSource source = io::TensorSource::open(loaded.checkpoint.folder);
  for (const io::Binding& binding :
       io::layout(loaded.checkpoint.spec, *loaded.checkpoint.family, &source)) {
    std::vector<at::Tensor> natives;
    for (const io::NativeTensor& native : binding.native) {
      const auto found = gradients.find(native.parameter);
      if (found == gradients.end()) break;  // a buffer
      natives.push_back(found->second.narrow(0, native.begin, native.shape.at(0)));
    }
    if (natives.size() != binding.native.size()) continue;
    const std::vector<at::Tensor> disk = binding.transform->to_disk(natives);
    for (size_t i = 0; i < disk.size(); ++i) {
      out["grad." + binding.disk[i].name] = disk[i].reshape(binding.disk[i].shape).contiguous();
    }
  }
}

}  // namespace

EvaluationRequest read_evaluation_request(const std::filesystem::path& path) {
  std::map<std::string, at::Tensor> tensors = io::load_safetensors(path);
  if (!tensors.contains("input_ids")) {
    throw CheckpointError("[" + path.string() + "] tensor input_ids: missing, allowed int64 [B,S]");
  }
  EvaluationRequest request;
  request.input_ids_BS = tensors["input_ids"];
  if (tensors.contains("labels")) request.labels_BS = tensors["labels"];
  if (tensors.contains("mm_token_type_ids")) {
    request.token_types_BS = tensors["mm_token_type_ids"];
  }
  return request;
}

std::map<std::string, at::Tensor> evaluation_tensors(const LoadedModel& loaded,
                                                     const Evaluation& evaluation) {
  std::map<std::string, at::Tensor> out;
  if (evaluation.logits_BSV.defined()) out["logits"] = evaluation.logits_BSV;
  if (evaluation.loss.defined()) out["loss"] = evaluation.loss;
  for (size_t i = 0; i < evaluation.hidden_BSD.size(); ++i)
    out["hidden." + std::to_string(i)] = evaluation.hidden_BSD[i];
  for (size_t k = 0; k < evaluation.mtp_logits_BSV.size(); ++k)
    out["mtp_logits." + std::to_string(k)] = evaluation.mtp_logits_BSV[k];
  for (size_t k = 0; k < evaluation.mtp_loss.size(); ++k)
    out["mtp_loss." + std::to_string(k)] = at::scalar_tensor(evaluation.mtp_loss[k], at::kDouble);
  add_gradients(out, loaded, evaluation.gradients);
  for (auto& [name, tensor] : out) tensor = tensor.to(at::kCPU).contiguous();
  return out;
}

}  // namespace headway::engine
