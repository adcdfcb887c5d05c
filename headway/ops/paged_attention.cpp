// Argument checks and kernel table of paged attention; rows in and out of pages.
// Not for: arithmetic.
#include "headway/ops/paged_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "headway/base/error.h"
#include "headway/ops/cpu/paged_attention.h"
#include "headway/ops/internal/attention_kernel.h"
#include "headway/ops/internal/paged_attention_kernel.h"
#include "headway/ops/reference/paged_attention_reference.h"

namespace headway::ops {
namespace {

using internal::PagedAttentionArguments;
using internal::PagedAttentionKernel;

constexpr char kOp[] = "paged_attention";

constexpr PagedAttentionKernel kKernels[] = {
    {"cpu", true, cpu::paged_attention_supports, {cpu::paged_attention}},
    {"reference",
     false,
     [](const PagedAttentionArguments&) { return Support::yes(); },
     {reference::paged_attention}},
};

[[maybe_unused]] const bool kRegistered = register_table(kOp, kKernels);

template <class Got>
[[noreturn]] void throw_shape(const char* op, const char* argument, const Got& got,
                              const std::string& allowed) {
  std::ostringstream text;
  text << "[" << op << "] " << argument << " = " << got << ", allowed " << allowed;
  throw ShapeError(text.str());
}

/// `dims` dimensions, the last contiguous, dtype and device of `like`.
void check_heads(const char* op, const char* name, const at::Tensor& x, int64_t dims,
                 const at::Tensor& like) {
  if (!x.defined()) throw_shape(op, name, "undefined", "a tensor");
  if (x.dim() != dims || x.size(dims - 1) < 1 || x.size(dims - 2) < 1) {
    throw_shape(op, name, x.sizes(),
                std::to_string(dims) + " dimensions with at least one head and channel");
  }
  if (x.size(dims - 1) > 1 && x.stride(dims - 1) != 1) {
    throw_shape(op, name, x.strides(), "strides with a contiguous last dimension");
  }
  if (x.scalar_type() != like.scalar_type() || x.device() != like.device()) {
    throw_shape(op, name, std::string(c10::toString(x.scalar_type())) + " on " + x.device().str(),
                std::string(c10::toString(like.scalar_type())) + " on " + like.device().str());
  }
}

void check_table(const char* op, const at::Tensor& table) {
  if (!table.defined() || table.dim() != 2 || table.scalar_type() != at::kInt ||
      !table.device().is_cpu() || !table.is_contiguous()) {
    throw_shape(op, "block_table", table.defined() ? table.toString() : "undefined",
                "contiguous int32 [sequences, entries] on the CPU");
  }
}

/// Every row [first, last) of sequence n has a page in [0, pages).
void check_pages(const char* op, const at::Tensor& table, const at::Tensor& pages,
                 const PageRows& rows) {
  const int64_t block = pages.size(1);
  if (rows.first >= rows.last) return;
  if (rows.first < 0 || rows.sequence < 0 || rows.sequence >= table.size(0) ||
      (rows.last - 1) / block >= table.size(1)) {
    throw_shape(op, "block_table", table.sizes(),
                "entries for row " + std::to_string(rows.last - 1) + " of sequence " +
                    std::to_string(rows.sequence) + " in pages of " + std::to_string(block));
  }
  const int32_t* ids = table.const_data_ptr<int32_t>() + rows.sequence * table.size(1);
  for (int64_t m = rows.first / block; m <= (rows.last - 1) / block; ++m) {
    if (ids[m] >= 0 && ids[m] < pages.size(0)) continue;
    throw_shape(op, "block_table", ids[m],
                "0 to " + std::to_string(pages.size(0) - 1) + " where keys are visible (sequence " +
                    std::to_string(rows.sequence) + ", entry " + std::to_string(m) + ")");
  }
}

void check_options(const AttentionOptions& options) {
  const auto refuse = [](const char* option, double got, const char* allowed) {
    std::ostringstream text;
    text << "[paged_attention] options." << option << " = " << got << ", allowed " << allowed;
    throw ConfigError(text.str());
  };
  if (!std::isfinite(options.scale)) refuse("scale", options.scale, "a finite number");
  if (!(options.softcap >= 0) || !std::isfinite(options.softcap)) {
    refuse("softcap", options.softcap, "0 (off) or a positive finite number");
  }
  if (options.rule.left < -1) refuse("rule.left", static_cast<double>(options.rule.left), ">= -1");
  if (options.rule.right < -1)
    refuse("rule.right", static_cast<double>(options.rule.right), ">= -1");
}

void check_arguments(const at::Tensor& q, const PagedKeys& keys, const at::Tensor& sinks,
                     const Sequences& sequences, const AttentionOptions& options) {
  if (!q.defined()) throw_shape(kOp, "q", "undefined", "a tensor");
  check_heads(kOp, "q", q, 3, q);
  const at::ScalarType type = q.scalar_type();
  if (type != at::kFloat && type != at::kDouble && type != at::kBFloat16 && type != at::kHalf) {
    throw_shape(kOp, "q", type, "float32, float64, bfloat16 or float16");
  }
  check_heads(kOp, "k", keys.k_PBGK, 4, q);
  check_heads(kOp, "v", keys.v_PBGV, 4, q);
  const at::Tensor& k = keys.k_PBGK;
  if (k.size(0) < 1 || k.size(1) < 1) throw_shape(kOp, "k", k.sizes(), "at least one page and row");
  if (k.size(3) != q.size(2) || q.size(1) % k.size(2) != 0) {
    throw_shape(kOp, "k", k.sizes(),
                "head dim " + std::to_string(q.size(2)) + " and heads that divide the " +
                    std::to_string(q.size(1)) + " of q");
  }
  if (keys.v_PBGV.sizes().slice(0, 3) != k.sizes().slice(0, 3)) {
    throw_shape(kOp, "v", keys.v_PBGV.sizes(), "pages, rows and heads of k");
  }
  if (sinks.defined() && (sinks.dim() != 1 || sinks.size(0) != q.size(1) ||
                          !sinks.is_floating_point() || sinks.device() != q.device())) {
    throw_shape(kOp, "sinks", sinks.sizes(),
                "a floating [" + std::to_string(q.size(1)) + "] on the device of q");
  }
  check_sequences(sequences, q.size(0), sequences.cu_k.empty() ? 0 : sequences.cu_k.back(), kOp);
  check_table(kOp, keys.block_table_NM);
  if (keys.block_table_NM.size(0) != sequences.num_sequences()) {
    throw_shape(kOp, "block_table", keys.block_table_NM.sizes(),
                std::to_string(sequences.num_sequences()) + " rows, one a sequence");
  }
  check_options(options);
  if (options.dropout.probability > 0 || options.mask.defined() || options.bias.defined()) {
    throw UnsupportedError(
        "[paged_attention] options.dropout, mask and bias: not through pages in this build; "
        "allowed in ops::attention");
  }
  for (int64_t n = 0; n < sequences.num_sequences(); ++n) {
    const int64_t sq = sequences.cu_q[n + 1] - sequences.cu_q[n];
    const int64_t sk = sequences.cu_k[n + 1] - sequences.cu_k[n];
    if (sq == 0) continue;
    const auto first = internal::visible_keys(options.rule, 0, sq, sk).first;
    check_pages(kOp, keys.block_table_NM, k, {n, first, sk});
  }
}

c10::List<std::optional<at::Tensor>> page_and_row(const at::Tensor& page, const at::Tensor& row) {
  c10::List<std::optional<at::Tensor>> indices;
  indices.push_back(page);
  indices.push_back(row);
  return indices;
}

void store_on_cpu(const at::Tensor& pages, const at::Tensor& x, const int64_t* slots) {
  const int64_t block = pages.size(1), heads = x.size(1);
  const auto size = static_cast<int64_t>(x.element_size());
  const auto bytes = static_cast<size_t>(x.size(2) * size);
  char* to = static_cast<char*>(pages.data_ptr());
  const char* from = static_cast<const char*>(x.const_data_ptr());
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, heads * x.size(2)));
  at::parallel_for(0, x.size(0), grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (slots[t] < 0) continue;
      const int64_t row = slots[t] / block * pages.stride(0) + slots[t] % block * pages.stride(1);
      for (int64_t g = 0; g < heads; ++g) {
        std::memcpy(to + (row + g * pages.stride(2)) * size,
                    from + (t * x.stride(0) + g * x.stride(1)) * size, bytes);
      }
    }
  });
}

}  // namespace

