// Drives the CPU attention kernels: memory, tasks, order of sums. Not for: arithmetic.
#include "headway/ops/cpu/attention_cpu.h"

#include <ATen/Functions.h>

#include "headway/ops/cpu/attention_plan.h"
#include "headway/ops/internal/tasks.h"

namespace headway::ops::cpu {
namespace {

using internal::AttentionArguments;

// Up to so many rows (queries x heads of a kv head) a sequence takes the streaming path.
constexpr int64_t kDecodeRows = 16;
// Backward tasks aimed at per worker: enough to balance, few enough to keep partial sums small.
constexpr int64_t kTasksPerWorker = 3;

class Scratch {
 public:
  Scratch(int64_t workers, int64_t floats)
      : stride_(round_up(floats, 16)), memory_(at::empty({stride_ * workers}, at::kFloat)) {}
  float* of(int64_t worker) const { return memory_.data_ptr<float>() + worker * stride_; }

 private:
  int64_t stride_;
  at::Tensor memory_;
};

/// One sequence and kv head on the streaming path, and where its states lie.
struct DecodeItem {
  const SequenceSpan* span;
  int64_t group;
  std::vector<internal::KeyRange> chunks;
  std::vector<DecodeState> states;
};

class DecodePlan {
 public:
  DecodePlan(const AttentionProblem& p, const std::vector<const SequenceSpan*>& spans,
             int64_t groups) {
    int64_t size = 0;
    for (const SequenceSpan* span : spans) {
      const int64_t rows = span->sq * p.group_heads;
      rows_ = std::max(rows_, rows);
      for (int64_t group = 0; group < groups; ++group) {
        DecodeItem item{span, group, {}, {}};
        int64_t first = span->key_first;
        do {  // one chunk even without keys: its state says so
          item.chunks.push_back({first, std::min(span->key_last, first + kDecodeChunk)});
          size += round_up(rows * (p.value_width + 2), 16);
          first += kDecodeChunk;
        } while (first < span->key_last);
        items_.push_back(std::move(item));
      }
    }
    memory_ = at::empty({size}, at::kFloat);
    float* next = memory_.data_ptr<float>();
    for (size_t i = 0; i < items_.size(); ++i) {
      const int64_t rows = items_[i].span->sq * p.group_heads;
      for (size_t c = 0; c < items_[i].chunks.size(); ++c) {
        items_[i].states.push_back(
            {next + rows * p.value_width, next + rows * (p.value_width + 1), next});
        tasks_.push_back({i, c});
        next += round_up(rows * (p.value_width + 2), 16);
      }
    }
  }

  int64_t rows() const { return rows_; }
  int64_t num_tasks() const { return static_cast<int64_t>(tasks_.size()); }
  void run(const AttentionProblem& p, int64_t task, float* scratch) const {
    const DecodeItem& item = items_[tasks_[task].first];
    const size_t chunk = tasks_[task].second;
    decode_chunk(p, *item.span, item.group, item.chunks[chunk], item.states[chunk], scratch);
    if (item.chunks.size() == 1) decode_finish(p, *item.span, item.group, item.states.data(), 1);
  }
  void finish(const AttentionProblem& p, int64_t workers) const {
    std::vector<const DecodeItem*> open;
    for (const DecodeItem& item : items_) {
      if (item.chunks.size() > 1) open.push_back(&item);
    }
    internal::run_tasks(workers, static_cast<int64_t>(open.size()), [&](int64_t, int64_t i) {
      const auto& states = open[i]->states;
      decode_finish(p, *open[i]->span, open[i]->group, states.data(),
                    static_cast<int64_t>(states.size()));
    });
  }

 private:
  int64_t rows_ = 0;
  std::vector<DecodeItem> items_;
  std::vector<std::pair<size_t, size_t>> tasks_;  // item, chunk
  at::Tensor memory_;
};

/// Consecutive blocks of one sequence and kv head, and the sums they own.
struct BackwardTask {
  const QueryBlock* blocks;
  int64_t count;
  BackwardPart part;
};

/// Sums of one sequence and kv head: tasks [first, last).
struct BackwardGroup {
  const TileList* list;
  size_t first, last;
};

class BackwardPlan {
 public:
  BackwardPlan(const AttentionProblem& p, const PackedKeys& keys,
               const std::vector<SequenceSpan>& spans, int64_t groups, int64_t workers)
      : blocks_(spans.size() * groups) {
    int64_t total = 0;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      blocks_[i] = make_blocks(p, keys.of(i / groups, i % groups), keys.tile_keys());
      for (const QueryBlock& block : blocks_[i]) total += cost_of(p, block);
    }
    const int64_t target = total / (workers * kTasksPerWorker) + 1;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const size_t first = tasks_.size();
      cut(p, blocks_[i], target);
      groups_.push_back({&keys.of(i / groups, i % groups), first, tasks_.size()});
    }
    hand_out(p);
  }

  const std::vector<BackwardTask>& tasks() const { return tasks_; }
  const std::vector<BackwardGroup>& groups() const { return groups_; }

