// Probe files of Megatron-LM and how results are compared with what they recorded.
// Not for: any one module.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/engine/probe.h"
#include "headway/io/safetensors_file.h"

#include "tests/support/message_of.h"

namespace headway::engine {

struct Case {
  std::string module;
  std::string file;
};

inline std::filesystem::path path_of(const std::string& file) {
  return std::filesystem::path(HEADWAY_TESTS_DIR) / "golden" / "megatron" / (file + ".safetensors");
}

inline bool is_result(const std::string& name) {
  return name == "out" || name == "bias" || name == "out_fp32" || name == "out_incremental" ||
         name == "key_cache" || name == "value_cache" || name == "eta" || name == "routing_map" ||
         name == "expert_bias_after_update" || name == "local_tokens_per_expert" ||
         name.starts_with("loss.") || name.starts_with("grad") || name.starts_with("aux.") ||
         name.starts_with("clipped.") || name.starts_with("mtp_loss.");
}

/// The file without what was recorded of the run, so that nothing can be copied through.
inline ProbeRequest request_of(const Case& given) {
  ProbeRequest request;
  request.module = given.module;
  request.metadata = io::SafetensorsFile(path_of(given.file)).header().metadata;
  for (const auto& [name, tensor] : io::load_safetensors(path_of(given.file))) {
    const bool table = name.ends_with(".emb") || name.ends_with(".out") ||
                       name.ends_with(".mscale") || name.ends_with(".inv_freq");
    if (!is_result(name) && !table) request.tensors[name] = tensor;
  }
  return request;
}

inline void expect_close(const std::string& name, const at::Tensor& got, const at::Tensor& want,
                         double tolerance) {
  ASSERT_EQ(got.sizes(), want.sizes()) << name;
  const at::Tensor exact = want.to(at::kDouble);
  const double scale = std::max(1e-3, exact.abs().max().item<double>());
  const double distance = (got.to(at::kDouble) - exact).abs().max().item<double>();
  EXPECT_LE(distance, tolerance * scale) << name;
}

template <class E>
std::string error_of(const ProbeRequest& request) {
  return testing_support::message_of<E>([&] { probe(request); });
}

}  // namespace headway::engine
