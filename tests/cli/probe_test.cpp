// `headway probe` from outside: files in and out for every module, --dtype, --config, exit codes.
// Not for: every recorded value (tests/golden/megatron).
#include <filesystem>
#include <string>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/io/safetensors_file.h"
#include "headway/io/safetensors_writer.h"

#include "tests/support/program.h"
#include "tests/support/temp_folder.h"

namespace headway {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::Outcome;
using testing_support::run_program;
using testing_support::TempFolder;

Outcome run(const TempFolder& folder, const std::string& arguments) {
  return run_program(folder, "probe " + arguments);
}

std::string golden(const std::string& file) {
  return std::string(HEADWAY_TESTS_DIR) + "/golden/megatron/" + file + ".safetensors";
}

std::string files(const TempFolder& folder, const std::string& in) {
  return " --in " + in + " --out " + (folder / "out.safetensors").string();
}

struct Module {
  const char* name;
  const char* file;
  const char* result;
};

TEST(ProbeCommand, EveryModuleReadsItsFileAndWritesItsResults) {
  const TempFolder folder;
  for (const Module& module :
       {Module{"self_attention", "attn_head_gate_gqa", "grad_in"},
        Module{"cross_attention", "cross_padding", "grad_in"},
        Module{"gpt_model", "gpt_static_per_layer_base", "out_incremental"},
        Module{"qk_clip", "qk_clip_mla", "eta"}, Module{"rope", "rope_tables", "e0.emb"},
        Module{"static_cache", "static_cache_gqa", "key_cache"}}) {
    const auto want = io::load_safetensors(golden(module.file)).at(module.result);
    const std::string arguments = std::string(module.name) + files(folder, golden(module.file));
    Outcome outcome = run(folder, arguments);
    ASSERT_EQ(outcome.code, 0) << module.name << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("tensors to"));
    const auto got = io::load_safetensors(folder / "out.safetensors").at(module.result);
    EXPECT_LE((got - want).abs().max().item<double>(), 1e-10 * want.abs().max().item<double>())
        << module.name;
    outcome = run(folder, arguments + " --dtype float32");
    ASSERT_EQ(outcome.code, 0) << module.name << "\n" << outcome.err;
    const auto narrow = io::load_safetensors(folder / "out.safetensors").at(module.result);
    EXPECT_EQ(narrow.scalar_type(), at::kFloat) << module.name;
    EXPECT_LE((narrow.to(at::kDouble) - want).abs().max().item<double>(),
              2e-5 * want.abs().max().item<double>())
        << module.name;
  }
}

TEST(ProbeCommand, ConfigReplacesTheFilesOwn) {
  const TempFolder folder;
  const std::string in = golden("qk_clip_none");
  ASSERT_EQ(run(folder, "qk_clip" + files(folder, in)).code, 0);
  EXPECT_TRUE(io::load_safetensors(folder / "out.safetensors").empty());
  std::string config = io::SafetensorsFile(in).header().metadata.at("config");
  const std::string threshold = "\"qk_clip_threshold\": 100.0";
  ASSERT_NE(config.find(threshold), std::string::npos);
  config.replace(config.find(threshold), threshold.size(), "\"qk_clip_threshold\": 1e-3");
  const std::string other = folder.write("config.json", config);
  ASSERT_EQ(run(folder, "qk_clip" + files(folder, in) + " --config " + other).code, 0);
  EXPECT_TRUE(
      io::load_safetensors(folder / "out.safetensors").contains("clipped.linear_qkv.weight"));
}

TEST(ProbeCommand, ExitCodesAndNothingWrittenWhenRefused) {
  const TempFolder folder;
  const auto refused = [&](const std::string& arguments, int code, const char* message) {
    const Outcome outcome = run(folder, arguments);
    EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message)) << arguments;
    EXPECT_FALSE(fs::exists(folder / "out.safetensors")) << arguments;
  };
  const std::string cross = golden("cross_padding");
  refused("", 2, "module");
  refused("cross_attention --out x", 2, "--in");
  refused("attention" + files(folder, cross), 2, "allowed self_attention | cross_attention");
  refused("cross_attention" + files(folder, (folder / "none.safetensors").string()), 3, "none");
  refused("cross_attention" + files(folder, folder.write("bad.safetensors", "12345678{")), 3,
          "bad.safetensors");
  refused("cross_attention" + files(folder, cross) + " --dtype int8", 2, "dtype");
  refused("cross_attention" + files(folder, cross) + " --config " +
              folder.write("config.json", "{\"num_layers\": }"),
          2, "config.json");
  refused("self_attention" + files(folder, cross), 3, "param.");
  auto tensors = io::load_safetensors(cross);
  tensors.erase("key_value_states");
  const fs::path cut = folder / "cut.safetensors";
  io::write_safetensors(cut, tensors, io::SafetensorsFile(cross).header().metadata);
  refused("cross_attention" + files(folder, cut.string()), 3, "key_value_states: missing");
}

}  // namespace
}  // namespace headway