 private:
  /// Tasks of about equal cost, at most about `target` each.
  void cut(const AttentionProblem& p, const std::vector<QueryBlock>& blocks, int64_t target) {
    int64_t whole = 0;
    for (const QueryBlock& block : blocks) whole += cost_of(p, block);
    const int64_t parts = std::max<int64_t>(1, (whole + target / 2) / target);
    size_t begin = 0;
    int64_t done = 0;
    for (size_t b = 0; b < blocks.size(); ++b) {
      done += cost_of(p, blocks[b]);
      const int64_t closed = static_cast<int64_t>(tasks_.size() - first_of_group_);
      if (b + 1 < blocks.size() && done * parts < whole * (closed + 1)) continue;
      tasks_.push_back({&blocks[begin], static_cast<int64_t>(b + 1 - begin),
                        part_of(p, blocks[begin], blocks[b])});
      begin = b + 1;
    }
    first_of_group_ = tasks_.size();
  }

  /// Keys a run of blocks sees, from the start of a tile.
  static BackwardPart part_of(const AttentionProblem& p, const QueryBlock& front,
                              const QueryBlock& back) {
    const SequenceSpan& span = *front.sequence;
    const int64_t first = span.visible(p.rule, front.first).first;
    const int64_t last = span.visible(p.rule, back.first + back.count - 1).last;
    BackwardPart part;
    part.key_first = span.key_first;
    if (last > first) {
      part.key_first += (first - span.key_first) / kBackwardTile * kBackwardTile;
      part.key_count = last - part.key_first;
    }
    return part;
  }

  void hand_out(const AttentionProblem& p) {
    int64_t size = 0;
    for (const BackwardTask& task : tasks_) {
      size += round_up(task.part.key_count, kBackwardTile) * (p.key_width + p.value_width);
    }
    memory_ = at::empty({size}, at::kFloat);
    float* next = memory_.data_ptr<float>();
    for (BackwardTask& task : tasks_) {
      const int64_t rows = round_up(task.part.key_count, kBackwardTile);
      task.part.dk = next;
      task.part.dv = next + rows * p.key_width;
      next += rows * (p.key_width + p.value_width);
    }
    if (!p.sinks) return;
    d_sinks_.resize(tasks_.size() * p.group_heads);
    for (size_t i = 0; i < tasks_.size(); ++i)
      tasks_[i].part.d_sinks = &d_sinks_[i * p.group_heads];
  }

  std::vector<std::vector<QueryBlock>> blocks_;
  std::vector<BackwardTask> tasks_;
  std::vector<BackwardGroup> groups_;
  size_t first_of_group_ = 0;
  std::vector<double> d_sinks_;
  at::Tensor memory_;
};

void run_backward(const AttentionProblem& p, const BackwardPlan& plan, int64_t workers) {
  const Scratch scratch(workers, backward_scratch(p));
  const auto& tasks = plan.tasks();
  internal::run_tasks(workers, static_cast<int64_t>(tasks.size()), [&](int64_t worker, int64_t i) {
    const BackwardPart& part = tasks[i].part;
    const int64_t rows = round_up(part.key_count, kBackwardTile);
    std::fill_n(part.dk, rows * (p.key_width + p.value_width), 0.0f);
    for (int64_t b = 0; b < tasks[i].count; ++b)
      backward_block(p, tasks[i].blocks[b], part, scratch.of(worker));
  });
}

/// dk and dv: the parts of each tile in order of their queries; dk and dv start as zeros.
void combine_keys(const AttentionProblem& p, const BackwardPlan& plan, int64_t workers,
                  const at::Tensor& dk, const at::Tensor& dv) {
  struct Item {
    const BackwardGroup* group;
    const KeyTile* tile;
  };
  std::vector<Item> items;
  for (const BackwardGroup& group : plan.groups()) {
    for (const KeyTile& tile : group.list->tiles) items.push_back({&group, &tile});
  }
  const HeadsView dk_view = view_of(dk), dv_view = view_of(dv);
  internal::run_tasks(workers, static_cast<int64_t>(items.size()), [&](int64_t, int64_t i) {
    const BackwardGroup& group = *items[i].group;
    const KeyTile& tile = *items[i].tile;
    std::vector<const float*> dk_rows, dv_rows;
    for (size_t task = group.first; task < group.last; ++task) {
      const BackwardPart& part = plan.tasks()[task].part;
      const int64_t offset = tile.first - part.key_first;
      if (offset < 0 || offset >= part.key_count) continue;
      dk_rows.push_back(part.dk + offset * p.key_width);
      dv_rows.push_back(part.dv + offset * p.value_width);
    }
    const auto count = static_cast<int64_t>(dk_rows.size());
    const int64_t row0 = group.list->span->k0 + tile.first, head = group.list->group;
    store_row_sums(
        p.element,
        {dk_rows.data(), count, tile.count, p.key_dim, p.key_width, p.key_gradient_factor()},
        dk_view, row0, head);
    store_row_sums(p.element, {dv_rows.data(), count, tile.count, p.value_dim, p.value_width, 1.0f},
                   dv_view, row0, head);
  });
}

