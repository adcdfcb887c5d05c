// FP8 and MXFP4 to bfloat16. Not for: the layout of families (rules.h).
#include "headway/io/quantization.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "headway/base/checked_math.h"
#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/io/rules.h"

namespace headway::io {
namespace {

constexpr std::string_view kScaleEnding = "_scale_inv";
constexpr std::string_view kBlocksEnding = "_blocks";
constexpr std::string_view kScalesEnding = "_scales";

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw CheckpointError(fmt::format("[quantised] tensor \"{}\" = {}", shorten(name), what));
}

// ---- the configuration ----

struct BlockSize {
  int64_t rows = 0;  // 0: not said
  int64_t columns = 0;
};

struct Method {
  std::string name;  // "fp8", "mxfp4"; empty: none
  BlockSize block;
};

Method read_method(const Json& config) {
  Method method;
  const Json* given = quantization_of(config);
  if (given == nullptr) return method;
  const auto name = given->find("quant_method");
  const bool is_text = name != given->end() && name->is_string();
  method.name = is_text ? name->get<std::string>() : "";
  if (method.name != "fp8" && method.name != "mxfp4") {
    throw UnsupportedError(
        fmt::format("[config.json] quantization_config.quant_method = {}, "
                    "allowed fp8 | mxfp4; hint: or an unquantised checkpoint",
                    name == given->end() ? "missing" : json_summary(*name)));
  }
  const auto block = given->find("weight_block_size");
  if (block == given->end() || block->is_null()) return method;
  const auto fits = [](const Json& side) {
    return side.is_number_integer() && side > 0 && side <= std::numeric_limits<int32_t>::max();
  };
  if (!block->is_array() || block->size() != 2 || !fits((*block)[0]) || !fits((*block)[1])) {
    throw ConfigError(
        fmt::format("[config.json] quantization_config.weight_block_size = {}, "
                    "allowed two integers >= 1",
                    json_summary(*block)));
  }
  method.block = {(*block)[0].get<int64_t>(), (*block)[1].get<int64_t>()};
  return method;
}

// ---- scales ----

/// Powers of two with a bias of 127, as float32.
at::Tensor powers(const at::Tensor& bytes, const std::string& name) {
  at::Tensor result = at::empty(bytes.sizes(), at::kFloat);
  const at::Tensor source = bytes.contiguous();
  const auto* from = static_cast<const uint8_t*>(source.const_data_ptr());
  float* to = result.data_ptr<float>();
  for (int64_t i = 0; i < source.numel(); ++i) {
    if (from[i] == 255) fail(name, "a scale of 255 (NaN), allowed 0 to 254");
    to[i] = std::ldexp(1.0f, static_cast<int>(from[i]) - 127);
  }
  return result;
}

at::Tensor read_scales(const at::Tensor& stored, Dtype dtype, const std::string& name) {
  if (dtype == Dtype::kF8E8M0) return powers(stored.view(at::kByte), name);
  const at::Tensor scales = stored.to(at::kFloat);
  if (scales.isnan().any().item<bool>()) fail(name, "NaN among its values, allowed numbers");
  return scales;
}

int64_t blocks_of(int64_t size, int64_t block) { return (size - 1) / block + 1; }

// ---- FP8 ----

/// How scales lie over one matrix.
struct Grid {
  BlockSize block;      // rows and columns that share a scale
  int64_t per_row = 1;  // scales next to each other
  int64_t per_matrix = 1;
};

Grid grid_of(const TensorInfo& weight, const TensorInfo& scale, const BlockSize& block) {
  const int64_t dims = static_cast<int64_t>(weight.shape.size());
  const int64_t rows = weight.shape[dims - 2], columns = weight.shape[dims - 1];
  Shape leading(weight.shape.begin(), weight.shape.end() - 2);
  const auto is = [&](std::initializer_list<int64_t> last) {
    Shape want = leading;
    want.insert(want.end(), last);
    return scale.shape == want;
  };
  const int64_t all_rows = std::max<int64_t>(rows, 1), all_columns = std::max<int64_t>(columns, 1);
  if (block.rows > 0) {
    const int64_t down = rows > 0 ? blocks_of(rows, block.rows) : 0;
    const int64_t across = columns > 0 ? blocks_of(columns, block.columns) : 0;
    if (is({down, across})) return {block, across, down * across};
  }
  if (is({}) || is({1}) || is({1, 1})) return {{all_rows, all_columns}, 1, 1};
  if (is({rows}) || is({rows, 1})) return {{1, all_columns}, 1, rows};
  fail(scale.name,
       fmt::format("{}, allowed {} for \"{}\" {}", shape_text(scale.shape),
                   block.rows > 0 ? fmt::format("one value a block of {} x {}, a row or a tensor",
                                                block.rows, block.columns)
                                  : "one value a row or a tensor (config.json has no "
                                    "quantization_config.weight_block_size)",
                   shorten(weight.name), shape_text(weight.shape)));
}

/// One matrix times its scales, strip by strip of equal scale rows.
void scale_matrix(const at::Tensor& weight_MN, const at::Tensor& scales, const Grid& grid,
                  at::Tensor& out_MN) {
  const int64_t rows = weight_MN.size(0), columns = weight_MN.size(1);
  for (int64_t begin = 0, strip = 0; begin < rows; begin += grid.block.rows, ++strip) {
    const int64_t count = std::min(grid.block.rows, rows - begin);
    const at::Tensor own = scales.narrow(0, strip * grid.per_row, grid.per_row);
    const at::Tensor wide =
        grid.per_row == 1 ? own : own.repeat_interleave(grid.block.columns).narrow(0, 0, columns);
    out_MN.narrow(0, begin, count).copy_(weight_MN.narrow(0, begin, count).to(at::kFloat) * wide);
  }
}

void derive_fp8(TensorSource& source, const TensorInfo& weight, const TensorInfo& scale,
                const BlockSize& block) {
  const bool is_matrix = weight.shape.size() == 2 || weight.shape.size() == 3;
  if (!is_matrix) fail(weight.name, shape_text(weight.shape) + ", allowed [M, N] or [E, M, N]");
  const Grid grid = grid_of(weight, scale, block);
  const auto read = [weight = source.reader(weight.name), scales = source.reader(scale.name),
                     scale_dtype = scale.dtype, name = weight.name, scale_name = scale.name, grid] {
    const at::Tensor stored = weight();
    const at::Tensor factors = read_scales(scales(), scale_dtype, scale_name).flatten();
    at::Tensor out = at::empty(stored.sizes(), at::kBFloat16);
    const bool stacked = stored.dim() == 3;
    const int64_t count = stacked ? stored.size(0) : 1;
    for (int64_t e = 0; e < count; ++e) {
      at::Tensor to = stacked ? out[e] : out;
      scale_matrix(stacked ? stored[e] : stored,
                   factors.narrow(0, e * grid.per_matrix, grid.per_matrix), grid, to);
    }
    if (out.isnan().any().item<bool>()) fail(name, "NaN among its values, allowed numbers");
    return out;
  };
  source.derive({weight.name, Dtype::kBF16, weight.shape}, {scale.name}, read);
}

// ---- MXFP4 ----

constexpr int64_t kGroupBytes = 16;
constexpr int64_t kGroup = 2 * kGroupBytes;  // values of one scale

/// Values of the four bits of E2M1: sign, two bits of exponent, one of mantissa.
constexpr std::array<float, 16> kE2M1 = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                         -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

/// One expert: bytes [O, G, 16] and scales [O, G] (float32) to values [O, 32·G].
at::Tensor unpack(const at::Tensor& bytes_OGB, const at::Tensor& scales_OG) {
  const int64_t rows = bytes_OGB.size(0), groups = bytes_OGB.size(1);
  at::Tensor values = at::empty({rows, groups * kGroup}, at::kFloat);
  const at::Tensor packed = bytes_OGB.contiguous(), scales = scales_OG.contiguous();
  const auto* from = static_cast<const uint8_t*>(packed.const_data_ptr());
  const float* scale = scales.const_data_ptr<float>();
  float* to = values.data_ptr<float>();
  at::parallel_for(0, rows * groups, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      for (int64_t i = 0; i < kGroupBytes; ++i) {
        const uint8_t byte = from[g * kGroupBytes + i];
        to[g * kGroup + 2 * i] = kE2M1[byte & 15] * scale[g];
        to[g * kGroup + 2 * i + 1] = kE2M1[byte >> 4] * scale[g];
      }
    }
  });
  return values;
}

