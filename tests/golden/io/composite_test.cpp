// Composite models of which the text part is read: golden text models put inside one.
// Not for: what the layers compute.
#include <ATen/Functions.h>
#include <gmock/gmock.h>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"
#include "headway/io/convert.h"
#include "headway/io/safetensors_file.h"
#include "headway/io/safetensors_writer.h"
#include "headway/io/tensor_layout.h"
#include "headway/spec/spec_json.h"

#include "tests/support/io_files.h"

namespace headway::io {
namespace {

using testing::HasSubstr;
using testing_support::message_of;
using testing_support::TempFolder;
namespace fs = std::filesystem;

struct Case {
  const char* text;
  const char* composite;
};

class Composite : public ::testing::TestWithParam<Case> {
 protected:
  static fs::path text_folder() {
    return fs::path(HEADWAY_TESTS_DIR) / "golden/hf" / GetParam().text;
  }
  static Json text_config() { return parse_json_file(text_folder() / "config.json"); }
  static Json composite_config() {
    const Json text = text_config();
    Json config{{"model_type", GetParam().composite},
                {"vision_config", {{"depth", 2}}},
                {"tie_word_embeddings", text["tie_word_embeddings"]}};
    config["text_config"] = text;
    return config;
  }
  /// The text model's folder as the composite model is published.
  static void write(const fs::path& folder) {
    fs::create_directories(folder);
    std::map<std::string, at::Tensor> tensors;
    for (const auto& [name, tensor] : load_safetensors(text_folder() / "model.safetensors")) {
      const bool inner = name.starts_with("model.");
      tensors[inner ? "model.language_model." + name.substr(6) : name] = tensor;
    }
    tensors["model.visual.blocks.0.weight"] = at::ones({2, 2});
    write_safetensors(folder / "model.safetensors", tensors);
    write_file_atomically((folder / "config.json").string(), composite_config().dump());
  }
};

TEST_P(Composite, TheTextPartIsTheTextModel) {
  const TempFolder temp;
  write(temp / "in");
  const Checkpoint composite = open_checkpoint(temp / "in");
  EXPECT_EQ(spec::diff(composite.spec, open_checkpoint(text_folder()).spec),
            std::vector<std::string>{});
  const ConvertReport report = convert(temp / "in", temp / "text",
                                       {.to = text_config()["model_type"], .verify = true});
  EXPECT_THAT(testing::PrintToString(report.notes), HasSubstr("not part of the text model"));
  const TensorSource want = TensorSource::open(text_folder());
  const TensorSource got = TensorSource::open(temp / "text");
  ASSERT_EQ(got.tensors(), want.tensors());
  for (const auto& [name, info] : want.tensors()) {
    EXPECT_TRUE(at::equal(got.load(name), want.load(name))) << name;
  }
}

TEST_P(Composite, WrittenAgainItKeepsItsNames) {
  const TempFolder temp;
  convert(text_folder(), temp / "out", {.to = GetParam().composite, .verify = true});
  const TensorSource out = TensorSource::open(temp / "out");
  EXPECT_TRUE(out.contains("model.language_model.embed_tokens.weight"));
  EXPECT_FALSE(out.contains("model.embed_tokens.weight"));
  const Checkpoint back = open_checkpoint(temp / "out");
  EXPECT_EQ(back.config["text_config"]["model_type"], text_config()["model_type"]);
  convert(temp / "out", temp / "text", {.to = text_config()["model_type"], .verify = true});
  EXPECT_EQ(TensorSource::open(temp / "text").tensors(),
            TensorSource::open(text_folder()).tensors());
}

TEST_P(Composite, AConfigWithoutTextModelIsRefused) {
  Json config = composite_config();
  config.erase("text_config");
  const Family& family = find_family(GetParam().composite);
  EXPECT_THAT(message_of<ConfigError>([&] { read_config(family, config, "config.json"); }),
              HasSubstr("text_config"));
}

INSTANTIATE_TEST_SUITE_P(Cases, Composite,
                         ::testing::Values(Case{"qwen3_5_text", "qwen3_5"},
                                           Case{"qwen3_5_moe_text", "qwen3_5_moe"}),
                         [](const auto& info) { return std::string(info.param.composite); });

}  // namespace
}  // namespace headway::io
