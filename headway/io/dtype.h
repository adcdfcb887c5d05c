// Element types a safetensors file may hold, their width, and what libtorch calls them.
// Not for: conversion between types.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <c10/core/ScalarType.h>

#include "headway/base/enum_table.h"

namespace headway::io {

enum class Dtype {
  kF4,
  kF6E2M3,
  kF6E3M2,
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
  kC64
};

/// Bits of one element: 4 to 64.
int64_t dtype_bits(Dtype dtype);

/// The libtorch type with the same bits, or nothing (F4, F6).
std::optional<c10::ScalarType> scalar_type(Dtype dtype);

/// The file type of a libtorch type; UnsupportedError where the format has none.
Dtype dtype_of(c10::ScalarType type);

/// F32, BF16, F16 or F64: what weights may be.
bool is_floating(Dtype dtype);

/// float32, float64, bfloat16, float16: what a config.json calls a floating type.
std::string torch_dtype_name(c10::ScalarType type);

/// Elements of a tensor; nothing when a size is negative or the product exceeds 2^63-1.
std::optional<int64_t> checked_numel(std::span<const int64_t> shape);

/// Bytes of a tensor; nothing on overflow or when the bits do not fill whole bytes.
std::optional<int64_t> checked_bytes(Dtype dtype, std::span<const int64_t> shape);

/// "[2, 3]" for messages.
std::string shape_text(std::span<const int64_t> shape);

}  // namespace headway::io

namespace headway {

template <>
struct EnumTable<io::Dtype> {
  static constexpr auto kEntries =
      std::to_array<EnumEntry<io::Dtype>>({{io::Dtype::kF4, "F4"},
                                           {io::Dtype::kF6E2M3, "F6_E2M3"},
                                           {io::Dtype::kF6E3M2, "F6_E3M2"},
                                           {io::Dtype::kBool, "BOOL"},
                                           {io::Dtype::kU8, "U8"},
                                           {io::Dtype::kI8, "I8"},
                                           {io::Dtype::kF8E5M2, "F8_E5M2"},
                                           {io::Dtype::kF8E4M3, "F8_E4M3"},
                                           {io::Dtype::kF8E8M0, "F8_E8M0"},
                                           {io::Dtype::kF8E4M3Fnuz, "F8_E4M3FNUZ"},
                                           {io::Dtype::kF8E5M2Fnuz, "F8_E5M2FNUZ"},
                                           {io::Dtype::kI16, "I16"},
                                           {io::Dtype::kU16, "U16"},
                                           {io::Dtype::kF16, "F16"},
                                           {io::Dtype::kBF16, "BF16"},
                                           {io::Dtype::kI32, "I32"},
                                           {io::Dtype::kU32, "U32"},
                                           {io::Dtype::kF32, "F32"},
                                           {io::Dtype::kI64, "I64"},
                                           {io::Dtype::kU64, "U64"},
                                           {io::Dtype::kF64, "F64"},
                                           {io::Dtype::kC64, "C64"}});
};

}  // namespace headway