void derive_mxfp4(TensorSource& source, const std::string& name, const TensorInfo& blocks,
                  const TensorInfo& scales) {
  if (blocks.shape.size() != 4 || blocks.shape[3] != kGroupBytes || blocks.dtype != Dtype::kU8) {
    fail(blocks.name, fmt::format("{} {}, allowed U8 [E, O, G, {}]", enum_name(blocks.dtype),
                                  shape_text(blocks.shape), kGroupBytes));
  }
  const Shape groups(blocks.shape.begin(), blocks.shape.end() - 1);
  if (scales.shape != groups || scales.dtype != Dtype::kU8) {
    fail(scales.name, fmt::format("{} {}, allowed U8 {}", enum_name(scales.dtype),
                                  shape_text(scales.shape), shape_text(groups)));
  }
  const int64_t inputs = checked_mul(groups[2], kGroup, blocks.name);
  const Shape shape = {groups[0], inputs, groups[1]};
  checked_product(shape, blocks.name);
  const auto read = [bytes = source.reader(blocks.name), stored = source.reader(scales.name),
                     scale_name = scales.name, shape] {
    const at::Tensor packed = bytes(), factors = powers(stored(), scale_name);
    at::Tensor out = at::empty(shape, at::kBFloat16);
    for (int64_t e = 0; e < shape[0]; ++e) out[e].copy_(unpack(packed[e], factors[e]).t());
    return out;
  };
  source.derive({name, Dtype::kBF16, shape}, {blocks.name, scales.name}, read);
}

