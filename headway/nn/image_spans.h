// Tokens of one image or video see each other in layers that say so, also those that come later: an
// exception to the causal rule, as a mask.
// Not for: layers without the rule, or windows (the rule's left side stays).
// Legend: T tokens, N sequences, q and k the longest runs of queries and keys.
#pragma once

#include <ATen/core/Tensor.h>

#include "headway/ops/sequences.h"

namespace headway::nn {

/// Number of the span of every token, 0 outside: a span is a longest run of tokens of type 1
/// (image) or 2 (video) within a sequence. types int64 [T] on the CPU: 0 text, 3 audio. Errors:
/// ShapeError for another shape or dtype. Source: transformers 5.23, gemma3/gemma4 token type
/// masks. Test: tests/unit/nn/image_spans_test.cpp
at::Tensor image_spans(const at::Tensor& types_T, const ops::Sequences& sequences);

/// ops::AttentionOptions::mask [N,1,q,k] for queries at the end of their keys, to be used without
/// the causal rule: hides key j of query i when j > i, unless both are tokens of one span. `spans`
/// are those of the T queries.
at::Tensor span_mask(const at::Tensor& spans_T, const ops::Sequences& sequences);

}  // namespace headway::nn
