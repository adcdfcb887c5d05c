// Tensors between folders and parameters: accounting both ways, tied heads, rules, conversion.
// Not for: config keys (families_test.cpp).
#include "headway/io/convert.h"

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/io_files.h"
#include "tests/unit/io/family_configs.h"

namespace headway::io {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using testing_support::message_of;
using testing_support::read_bytes;
using testing_support::TempFolder;
using testing_support::write_text;

std::map<std::string, at::Tensor> tensors_of(const spec::ModelSpec& spec, const Family& family) {
  std::map<std::string, at::Tensor> tensors;
  double next = 0.0;
  for (const Binding& binding : layout(spec, family)) {
    for (const DiskTensor& tensor : binding.disk) {
      tensors[tensor.name] = at::full(tensor.shape, next += 0.5);
    }
  }
  return tensors;
}

class Folder : public ::testing::Test {
 protected:
  explicit Folder(Json start = plain_config("llama")) : config(std::move(start)) {
    tensors = tensors_of(read_spec(config), find_family(config["model_type"].get<std::string>()));
  }
  void write() {
    std::filesystem::create_directories(temp / "in");
    write_text(temp / "in/config.json", config.dump());
    write_safetensors(temp / "in/model.safetensors", tensors);
  }
  std::string convert_error(const ConvertOptions& options = {}) {
    write();
    const std::string message =
        message_of<CheckpointError>([&] { convert(temp / "in", temp / "out", options); });
    EXPECT_FALSE(std::filesystem::exists(temp / "out"));
    EXPECT_EQ(testing_support::count_temporary(temp.path()), 0);
    return message;
  }
  TempFolder temp;
  Json config;
  std::map<std::string, at::Tensor> tensors;
};

const char* const kQuery = "model.layers.1.self_attn.q_proj.weight";

TEST_F(Folder, MissingTensor) {
  tensors.erase(kQuery);
  EXPECT_THAT(convert_error(),
              AllOf(HasSubstr("missing tensors (1)"), HasSubstr(kQuery), HasSubstr("[24, 16]")));
}

TEST_F(Folder, UnexpectedTensor) {
  tensors["model.layers.0.self_attn.sinks"] = at::zeros({4});
  EXPECT_THAT(convert_error(),
              AllOf(HasSubstr("unexpected tensors (1)"), HasSubstr("self_attn.sinks")));
}

TEST_F(Folder, WrongShape) {
  tensors[kQuery] = at::zeros({16, 24});
  EXPECT_THAT(convert_error(), AllOf(HasSubstr("wrong shape (1)"), HasSubstr(kQuery),
                                     HasSubstr("[16, 24]"), HasSubstr("[24, 16]")));
}

TEST_F(Folder, WrongType) {
  tensors[kQuery] = tensors[kQuery].to(c10::kLong);
  EXPECT_THAT(convert_error(),
              AllOf(HasSubstr("wrong type (1)"), HasSubstr(kQuery), HasSubstr("I64")));
}

TEST_F(Folder, AtMostTwentyNamesOfEachKind) {
  std::erase_if(tensors, [](const auto& item) { return item.first.starts_with("model.layers"); });
  for (int i = 0; i < 30; ++i) tensors["extra." + std::to_string(i)] = at::zeros({1});
  const std::string message = convert_error();
  EXPECT_THAT(message, AllOf(HasSubstr("missing tensors (27)"), HasSubstr("… and 7 more"),
                             HasSubstr("unexpected tensors (30)"), HasSubstr("… and 10 more")));
}

TEST_F(Folder, GlobsAllowWhatIsMissingOrUnexpected) {
  tensors.erase(kQuery);
  tensors["extra.a"] = at::zeros({1});
  EXPECT_THAT(convert_error({.account = {.allow_missing = {"*.k_proj.*"}}}), HasSubstr(kQuery));
  const ConvertOptions options{
      .to = "llama", .verify = true, .account = {{"*.1.*q_proj.weight"}, {"extra.*"}}};
  const ConvertReport report = convert(temp / "in", temp / "out", options);
  EXPECT_EQ(report.tensors, tensors.size() - 1);
  EXPECT_THAT(report.notes, Contains(HasSubstr("left out 1 tensors: allowed unexpected")));
  EXPECT_THAT(report.notes, Contains(HasSubstr(kQuery)));
  EXPECT_FALSE(TensorSource::open(temp / "out").contains(kQuery));
}

TEST_F(Folder, InverseFrequenciesAreLeftOutWithANote) {
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = at::zeros({3});
  write();
  const ConvertReport report = convert(temp / "in", temp / "out");
  EXPECT_THAT(report.notes, Contains(HasSubstr("rotary_emb.inv_freq")));
}

TEST_F(Folder, ParametersKeepWhatIsMissing) {
  tensors.erase(kQuery);
  write();
  const Checkpoint checkpoint = open_checkpoint(temp / "in");
  std::map<std::string, at::Tensor> parameters;
  for (const auto& tensor : spec::tensors(checkpoint.spec)) {
    parameters[tensor.name] = at::full(tensor.shape, -1.0).requires_grad_();
  }
  const LoadReport report = load_parameters(checkpoint, parameters, {{kQuery}, {}});
  EXPECT_EQ(report.missing, (std::vector<std::string>{"layers.1.mixer.qkv.weight"}));
  const at::Tensor qkv = parameters["layers.1.mixer.qkv.weight"].detach();
  EXPECT_EQ(qkv[0][0].item<float>(), -1.0f);
  EXPECT_EQ(qkv[24][0].item<float>(),
            tensors["model.layers.1.self_attn.k_proj.weight"][0][0].item<float>());
  parameters.erase("final_norm.weight");
  EXPECT_THROW(load_parameters(checkpoint, parameters, {{kQuery}, {}}), InternalError);
}

TEST_F(Folder, HeadTiedAndEqualIsDroppedWithANote) {
  config["tie_word_embeddings"] = true;
  tensors[kHeadName] = tensors[kEmbeddingName].clone();
  write();
  const ConvertReport native = convert(temp / "in", temp / "native");
  EXPECT_THAT(native.notes, Contains(HasSubstr("lm_head.weight equals the embedding")));
  EXPECT_FALSE(TensorSource::open(temp / "native").contains(kHeadName));
  convert(temp / "in", temp / "same",
          {.to = "llama", .verify = true});  // the same layout again keeps it
  EXPECT_EQ(read_bytes(temp / "same/model.safetensors"), read_bytes(temp / "in/model.safetensors"));
}

TEST_F(Folder, HeadTiedAndDifferentNeedsUntie) {
  config["tie_word_embeddings"] = true;
  EXPECT_THAT(convert_error(), AllOf(HasSubstr("tied head (1)"), HasSubstr("--untie")));
  convert(temp / "in", temp / "out", {.to = "llama", .verify = true, .untie = true});
  EXPECT_FALSE(open_checkpoint(temp / "out").spec.head.tied);
  EXPECT_TRUE(at::equal(TensorSource::open(temp / "out").load(kHeadName), tensors[kHeadName]));
}

TEST_F(Folder, SideFilesAreCopiedByteByByte) {
  write();
  write_text(temp / "in/tokenizer.json", "{ \"odd\" :  1}\n\n");
  write_text(temp / "in/generation_config.json",
             "{\"eos_token_id\": [3, 5], \"temperature\": 0.7}");
  write_text(temp / "in/notes.txt", "mine");
  convert(temp / "in", temp / "out");
  EXPECT_EQ(read_bytes(temp / "out/tokenizer.json"), "{ \"odd\" :  1}\n\n");
  EXPECT_FALSE(std::filesystem::exists(temp / "out/notes.txt"));
  EXPECT_EQ(open_checkpoint(temp / "out").generation.eos_token_ids, (std::vector<int64_t>{3, 5}));
}

TEST_F(Folder, GenerationConfigBeatsConfig) {
  config["eos_token_id"] = 7;
  config["bos_token_id"] = 1;
  write();
  EXPECT_EQ(open_checkpoint(temp / "in").generation.eos_token_ids, (std::vector<int64_t>{7}));
  write_text(temp / "in/generation_config.json", "{\"eos_token_id\": 9}");
  const GenerationConfig generation = open_checkpoint(temp / "in").generation;
  EXPECT_EQ(generation.eos_token_ids, (std::vector<int64_t>{9}));
  EXPECT_EQ(generation.bos_token_id, 1);
  write_text(temp / "in/generation_config.json", "{\"eos_token_id\": 32}");
  EXPECT_THROW(open_checkpoint(temp / "in"), ConfigError);
  write_text(temp / "in/generation_config.json", "{\"eos_token_id\": ");
  EXPECT_THROW(open_checkpoint(temp / "in"), CheckpointError);
}

TEST_F(Folder, TokenIdsAndUnknownKeysSurviveNative) {
  config["eos_token_id"] = 7;
  config["zz"] = {1, 2};
  write();
  convert(temp / "in", temp / "native");
  convert(temp / "native", temp / "back");
  const Json back = parse_json_file((temp / "back/config.json").string());
  Json want = config;
  want["torch_dtype"] = "float32";
  EXPECT_EQ(back.dump(), want.dump());
}

TEST_F(Folder, ToAnotherFamily) {
  config["eos_token_id"] = 7;
  write();
  const ConvertReport report =
      convert(temp / "in", temp / "out", {.to = "mistral", .verify = true});
  EXPECT_EQ(report.from, "llama");
  EXPECT_EQ(report.to, "mistral");
  const Checkpoint checkpoint = open_checkpoint(temp / "out");
  EXPECT_EQ(checkpoint.config["architectures"][0], "MistralForCausalLM");
  EXPECT_EQ(checkpoint.config["eos_token_id"], 7);
  EXPECT_TRUE(canonical_spec(checkpoint.spec) == canonical_spec(read_spec(config)));
  EXPECT_THROW(convert(temp / "in", temp / "out2", {.to = "qwen3"}), UnsupportedError);
  EXPECT_THAT(why_not(checkpoint, qwen3_family()), Contains(HasSubstr("no q/k norm")));
  EXPECT_TRUE(why_not(checkpoint, llama_family()).empty());
}

TEST_F(Folder, TargetMustBeFree) {
  write();
  std::filesystem::create_directory(temp / "out");
  convert(temp / "in", temp / "out");
  EXPECT_THROW(convert(temp / "in", temp / "out"), CheckpointError);
  EXPECT_THROW(convert(temp / "in", temp / "in"), CheckpointError);
}

TEST_F(Folder, ConfigIsCheckedBeforeTensors) {
  config["hidden_size"] = "x";
  std::filesystem::create_directories(temp / "in");
  write_text(temp / "in/config.json", config.dump());
  write_text(temp / "in/model.safetensors", "not a checkpoint");
  EXPECT_THROW(convert(temp / "in", temp / "out"), ConfigError);
}

TEST_F(Folder, BrokenFolders) {
  EXPECT_THROW(open_checkpoint(temp / "absent"), CheckpointError);
  EXPECT_THROW(open_checkpoint(temp.path()), CheckpointError);  // no config.json
  for (const char* text : {"", "{", "{\"a\":1,\"a\":2}", "\xFF"}) {
    write_text(temp / "config.json", text);
    EXPECT_THROW(open_checkpoint(temp.path()), CheckpointError) << text;
  }
  for (const char* text : {"[]", "3", "{}", "{\"model_type\":3}", "{\"model_type\":\"headway\"}",
                           "{\"model_type\":\"headway\",\"format\":2}",
                           "{\"model_type\":\"headway\",\"format\":1,\"spec\":{}}"}) {
    write_text(temp / "config.json", text);
    EXPECT_THROW(open_checkpoint(temp.path()), ConfigError) << text;
  }
  write_text(temp / "config.json", "{\"model_type\":\"bert\"}");
  EXPECT_THROW(open_checkpoint(temp.path()), UnsupportedError);
}

class StepFolder : public Folder {
 protected:
  StepFolder() : Folder(step_config()) {}
};

TEST_F(StepFolder, QuantisedTensorsAreRefused) {
  tensors["model.layers.0.mlp.up_proj.weight_scale_2"] = at::zeros({1});
  write();
  EXPECT_THAT(message_of<UnsupportedError>([&] { convert(temp / "in", temp / "out"); }),
              AllOf(HasSubstr("weight_scale_2"), HasSubstr("quantised")));
}

TEST_F(StepFolder, CacheScalesAreLeftOutWithANote) {
  tensors["model.layers.0.self_attn.k_proj.k_scale"] = at::zeros({1});
  write();
  EXPECT_THAT(convert(temp / "in", temp / "out").notes, Contains(HasSubstr("key cache")));
}

TEST_F(StepFolder, GateIsASegmentOfQkv) {
  write();
  const Checkpoint checkpoint = open_checkpoint(temp / "in");
  for (const Binding& binding : layout(checkpoint.spec, *checkpoint.family)) {
    if (binding.disk[0].name != "model.layers.1.self_attn.g_proj.weight") continue;
    EXPECT_EQ(binding.native[0].parameter, "layers.1.mixer.qkv.weight");
    EXPECT_EQ(binding.native[0].begin, 4 * 8 + 2 * 2 * 8);
    EXPECT_EQ(binding.disk[0].shape, (Shape{4, 16}));
    return;
  }
  FAIL() << "no gate";
}

TEST(Native, SavedAndOpened) {
  const TempFolder temp;
  const spec::ModelSpec spec = read_spec(step_config());
  std::map<std::string, at::Tensor> parameters;
  double next = 0.0;
  for (const auto& tensor : spec::tensors(spec)) {
    parameters[tensor.name] = at::full(tensor.shape, next += 0.25).requires_grad_();
  }
  NativeContent content{.spec = &spec, .parameters = &parameters};
  content.dtype = c10::kBFloat16;
  content.token_ids = {{"eos_token_id", 3}};
  content.extras = {{"tokenizer", "bytes"}};
  save_native(temp / "step-1", content);
  save_native(temp / "step-2", content);
  EXPECT_EQ(read_bytes(temp / "step-1/model.safetensors"),
            read_bytes(temp / "step-2/model.safetensors"));
  EXPECT_EQ(read_bytes(temp / "step-1/config.json"), read_bytes(temp / "step-2/config.json"));
  EXPECT_THROW(save_native(temp / "step-1", content), CheckpointError);
  const Checkpoint checkpoint = open_checkpoint(temp / "step-1");
  EXPECT_TRUE(checkpoint.spec == spec);
  EXPECT_EQ(checkpoint.extras["tokenizer"], "bytes");
  EXPECT_EQ(checkpoint.config["torch_dtype"], "bfloat16");
  EXPECT_EQ(checkpoint.generation.eos_token_ids, (std::vector<int64_t>{3}));
  std::map<std::string, at::Tensor> loaded;
  for (const auto& [name, tensor] : parameters) loaded[name] = at::zeros(tensor.sizes());
  load_parameters(checkpoint, loaded);
  for (const auto& [name, tensor] : parameters) {
    EXPECT_TRUE(at::equal(loaded[name], tensor.detach())) << name;
  }
}

TEST(Native, IncompleteFoldersAreSeen) {
  const TempFolder temp;
  const spec::ModelSpec spec = read_spec(plain_config("llama"));
  std::map<std::string, at::Tensor> parameters;
  for (const auto& tensor : spec::tensors(spec)) parameters[tensor.name] = at::zeros(tensor.shape);
  save_native(temp / "a", {.spec = &spec, .parameters = &parameters});
  EXPECT_TRUE(is_complete(temp / "a"));
  std::filesystem::resize_file(temp / "a/model.safetensors", 100);
  EXPECT_FALSE(is_complete(temp / "a"));
  EXPECT_THROW(open_checkpoint(temp / "a"), CheckpointError);
  std::filesystem::remove(temp / "a/model.safetensors");
  EXPECT_FALSE(is_complete(temp / "a"));
  write_text(temp / "a/manifest.json", "{");
  EXPECT_FALSE(is_complete(temp / "a"));
  std::filesystem::remove(temp / "a/manifest.json");
  EXPECT_FALSE(is_complete(temp / "a"));
  parameters.erase("final_norm.weight");
  EXPECT_THROW(save_native(temp / "b", {.spec = &spec, .parameters = &parameters}), InternalError);
  EXPECT_FALSE(std::filesystem::exists(temp / "b"));
}

TEST(Rules, Globs) {
  EXPECT_TRUE(matches_glob("*", ""));
  EXPECT_TRUE(matches_glob("a*b*c", "aXbYbZc"));
  EXPECT_TRUE(matches_glob("a.b", "a.b"));
  EXPECT_FALSE(matches_glob("a.b", "aXb"));
  EXPECT_FALSE(matches_glob("a*b", "ab."));
  EXPECT_FALSE(matches_glob("", "a"));
  EXPECT_FALSE(matches_glob(std::string(50, '*') + "x", std::string(100'000, 'a')));
}

TEST(Rules, LayerNumbers) {
  using Numbers = std::vector<std::string>;
  EXPECT_EQ(match_numbers("m.{}.w", "m.12.w"), Numbers{"12"});
  EXPECT_EQ(match_numbers("m.w", "m.w"), Numbers{});
  EXPECT_EQ(match_numbers("m.{}.e.{}.w", "m.12.e.7.w"), (Numbers{"12", "7"}));
  for (const char* name : {"m..w", "m.x.w", "m.1.v", "m.1", "m.w", "m.1.ww", "m.1.e.2.w"})
    EXPECT_EQ(match_numbers("m.{}.w", name), std::nullopt);
  EXPECT_EQ(with_numbers("m.{}.w", {"7"}), "m.7.w");
  EXPECT_EQ(with_numbers("m.{}.e.{}.w", {"7", "30"}), "m.7.e.30.w");
  EXPECT_EQ(with_star("m.{}.e.{*}.w", 4), "m.{}.e.4.w");
}

/// A family that keeps gate and up rows in one tensor and renames the norm.
const Family& fused_family() {
  static const Family kFamily{
      "fused",
      "Fused",
      llama_family().read,
      llama_family().inexpressible,
      llama_family().write,
      [](const spec::ModelSpec&) {
        return std::vector<Rule>{
            MapRule{{"model.layers.{}.mlp.gate_proj.weight", "model.layers.{}.mlp.up_proj.weight"},
                    {"model.layers.{}.mlp.gate_up.weight"},
                    &kConcatRows},
            MapRule{{"model.norm.weight"}, {"model.final.weight"}}};
      }};
  return kFamily;
}

TEST(Rules, ManyToOneAndItsInverse) {
  const spec::ModelSpec spec = read_spec(plain_config("llama"));
  const auto plain = layout(spec, llama_family());
  const auto fused = layout(spec, fused_family());
  EXPECT_EQ(fused.size(), plain.size() - 3);
  const auto tensors = tensors_of(spec, llama_family());
  const TempFolder temp;
  std::filesystem::create_directory(temp / "fused");
  const DiskTable to_fused = disk_table(
      fused, [](const std::string&) { return Dtype::kF32; },
      [&](const std::string& name) { return tensors.at(name); });
  write_shards(temp / "fused", to_fused.infos, to_fused.provider);
  const TensorSource source = TensorSource::open(temp / "fused");
  EXPECT_EQ(source.info("model.layers.2.mlp.gate_up.weight").shape, (Shape{48, 16}));
  EXPECT_TRUE(source.contains("model.final.weight"));
  const Account held = account(fused, spec, fused_family(), source, {});
  const NativeReader reader(source, held.present);
  for (const auto& [name, tensor] : tensors)
    EXPECT_TRUE(at::equal(reader.read(name), tensor)) << name;
}

}  // namespace
}  // namespace headway::io