/// `name` without `ending`, or nothing.
std::optional<std::string> without(const std::string& name, std::string_view ending) {
  if (!name.ends_with(ending) || name.size() == ending.size()) return std::nullopt;
  return name.substr(0, name.size() - ending.size());
}

void check_eight_bits(const TensorSource& source) {
  for (const auto& [name, info] : source.tensors()) {
    switch (info.dtype) {
      case Dtype::kF8E4M3:
        fail(name, fmt::format("F8_E4M3 without \"{}{}\", allowed a weight with its scale",
                               shorten(name), kScaleEnding));
      case Dtype::kF8E5M2:
      case Dtype::kF8E4M3Fnuz:
      case Dtype::kF8E5M2Fnuz:
      case Dtype::kF4:
      case Dtype::kF6E2M3:
      case Dtype::kF6E3M2:
        throw UnsupportedError(
            fmt::format("[quantised] tensor \"{}\" = {}, allowed F8_E4M3 with a "
                        "scale, MXFP4 blocks, or unquantised weights",
                        shorten(name), enum_name(info.dtype)));
      default:
        break;
    }
  }
}

}  // namespace

const Json* quantization_of(const Json& config) {
  const auto inside = [](const Json& object) -> const Json* {
    const auto found = object.find("quantization_config");
    return found == object.end() || !found->is_object() ? nullptr : &*found;
  };
  if (const Json* top = inside(config)) return top;
  const auto text = config.find("text_config");
  return text == config.end() || !text->is_object() ? nullptr : inside(*text);
}

void check_quantization(const Json& config) { read_method(config); }

void dequantise(TensorSource& source, const Json& config) {
  const Method method = read_method(config);
  const std::map<std::string, TensorInfo> held = source.tensors();
  for (const auto& [name, info] : held) {
    if (const auto weight = without(name, kScaleEnding)) {
      const auto found = held.find(*weight);
      if (found == held.end() || found->second.dtype != Dtype::kF8E4M3) {
        fail(name, fmt::format("a scale of {}, allowed one of an F8_E4M3 weight",
                               found == held.end() ? "nothing" : enum_name(found->second.dtype)));
      }
      derive_fp8(source, found->second, info, method.block);
    } else if (const auto base = without(name, kBlocksEnding)) {
      const auto scales = held.find(*base + std::string(kScalesEnding));
      if (scales == held.end()) fail(name, "blocks without scales");
      derive_mxfp4(source, *base, info, scales->second);
    } else if (const auto alone = without(name, kScalesEnding)) {
      if (!held.contains(*alone + std::string(kBlocksEnding))) fail(name, "scales without blocks");
    }
  }
  check_eight_bits(source);
}

}  // namespace headway::io