at::Tensor combine_sinks(const AttentionProblem& p, const BackwardPlan& plan,
                         const at::Tensor& sinks) {
  at::Tensor total = at::zeros(sinks.sizes(), at::kDouble);
  double* out = total.data_ptr<double>();
  for (const BackwardGroup& group : plan.groups()) {
    for (size_t task = group.first; task < group.last; ++task) {
      for (int64_t h = 0; h < p.group_heads; ++h) {
        out[group.list->group * p.group_heads + h] += plan.tasks()[task].part.d_sinks[h];
      }
    }
  }
  return total.to(sinks.scalar_type());
}

}  // namespace

Support attention_supports(const AttentionArguments& a) {
  if (!a.q.device().is_cpu())
    return Support::no("device " + a.q.device().str() + " is not the CPU");
  if (a.q.scalar_type() == at::kDouble)
    return Support::no("float64 is computed by the reference only");
  if (a.options.mask.defined())
    return Support::no("masks given as tensors are computed by the reference only");
  if (a.options.bias.defined()) return Support::no("a bias is computed by the reference only");
  return Support::yes();
}

internal::AttentionForward attention_forward(const AttentionArguments& a) {
  const TargetScope target(forced_target("attention"));
  at::Tensor sinks;
  AttentionProblem p = make_problem(a, sinks);
  internal::AttentionForward result{
      at::empty({a.q.size(0), a.q.size(1), a.v.size(2)}, a.q.options()),
      at::empty({a.q.size(1), a.q.size(0)}, a.q.options().dtype(at::kDouble))};
  p.out = view_of(result.out);
  p.lse = result.lse.data_ptr<double>();
  forward_spans(p, make_spans(a), a.k.size(1));
  return result;
}

void forward_spans(const AttentionProblem& p, const std::vector<SequenceSpan>& spans,
                   int64_t groups) {
  std::vector<const SequenceSpan*> few, many;
  for (const SequenceSpan& span : spans) {
    (span.sq == 1 || span.sq * p.group_heads <= kDecodeRows ? few : many).push_back(&span);
  }
  const int64_t workers = workers_for(p, spans, groups);
  const DecodePlan decode(p, few, groups);
  const PackedKeys keys(p, many, groups, Copies::kForward);
  keys.pack(p, workers);
  std::vector<QueryBlock> blocks;
  for (size_t i = 0; i < many.size(); ++i) {
    for (int64_t group = 0; group < groups; ++group) {
      const auto more = make_blocks(p, keys.of(i, group), keys.tile_keys());
      // Late queries see most keys: longest tasks first.
      blocks.insert(blocks.end(), more.rbegin(), more.rend());
    }
  }
  const Scratch scratch(workers, std::max(forward_scratch(p), decode_scratch(p, decode.rows())));
  const auto num_blocks = static_cast<int64_t>(blocks.size());
  internal::run_tasks(workers, num_blocks + decode.num_tasks(), [&](int64_t worker, int64_t task) {
    if (task < num_blocks) {
      forward_block(p, blocks[task], scratch.of(worker));
    } else {
      decode.run(p, task - num_blocks, scratch.of(worker));
    }
  });
  decode.finish(p, workers);
}

internal::AttentionGradients attention_backward(const AttentionArguments& a,
                                                const internal::AttentionBackwardArguments& b) {
  const TargetScope target(forced_target("attention"));
  at::Tensor sinks;
  AttentionProblem p = make_problem(a, sinks);
  const at::Tensor dq = at::empty(a.q.sizes(), a.q.options());
  const at::Tensor dk = at::zeros(a.k.sizes(), a.k.options());
  const at::Tensor dv = at::zeros(a.v.sizes(), a.v.options());
  p.out = view_of(b.forward.out);
  p.d_out = view_of(b.d_out);
  p.dq = view_of(dq);
  const at::Tensor lse = b.forward.lse.to(at::kDouble).contiguous();
  p.lse = lse.data_ptr<double>();

  const std::vector<SequenceSpan> spans = make_spans(a);
  std::vector<const SequenceSpan*> all;
  for (const SequenceSpan& span : spans) all.push_back(&span);
  const PackedKeys keys(p, all, a.k.size(1), Copies::kBackward);
  const int64_t workers = workers_for(p, spans, a.k.size(1));
  keys.pack(p, workers);
  const BackwardPlan plan(p, keys, spans, a.k.size(1), workers);
  run_backward(p, plan, workers);
  combine_keys(p, plan, workers, dk, dv);
  internal::AttentionGradients gradients;
  if (b.q) gradients.q = dq;
  if (b.k) gradients.k = dk;
  if (b.v) gradients.v = dv;
  if (b.sinks) gradients.sinks = combine_sinks(p, plan, a.sinks);
  return gradients;
}

}  // namespace headway::ops::cpu
