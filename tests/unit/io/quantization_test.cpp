// Quantised tensors as the bfloat16 values they stand for, against scalar arithmetic; damaged ones.
#include "headway/io/quantization.h"

#include <cmath>

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/io/convert.h"
#include "headway/io/safetensors_writer.h"

#include "tests/support/io_files.h"

namespace headway::io {
namespace {

using testing::HasSubstr;
using testing_support::message_of;
using testing_support::TempFolder;
namespace fs = std::filesystem;

using Tensors = std::map<std::string, at::Tensor>;

const Json kBlocks = {{"quantization_config",
                       {{"quant_method", "fp8"}, {"weight_block_size", Json::array({128, 128})}}}};
const Json kMx = {{"quantization_config", {{"quant_method", "mxfp4"}}}};

/// `bytes` as a tensor of 8-bit floats.
at::Tensor eight_bits(const std::vector<uint8_t>& bytes, at::IntArrayRef shape,
                      at::ScalarType type = at::kFloat8_e4m3fn) {
  return at::tensor(bytes, at::kByte).view(shape).view(type);
}

/// E4M3 without infinities, by its definition.
double e4m3(uint8_t byte) {
  const int exponent = (byte >> 3) & 15, mantissa = byte & 7;
  const double size = exponent == 0 ? mantissa / 8.0 * std::ldexp(1.0, -6)
                                    : (1 + mantissa / 8.0) * std::ldexp(1.0, exponent - 7);
  return byte & 128 ? -size : size;
}

std::vector<uint8_t> numbered(int64_t count) {
  std::vector<uint8_t> bytes;
  for (int64_t i = 0; i < count; ++i) {
    const auto byte = static_cast<uint8_t>(i * 37 + i / 256);
    bytes.push_back((byte & 127) == 127 ? 0x38 : byte);  // no NaN
  }
  return bytes;
}

at::Tensor read(const Tensors& tensors, const Json& config, const std::string& name) {
  const TempFolder folder;
  write_safetensors(folder / "model.safetensors", tensors);
  TensorSource source = TensorSource::open(folder.path());
  dequantise(source, config);
  const at::Tensor result = source.load(name);
  EXPECT_EQ(source.info(name).dtype, Dtype::kBF16);
  EXPECT_EQ(source.info(name).shape, Shape(result.sizes().begin(), result.sizes().end()));
  return result;
}

std::string refusal(const Tensors& tensors, const Json& config, const std::string& name = "") {
  return message_of<Error>([&] {
    const TempFolder folder;
    write_safetensors(folder / "model.safetensors", tensors);
    TensorSource source = TensorSource::open(folder.path());
    dequantise(source, config);
    if (!name.empty()) source.load(name);
  });
}

TEST(Fp8, BlocksWithRaggedEdgesAreMultipliedAndRoundedOnce) {
  constexpr int64_t kRows = 130, kColumns = 192;
  const auto bytes = numbered(kRows * kColumns);
  const at::Tensor scales = at::tensor({0.5f, 3.0f, 0.0173f, 1e-3f}).view({2, 2});
  const at::Tensor got =
      read({{"w.weight", eight_bits(bytes, {kRows, kColumns})}, {"w.weight_scale_inv", scales}},
           kBlocks, "w.weight");
  const at::Tensor wide = got.to(at::kDouble);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kColumns; ++c) {
      const float scale = scales[r / 128][c / 128].item<float>();
      const float product = static_cast<float>(e4m3(bytes[r * kColumns + c])) * scale;
      const double want = at::scalar_tensor(product, at::kFloat).to(at::kBFloat16).item<double>();
      ASSERT_EQ(wide[r][c].item<double>(), want) << r << ", " << c;
      if (c == 8) c = 120;  // both blocks, not every column
    }
  }
}

