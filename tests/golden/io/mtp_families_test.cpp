// Multi-token prediction in folders: tensors made from a golden's own full layer, kept both ways.
// Not for: what the layers compute.
#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/io/convert.h"
#include "headway/io/safetensors_file.h"
#include "headway/io/safetensors_writer.h"
#include "headway/io/tensor_layout.h"

#include "tests/support/io_files.h"
#include "tests/support/message_of.h"

namespace headway::io {
namespace {

using testing_support::TempFolder;
namespace fs = std::filesystem;

fs::path golden(const std::string& name) {
  return fs::path(HEADWAY_TESTS_DIR) / "golden/hf" / name;
}

/// The folder with a next-token layer like its full layer 3; its config says nothing of it.
void write_with_mtp(const std::string& name, const fs::path& target) {
  fs::create_directories(target);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [key, tensor] : load_safetensors(golden(name) / "model.safetensors")) {
    tensors[key] = tensor;
    const std::string full = "model.layers.3.";
    if (key.starts_with(full)) tensors["mtp.layers.0." + key.substr(full.size())] = tensor * 2;
  }
  const at::Tensor norm = tensors.at("model.norm.weight");
  const int64_t width = norm.size(0);
  tensors["mtp.norm.weight"] = norm + 1;
  tensors["mtp.pre_fc_norm_embedding.weight"] = norm + 2;
  tensors["mtp.pre_fc_norm_hidden.weight"] = norm + 3;
  tensors["mtp.fc.weight"] = at::arange(width * 2 * width, norm.options()).view({width, 2 * width});
  write_safetensors(target / "model.safetensors", tensors);
  fs::copy(golden(name) / "config.json", target / "config.json");
}

const char* const kFamilies[] = {"qwen3_next_moe", "qwen3_next_dense", "qwen3_5_text",
                                 "qwen3_5_moe_text"};

TEST(QwenMtp, TensorsHaveAScopeOfTheirOwn) {
  for (const char* name : kFamilies) {
    SCOPED_TRACE(name);
    const TempFolder temp;
    write_with_mtp(name, temp / "in");
    const Checkpoint checkpoint = open_checkpoint(temp / "in");
    ASSERT_TRUE(checkpoint.spec.mtp);
    EXPECT_EQ(checkpoint.spec.mtp->layers.at(0), checkpoint.spec.layers.at(3));
    EXPECT_EQ(checkpoint.spec.mtp->hidden, spec::MtpHidden::kNormed);
    const TensorSource source = TensorSource::open(temp / "in");
    const auto bindings = layout(checkpoint.spec, *checkpoint.family, &source);
    const Account held = account(bindings, checkpoint.spec, *checkpoint.family, source, {});
    EXPECT_TRUE(held.notes.empty());
    const NativeReader reader(source, bindings);
    const std::string scope = "model.layers." + std::to_string(checkpoint.spec.layers.size()) + ".";
    EXPECT_TRUE(at::equal(reader.read(scope + "eh_proj.weight"), source.view("mtp.fc.weight")));
    EXPECT_TRUE(at::equal(reader.read(scope + "enorm.weight"),
                          source.view("mtp.pre_fc_norm_embedding.weight")));
    EXPECT_TRUE(at::equal(reader.read(scope + "self_attn.k_proj.weight"),
                          source.view("mtp.layers.0.self_attn.k_proj.weight")));
    EXPECT_FALSE(open_checkpoint(golden(name)).spec.mtp);
  }
}

TEST(QwenMtp, FoldersGoBothWaysBitForBit) {
  for (const char* name : kFamilies) {
    SCOPED_TRACE(name);
    const TempFolder temp;
    write_with_mtp(name, temp / "in");
    const std::string family(open_checkpoint(temp / "in").family->name);
    convert(temp / "in", temp / "native", {.verify = true});
    convert(temp / "native", temp / "back", {.to = family, .verify = true});
    const auto want = load_safetensors(temp / "in/model.safetensors");
    const auto got = load_safetensors(temp / "back/model.safetensors");
    ASSERT_EQ(got.size(), want.size());
    for (const auto& [key, tensor] : want) EXPECT_TRUE(at::equal(got.at(key), tensor)) << key;
    EXPECT_EQ(open_checkpoint(temp / "back").spec.mtp, open_checkpoint(temp / "in").spec.mtp);
  }
}

/// transformers leaves the layers out and keeps the count.
TEST(MtpFolders, PromisedLayersWithoutTensorsAreNone) {
  const TempFolder temp;
  fs::copy(golden("step3p5_dense"), temp / "in");
  Json config = parse_json_file((temp / "in/config.json").string());
  config["num_nextn_predict_layers"] = 1;
  for (const auto& [key, value] : config.items()) {
    const bool listed = key == "layer_types" || key == "rope_theta" ||
                        key == "partial_rotary_factors" || key == "swiglu_limits" ||
                        key == "swiglu_limits_shared";
    if (listed && value.is_array()) config[key].push_back(value.at(1));
  }
  testing_support::write_text(temp / "in/config.json", config.dump());
  EXPECT_FALSE(open_checkpoint(temp / "in").spec.mtp);
  auto tensors = load_safetensors(temp / "in/model.safetensors");
  const at::Tensor norm = tensors.at("model.norm.weight");
  tensors["model.layers.5.enorm.weight"] = norm;
  write_safetensors(temp / "in/model.safetensors", tensors);
  const std::string text =
      testing_support::message_of<CheckpointError>([&] { convert(temp / "in", temp / "out", {}); });
  EXPECT_NE(text.find("model.layers.5.transformer.shared_head.norm.weight"), std::string::npos)
      << text;
}

}  // namespace
}  // namespace headway::io