at::Tensor paged_attention(const at::Tensor& q_THK, const PagedKeys& keys,
                           const at::Tensor& sinks_H, const Sequences& sequences,
                           const AttentionOptions& options) {
  check_arguments(q_THK, keys, sinks_H, sequences, options);
  if (at::GradMode::is_enabled() &&
      (q_THK.requires_grad() || keys.k_PBGK.requires_grad() || keys.v_PBGV.requires_grad())) {
    throw UnsupportedError(
        "[paged_attention] gradient: not defined for pages; allowed under at::NoGradGuard");
  }
  const PagedAttentionArguments arguments{q_THK, keys, sinks_H, sequences, options};
  return select_kernel(kOp, kKernels, arguments).run.forward(arguments);
}

void store_pages(const at::Tensor& pages_PBGX, const at::Tensor& x_TGX, const at::Tensor& slots_T) {
  constexpr char kStore[] = "store_pages";
  check_heads(kStore, "pages", pages_PBGX, 4, pages_PBGX);
  check_heads(kStore, "x", x_TGX, 3, pages_PBGX);
  if (x_TGX.sizes().slice(1) != pages_PBGX.sizes().slice(2)) {
    throw_shape(kStore, "x", x_TGX.sizes(), "the heads and channels of pages");
  }
  if (!slots_T.defined() || slots_T.dim() != 1 || slots_T.scalar_type() != at::kLong ||
      !slots_T.device().is_cpu() || !slots_T.is_contiguous() || slots_T.size(0) != x_TGX.size(0)) {
    throw_shape(kStore, "slots", slots_T.defined() ? slots_T.sizes() : at::IntArrayRef(),
                "contiguous int64 [" + std::to_string(x_TGX.size(0)) + "] on the CPU");
  }
  const int64_t* slots = slots_T.const_data_ptr<int64_t>();
  const int64_t rows = pages_PBGX.size(0) * pages_PBGX.size(1);
  for (int64_t t = 0; t < slots_T.size(0); ++t) {
    if (slots[t] >= rows) {
      throw_shape(kStore, "slots", slots[t], "below " + std::to_string(rows) + " rows");
    }
  }
  const at::NoGradGuard no_grad;
  if (pages_PBGX.device().is_cpu()) return store_on_cpu(pages_PBGX, x_TGX, slots);
  const at::Tensor kept = at::nonzero(slots_T.ge(0)).flatten();
  const at::Tensor wanted = slots_T.index_select(0, kept).to(pages_PBGX.device());
  const int64_t block = pages_PBGX.size(1);
  at::Tensor target = pages_PBGX;
  target.index_put_(page_and_row(wanted.div(block, "floor"), wanted.remainder(block)),
                    x_TGX.index_select(0, kept.to(x_TGX.device())));
}