TEST(Fp8, ScalesOfRowsTensorsAndExperts) {
  const auto bytes = numbered(6);
  const at::Tensor weight = eight_bits(bytes, {2, 3});
  const auto value = [&](const at::Tensor& scales, const Json& config) {
    return read({{"w", weight}, {"w_scale_inv", scales}}, config, "w").to(at::kDouble);
  };
  const Json plain = {{"quantization_config", {{"quant_method", "fp8"}}}};
  const double first = e4m3(bytes[0]), last = e4m3(bytes[5]);
  for (const at::Tensor& one :
       {at::scalar_tensor(2.0, at::kFloat), at::full({1}, 2.0, at::kFloat)}) {
    EXPECT_EQ(value(one, plain)[0][0].item<double>(), 2 * first);
  }
  for (const at::Tensor& rows : {at::tensor({2.0f, 4.0f}), at::tensor({2.0f, 4.0f}).view({2, 1})}) {
    const at::Tensor got = value(rows, plain);
    EXPECT_EQ(got[0][0].item<double>(), 2 * first);
    EXPECT_EQ(got[1][2].item<double>(), 4 * last);
  }
  EXPECT_EQ(value(eight_bits({128}, {1, 1}, at::kFloat8_e8m0fnu), kBlocks)[1][2].item<double>(),
            2 * last);
  // A stack of experts, with a grid for each.
  const at::Tensor stacked = eight_bits(numbered(2 * 130 * 2), {2, 130, 2});
  const at::Tensor scales = at::tensor({1.0f, 2.0f, 4.0f, 8.0f}).view({2, 2, 1});
  const at::Tensor got =
      read({{"e", stacked}, {"e_scale_inv", scales}}, kBlocks, "e").to(at::kDouble);
  const auto byte = numbered(520);
  EXPECT_EQ(got[0][129][1].item<double>(), 2 * e4m3(byte[259]));
  EXPECT_EQ(got[1][0][0].item<double>(), 4 * e4m3(byte[260]));
}

TEST(Fp8, DamageIsNamed) {
  const at::Tensor weight = eight_bits(numbered(6), {2, 3}), scale = at::ones({1, 1});
  EXPECT_THAT(refusal({{"w", weight}}, kBlocks), HasSubstr("F8_E4M3 without \"w_scale_inv\""));
  EXPECT_THAT(refusal({{"w_scale_inv", scale}}, kBlocks), HasSubstr("a scale of nothing"));
  EXPECT_THAT(refusal({{"w", at::ones({2, 3})}, {"w_scale_inv", scale}}, kBlocks),
              HasSubstr("a scale of F32, allowed one of an F8_E4M3 weight"));
  EXPECT_THAT(refusal({{"w", weight}, {"w_scale_inv", at::ones({2, 2})}}, kBlocks),
              HasSubstr("\"w_scale_inv\" = [2, 2], allowed one value a block of 128 x 128"));
  EXPECT_THAT(refusal({{"w", weight}, {"w_scale_inv", at::ones({1, 3})}}, Json::object()),
              HasSubstr("no quantization_config.weight_block_size"));
  EXPECT_THAT(refusal({{"w", eight_bits({0x7F, 0}, {1, 2})}, {"w_scale_inv", scale}}, kBlocks, "w"),
              HasSubstr("\"w\" = NaN among its values"));
  EXPECT_THAT(refusal({{"w", weight}, {"w_scale_inv", scale * NAN}}, kBlocks, "w"),
              HasSubstr("\"w_scale_inv\" = NaN among its values"));
  EXPECT_THAT(refusal({{"w", eight_bits({0}, {1}, at::kFloat8_e5m2)}}, kBlocks),
              HasSubstr("\"w\" = F8_E5M2"));
  const Json other = {{"quantization_config", {{"quant_method", "awq"}}}};
  EXPECT_THAT(refusal({}, other), HasSubstr("quant_method = \"awq\", allowed fp8 | mxfp4"));
  Json block = kBlocks;
  block["quantization_config"]["weight_block_size"] = Json::array({128, 0});
  EXPECT_THAT(refusal({}, block), HasSubstr("weight_block_size"));
}

at::Tensor bytes_of(const std::vector<uint8_t>& values, at::IntArrayRef shape) {
  return at::tensor(values, at::kByte).view(shape);
}

TEST(Mxfp4, TheLowHalfOfAByteComesFirst) {
  std::vector<uint8_t> blocks(2 * 2 * 16, 0);  // 1 expert, 2 outputs, 2 groups
  blocks[0] = 0x2F;                            // output 0, inputs 0 and 1
  blocks[3 * 16 + 15] = 0x7A;                  // output 1, inputs 62 and 63
  const std::vector<uint8_t> scales = {130, 127, 0, 120};
  const at::Tensor got = read({{"g_blocks", bytes_of(blocks, {1, 2, 2, 16})},
                               {"g_scales", bytes_of(scales, {1, 2, 2})}},
                              kMx, "g")
                             .to(at::kDouble);
  ASSERT_EQ(got.sizes(), (std::vector<int64_t>{1, 64, 2}));  // inputs before outputs
  EXPECT_EQ(got[0][0][0].item<double>(), -48.0);
  EXPECT_EQ(got[0][1][0].item<double>(), 8.0);
  EXPECT_EQ(got[0][62][1].item<double>(), -1.0 / 128);
  EXPECT_EQ(got[0][63][1].item<double>(), 6.0 / 128);
  EXPECT_EQ(got.ne(0).sum().item<int64_t>(), 4);
}

