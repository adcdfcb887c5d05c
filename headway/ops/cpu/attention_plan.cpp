// Cuts a call of the CPU attention into tiles, blocks and tasks. Not for: arithmetic.
#include "headway/ops/cpu/attention_plan.h"

#include <ATen/Functions.h>

#include "headway/ops/internal/dropout.h"
#include "headway/ops/internal/tasks.h"

namespace headway::ops::cpu {
namespace {

constexpr int64_t kAlign = 16;  // floats: 64 bytes

Element element_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kBFloat16:
      return Element::kBFloat16;
    case at::kHalf:
      return Element::kHalf;
    default:
      return Element::kFloat;
  }
}

}  // namespace

HeadsView view_of(const at::Tensor& tensor_THX) {
  return {tensor_THX.data_ptr(), tensor_THX.stride(0), tensor_THX.stride(1)};
}

AttentionProblem make_problem(const internal::AttentionArguments& a, at::Tensor& sinks) {
  AttentionProblem problem;
  problem.element = element_of(a.q);
  problem.q = view_of(a.q);
  problem.k = view_of(a.k);
  problem.v = view_of(a.v);
  if (a.sinks.defined()) {
    sinks = a.sinks.to(at::kFloat).contiguous();
    problem.sinks = sinks.const_data_ptr<float>();
  }
  problem.tokens = a.q.size(0);
  problem.group_heads = a.q.size(1) / a.k.size(1);
  problem.key_dim = a.k.size(2);
  problem.value_dim = a.v.size(2);
  problem.key_width = round_up(problem.key_dim, kAlign);
  problem.value_width = round_up(problem.value_dim, kAlign);
  problem.scale = static_cast<float>(a.options.scale);
  problem.softcap = static_cast<float>(a.options.softcap);
  problem.rule = a.options.rule;
  const AttentionDropout& dropout = a.options.dropout;
  if (dropout.probability > 0) {
    problem.drops = true;
    problem.drop_threshold = internal::dropout_threshold(dropout.probability);
    problem.kept_factor = static_cast<float>(internal::dropout_factor(dropout.probability));
    problem.drop_key = dropout.key;
  }
  return problem;
}

std::optional<SequenceSpan> make_span(const internal::AttentionArguments& a, int64_t n) {
  SequenceSpan span{a.cu_q[n], a.cu_q[n + 1] - a.cu_q[n], a.cu_k[n], a.cu_k[n + 1] - a.cu_k[n], 0,
                    0};
  if (span.sq == 0) return std::nullopt;
  span.key_first = span.visible(a.options.rule, 0).first;
  span.key_last = std::max(span.key_first, span.visible(a.options.rule, span.sq - 1).last);
  return span;
}

std::vector<SequenceSpan> make_spans(const internal::AttentionArguments& a) {
  std::vector<SequenceSpan> spans;
  for (size_t n = 0; n + 1 < a.cu_q.size(); ++n) {
    if (const auto span = make_span(a, static_cast<int64_t>(n))) spans.push_back(*span);
  }
  return spans;
}

PackedKeys::PackedKeys(const AttentionProblem& p, const std::vector<const SequenceSpan*>& spans,
                       int64_t groups, Copies copies)
    : groups_(groups), tile_keys_(copies == Copies::kForward ? kForwardTile : kBackwardTile) {
  const bool forward = copies == Copies::kForward;
  int64_t size = 0;
  const auto place = [&](int64_t rows, int64_t width) {
    const int64_t offset = size;
    size += round_up(rows * width, kAlign);
    return offset;
  };
  // Two walks: the first sizes the memory, the second hands it out.
  for (float* base = nullptr;;) {
    size = 0;
    lists_.clear();
    for (const SequenceSpan* span : spans) {
      for (int64_t group = 0; group < groups; ++group) {
        TileList list{span, group, {}};
        for (int64_t first = span->key_first; first < span->key_last; first += tile_keys_) {
          KeyTile tile;
          tile.first = first;
          tile.count = std::min(tile_keys_, span->key_last - first);
          tile.width = round_up(tile.count, kWidth);
          const int64_t keys_t = place(p.key_dim, tile.width);
          const int64_t values =
              forward ? place(tile.count, p.value_width) : place(p.value_dim, tile.width);
          const int64_t keys = forward ? 0 : place(tile.count, p.key_width);
          if (base) {
            tile.keys_t = base + keys_t;
            (forward ? tile.values : tile.values_t) = base + values;
            if (!forward) tile.keys = base + keys;
          }
          list.tiles.push_back(tile);
        }
        lists_.push_back(std::move(list));
      }
    }
    if (base || size == 0) return;
    memory_ = at::empty({size}, at::kFloat);
    base = memory_.data_ptr<float>();
  }
}

int64_t workers_for(const AttentionProblem& p, const std::vector<SequenceSpan>& spans,
                    int64_t groups) {
  // About what waking a thread costs, in multiply-adds.
  constexpr int64_t kProductsPerWorker = 64 * 1024;
  int64_t products = 0;
  for (const SequenceSpan& span : spans) {
    QueryBlock whole;
    whole.sequence = &span;
    whole.count = span.sq;
    products += cost_of(p, whole) * groups * p.group_heads * (p.key_dim + p.value_dim);
  }
  return std::clamp<int64_t>(products / kProductsPerWorker, 1, internal::num_workers());
}

void PackedKeys::pack(const AttentionProblem& p, int64_t workers) const {
  struct Item {
    const TileList* list;
    const KeyTile* tile;
  };
  std::vector<Item> items;
  for (const TileList& list : lists_) {
    for (const KeyTile& tile : list.tiles) items.push_back({&list, &tile});
  }
  internal::run_tasks(workers, static_cast<int64_t>(items.size()), [&](int64_t, int64_t i) {
    pack_tile(p, *items[i].list->span, items[i].list->group, *items[i].tile);
  });
}

std::vector<QueryBlock> make_blocks(const AttentionProblem& p, const TileList& list,
                                    int64_t tile_keys) {
  const int64_t tokens = std::max<int64_t>(1, kBlockRows / p.group_heads);
  std::vector<QueryBlock> blocks;
  for (int64_t first = 0; first < list.span->sq; first += tokens) {
    QueryBlock block;
    block.sequence = list.span;
    block.group = list.group;
    block.first = first;
    block.count = std::min(tokens, list.span->sq - first);
    block.tiles = list.tiles.data();
    block.num_tiles = static_cast<int64_t>(list.tiles.size());
    block.tile_keys = tile_keys;
    blocks.push_back(block);
  }
  return blocks;
}

int64_t cost_of(const AttentionProblem& p, const QueryBlock& block) {
  const auto first = block.sequence->visible(p.rule, block.first);
  const auto last = block.sequence->visible(p.rule, block.first + block.count - 1);
  const int64_t keys =
      std::max<int64_t>(0, first.last - first.first) + std::max<int64_t>(0, last.last - last.first);
  // The constant stands for what a block costs besides its scores.
  return (keys / 2 + 16) * block.count;
}

}  // namespace headway::ops::cpu
