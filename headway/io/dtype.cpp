// See dtype.h. Not for: reading or writing.
#include "headway/io/dtype.h"

#include "headway/base/error.h"

namespace headway::io {

namespace {

struct TypePair {
  Dtype file;
  c10::ScalarType torch;
};

constexpr auto kPairs = std::to_array<TypePair>({
    {Dtype::kBool, c10::ScalarType::Bool},
    {Dtype::kU8, c10::ScalarType::Byte},
    {Dtype::kI8, c10::ScalarType::Char},
    {Dtype::kF8E5M2, c10::ScalarType::Float8_e5m2},
    {Dtype::kF8E4M3, c10::ScalarType::Float8_e4m3fn},
    {Dtype::kF8E8M0, c10::ScalarType::Float8_e8m0fnu},
    {Dtype::kF8E4M3Fnuz, c10::ScalarType::Float8_e4m3fnuz},
    {Dtype::kF8E5M2Fnuz, c10::ScalarType::Float8_e5m2fnuz},
    {Dtype::kI16, c10::ScalarType::Short},
    {Dtype::kU16, c10::ScalarType::UInt16},
    {Dtype::kF16, c10::ScalarType::Half},
    {Dtype::kBF16, c10::ScalarType::BFloat16},
    {Dtype::kI32, c10::ScalarType::Int},
    {Dtype::kU32, c10::ScalarType::UInt32},
    {Dtype::kF32, c10::ScalarType::Float},
    {Dtype::kI64, c10::ScalarType::Long},
    {Dtype::kU64, c10::ScalarType::UInt64},
    {Dtype::kF64, c10::ScalarType::Double},
    {Dtype::kC64, c10::ScalarType::ComplexFloat},
});

}  // namespace

int64_t dtype_bits(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF4:
      return 4;
    case Dtype::kF6E2M3:
    case Dtype::kF6E3M2:
      return 6;
    case Dtype::kBool:
    case Dtype::kU8:
    case Dtype::kI8:
    case Dtype::kF8E5M2:
    case Dtype::kF8E4M3:
    case Dtype::kF8E8M0:
    case Dtype::kF8E4M3Fnuz:
    case Dtype::kF8E5M2Fnuz:
      return 8;
    case Dtype::kI16:
    case Dtype::kU16:
    case Dtype::kF16:
    case Dtype::kBF16:
      return 16;
    case Dtype::kI32:
    case Dtype::kU32:
    case Dtype::kF32:
      return 32;
    case Dtype::kI64:
    case Dtype::kU64:
    case Dtype::kF64:
    case Dtype::kC64:
      return 64;
  }
  throw InternalError("[dtype] value outside the enum");
}

std::optional<c10::ScalarType> scalar_type(Dtype dtype) {
  for (const TypePair& pair : kPairs) {
    if (pair.file == dtype) return pair.torch;
  }
  return std::nullopt;
}

Dtype dtype_of(c10::ScalarType type) {
  for (const TypePair& pair : kPairs) {
    if (pair.torch == type) return pair.file;
  }
  throw UnsupportedError(std::string("[safetensors] dtype = ") + c10::toString(type) +
                         ", which the format cannot hold");
}

bool is_floating(Dtype dtype) {
  return dtype == Dtype::kF32 || dtype == Dtype::kBF16 || dtype == Dtype::kF16 ||
         dtype == Dtype::kF64;
}

std::string torch_dtype_name(c10::ScalarType type) {
  switch (type) {
    case c10::ScalarType::Float:
      return "float32";
    case c10::ScalarType::Double:
      return "float64";
    case c10::ScalarType::BFloat16:
      return "bfloat16";
    case c10::ScalarType::Half:
      return "float16";
    default:
      throw UnsupportedError(std::string("[config.json] dtype = ") + c10::toString(type) +
                             ", allowed float32 | float64 | bfloat16 | float16");
  }
}

std::optional<int64_t> checked_numel(std::span<const int64_t> shape) {
  bool empty = false;
  for (int64_t size : shape) {
    if (size < 0) return std::nullopt;
    empty = empty || size == 0;
  }
  if (empty) return 0;
  int64_t numel = 1;
  for (int64_t size : shape) {
    if (__builtin_mul_overflow(numel, size, &numel)) return std::nullopt;
  }
  return numel;
}

std::optional<int64_t> checked_bytes(Dtype dtype, std::span<const int64_t> shape) {
  const std::optional<int64_t> numel = checked_numel(shape);
  int64_t bits = 0;
  if (!numel || __builtin_mul_overflow(*numel, dtype_bits(dtype), &bits)) return std::nullopt;
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace headway::io