at::Tensor gather_pages(const at::Tensor& pages_PBGX, const at::Tensor& block_table_NM,
                        const std::vector<PageRows>& rows) {
  constexpr char kGather[] = "gather_pages";
  check_heads(kGather, "pages", pages_PBGX, 4, pages_PBGX);
  check_table(kGather, block_table_NM);
  int64_t total = 0;
  for (const PageRows& part : rows) {
    check_pages(kGather, block_table_NM, pages_PBGX, part);
    total += std::max<int64_t>(0, part.last - part.first);
  }
  const int64_t block = pages_PBGX.size(1);
  const at::Tensor page = at::empty({total}, at::kLong), row = at::empty({total}, at::kLong);
  int64_t* page_out = page.data_ptr<int64_t>();
  int64_t* row_out = row.data_ptr<int64_t>();
  for (const PageRows& part : rows) {
    const int32_t* ids =
        block_table_NM.const_data_ptr<int32_t>() + part.sequence * block_table_NM.size(1);
    for (int64_t j = part.first; j < part.last; ++j) {
      *page_out++ = ids[j / block];
      *row_out++ = j % block;
    }
  }
  const at::Device device = pages_PBGX.device();
  return at::index(pages_PBGX, page_and_row(page.to(device), row.to(device)));
}

}  // namespace headway::ops