TEST(Mxfp4, EveryValueOfEveryScale) {
  constexpr double kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  std::vector<uint8_t> blocks;
  for (int i = 0; i < 16; ++i) blocks.push_back(static_cast<uint8_t>(i | (15 - i) << 4));
  for (const uint8_t scale : {uint8_t{0}, uint8_t{127}, uint8_t{254}}) {
    const at::Tensor got = read({{"g_blocks", bytes_of(blocks, {1, 1, 1, 16})},
                                 {"g_scales", bytes_of({scale}, {1, 1, 1})}},
                                kMx, "g")
                               .to(at::kDouble)
                               .flatten();
    for (int i = 0; i < 16; ++i) {
      const double want = kValues[i & 7] * (i & 8 ? -1 : 1) * std::ldexp(1.0, scale - 127);
      const bool fits = std::abs(want) <= 3.38e38;
      if (fits) {
        EXPECT_EQ(got[2 * i].item<double>(), want) << i;
        EXPECT_EQ(got[2 * (15 - i) + 1].item<double>(), want) << i;
      }
    }
  }
}

TEST(Mxfp4, DamageIsNamed) {
  const at::Tensor blocks = at::zeros({1, 2, 2, 16}, at::kByte);
  const at::Tensor scales = at::zeros({1, 2, 2}, at::kByte);
  EXPECT_THAT(refusal({{"g_blocks", blocks}}, kMx), HasSubstr("blocks without scales"));
  EXPECT_THAT(refusal({{"g_scales", scales}}, kMx), HasSubstr("scales without blocks"));
  EXPECT_THAT(refusal({{"g_blocks", blocks.narrow(3, 0, 8)}, {"g_scales", scales}}, kMx),
              HasSubstr("\"g_blocks\" = U8 [1, 2, 2, 8], allowed U8 [E, O, G, 16]"));
  EXPECT_THAT(refusal({{"g_blocks", blocks}, {"g_scales", scales.narrow(1, 0, 1)}}, kMx),
              HasSubstr("\"g_scales\" = U8 [1, 1, 2], allowed U8 [1, 2, 2]"));
  EXPECT_THAT(
      refusal({{"g_blocks", blocks}, {"g_scales", at::full({1, 2, 2}, 255, at::kByte)}}, kMx, "g"),
      HasSubstr("a scale of 255 (NaN)"));
}

/// A whole model: the quantised twin reads, converts and verifies as its bfloat16 values.
TEST(Fp8, AModelIsReadAndExportedWithoutQuantisation) {
  const TempFolder temp;
  const fs::path golden = fs::path(HEADWAY_TESTS_DIR) / "golden/hf/llama_gqa";
  fs::create_directories(temp / "fp8");
  Json config = parse_json_file((golden / "config.json").string());
  config["quantization_config"] = kBlocks["quantization_config"];
  temp.write("fp8/config.json", config.dump());
  Tensors tensors;
  for (auto& [name, tensor] : load_safetensors(golden / "model.safetensors")) {
    const bool projection = name.find("_proj.weight") != std::string::npos;
    tensors[name] = projection ? tensor.to(at::kFloat8_e4m3fn) : tensor.to(at::kBFloat16);
    if (projection) tensors[name + "_scale_inv"] = at::full({1, 1}, 0.5, at::kFloat);
  }
  write_safetensors(temp / "fp8/model.safetensors", tensors);
  config["quantization_config"]["quant_method"] = "awq";
  temp.write("awq/config.json", config.dump());
  EXPECT_THAT(message_of<UnsupportedError>([&] { open_checkpoint(temp / "awq"); }),
              HasSubstr("quant_method = \"awq\", allowed fp8 | mxfp4"));
  const auto report = convert(temp / "fp8", temp / "out", {.to = "llama", .verify = true});
  EXPECT_TRUE(report.verified);
  const Json written = parse_json_file((temp / "out/config.json").string());
  EXPECT_FALSE(written.contains("quantization_config"));
  const auto got = load_safetensors(temp / "out/model.safetensors");
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  EXPECT_EQ(got.at(name).scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(got.at(name), (tensors[name].to(at::kFloat) * 0.5).to(at::kBFloat16)));
  EXPECT_FALSE(got.contains(name + "_scale_inv"));
}

}  // namespace
}  // namespace headway::io
