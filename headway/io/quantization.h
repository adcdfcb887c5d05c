// Quantised checkpoints, read as the bfloat16 weights they stand for: FP8 with block scales, MXFP4.
// Not for: quantising, which is not part of this program; an export writes bfloat16.
#pragma once

#include "headway/base/json.h"
#include "headway/io/tensor_source.h"

namespace headway::io {

/// Replaces every quantised tensor of `source` by its values, made when it is asked for:
///   X (F8_E4M3 [M,N] or [E,M,N]) with X_scale_inv: X·s, s of the block of weight_block_size a
///   value
///     stands in (blocks at the edges are cut off), of its row ([M] or [M,1]) or of the whole
///     tensor
///     ([] or [1]); s is F32, F16, BF16, F64 or F8_E8M0 (2^(b-127)).
///   X_blocks (U8 [E,O,G,16]) with X_scales (U8 [E,O,G]): X [E,32·G,O], as unquantised files have
///   it;
///     a byte holds two values of E2M1, the low half first; a scale b is 2^(b-127) for 32 of them.
/// Both are multiplied in float32 and rounded once to bfloat16. Other tensors stay as they are.
/// `config` is config.json: quantization_config says method and size of blocks.
/// Errors: UnsupportedError (another method, and 8-bit floats other than E4M3); CheckpointError (a
///         weight without scale, a scale without weight, shapes that do not fit, NaN), the last one
///         when the tensor is read.
/// Source: DeepSeek-V3's weight_scale_inv; OCP MX 1.0. Test: tests/unit/io/quantization_test.cpp
void dequantise(TensorSource& source, const Json& config);

/// Errors: UnsupportedError for a method that dequantise does not know; ConfigError for a size of
/// blocks that is none.
void check_quantization(const Json& config);

/// quantization_config, at the top of config.json or in its text_config; null without one.
const Json* quantization_of(const Json& config);

}  // namespace headway::io
