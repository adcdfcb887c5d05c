// Checks boundaries with gaps and turns them into sequences without. Not for: attention.
#include "headway/ops/packed_boundaries.h"

#include <algorithm>
#include <string>

#include <ATen/ops/empty.h>

#include "headway/base/error.h"

namespace headway::ops {
namespace {

[[noreturn]] void fail(const std::string& what, const std::string& got,
                       const std::string& allowed) {
  throw ShapeError("[packed_sequences] " + what + " = " + got + ", allowed " + allowed);
}

/// Rows of one sequence and of the padding behind it.
struct Run {
  int64_t rows = 0;
  int64_t padding = 0;
};

/// One sequence of queries and keys.
struct Piece {
  Run q;
  Run k;
  bool is_empty() const { return q.rows + q.padding + k.rows + k.padding == 0; }
};

void check_boundaries(const std::vector<int64_t>& cu, const std::string& name, int64_t rows) {
  if (cu.empty() || cu.front() != 0) {
    fail(name, cu.empty() ? "empty" : "from " + std::to_string(cu.front()), "boundaries from 0");
  }
  for (size_t n = 1; n < cu.size(); ++n) {
    if (cu[n] >= cu[n - 1]) continue;
    fail(name + "[" + std::to_string(n) + "]", std::to_string(cu[n]),
         "at least " + std::to_string(cu[n - 1]) + ", the boundary before");
  }
  if (cu.back() > rows) {
    fail(name, "ends at " + std::to_string(cu.back()), "at most " + std::to_string(rows) + " rows");
  }
}

/// The lists of one side: its own names in messages.
class Side {
 public:
  Side(const char* suffix, const std::vector<int64_t>& cu,
       const std::optional<std::vector<int64_t>>& padded, int64_t rows)
      : cu_name_(std::string("cu_seqlens_") + suffix),
        max_name_(std::string("max_seqlen_") + suffix),
        padded_name_(cu_name_ + "_padded"),
        rows_(rows) {
    check_boundaries(cu, cu_name_, rows);
    if (padded) check_padded(cu, *padded);
    const std::vector<int64_t>& ends = padded ? *padded : cu;
    for (size_t n = 0; n + 1 < cu.size(); ++n) {
      const int64_t length = cu[n + 1] - cu[n];
      runs_.push_back({length, ends[n + 1] - ends[n] - length});
    }
    end_ = ends.back();
  }

  /// Padding counts as part of its sequence.
  void fill_gaps() {
    for (Run& run : runs_) run = {run.rows + run.padding, 0};
  }

  void finish_tail(TailPolicy policy) {
    const int64_t tail = rows_ - end_;
    switch (policy) {
      case TailPolicy::kRefuse:
        if (tail == 0) return;
        fail(runs_.empty() || !padded_ ? cu_name_ : padded_name_, "ends at " + std::to_string(end_),
             std::to_string(rows_) +
                 ", the number of rows; hint: tail policy append_dummy_seq or extend_last");
      case TailPolicy::kAppendDummySequence:
        runs_.push_back({tail, 0});
        return;
      case TailPolicy::kExtendLast:
        if (tail == 0) return;
        if (runs_.empty()) fail(cu_name_, "[0]", "a sequence that extend_last can extend");
        runs_.back().padding += tail;
        return;
    }
    throw InternalError("[packed_sequences] tail policy is not in the enum");
  }

  void check_longest(const std::optional<int64_t>& given) const {
    int64_t longest = 0;
    for (const Run& run : runs_) longest = std::max(longest, run.rows);
    if (!given || *given >= longest) return;
    fail(max_name_, std::to_string(*given),
         "at least " + std::to_string(longest) + ", the longest sequence");
  }

  const std::vector<Run>& runs() const { return runs_; }
  const std::string& name() const { return cu_name_; }

 private:
  void check_padded(const std::vector<int64_t>& cu, const std::vector<int64_t>& padded) {
    padded_ = true;
    check_boundaries(padded, padded_name_, rows_);
    if (padded.size() != cu.size()) {
      fail(padded_name_, std::to_string(padded.size()) + " boundaries",
           "as many as " + cu_name_ + " (= " + std::to_string(cu.size()) + ")");
    }
    for (size_t n = 0; n + 1 < cu.size(); ++n) {
      const int64_t length = cu[n + 1] - cu[n];
      const int64_t room = padded[n + 1] - padded[n];
      if (room >= length) continue;
      fail(padded_name_, std::to_string(room) + " rows for sequence " + std::to_string(n),
           "at least its length (= " + std::to_string(length) + ")");
    }
  }

  std::string cu_name_;
  std::string max_name_;
  std::string padded_name_;
  int64_t rows_;
  int64_t end_ = 0;
  bool padded_ = false;
  std::vector<Run> runs_;
};

std::vector<Piece> pieces_of(const PackedBoundaries& b, int64_t rows_q, int64_t rows_kv) {
  const bool shared = b.cu_seqlens_kv.empty() && !b.cu_seqlens_kv_padded;
  const std::vector<int64_t>& cu_kv = b.cu_seqlens_kv.empty() ? b.cu_seqlens_q : b.cu_seqlens_kv;
  Side q("q", b.cu_seqlens_q, b.cu_seqlens_q_padded, rows_q);
  Side kv("kv", cu_kv, shared ? b.cu_seqlens_q_padded : b.cu_seqlens_kv_padded, rows_kv);
  if (q.runs().size() != kv.runs().size()) {
    fail(kv.name(), std::to_string(kv.runs().size() + 1) + " boundaries",
         "as many as " + q.name() + " (= " + std::to_string(q.runs().size() + 1) + ")");
  }
  for (Side* side : {&q, &kv}) {
    if (b.pad_between_seqs == false) side->fill_gaps();
    side->finish_tail(b.tail);
  }
  q.check_longest(b.max_seqlen_q);
  kv.check_longest(b.max_seqlen_kv);
  std::vector<Piece> pieces;
  for (size_t n = 0; n < q.runs().size(); ++n) pieces.push_back({q.runs()[n], kv.runs()[n]});
  return pieces;
}

/// Boundaries and positions, one sequence after the other.
class Builder {
 public:
  void add(const Piece& piece) {
    append(piece.q.rows, piece.k.rows, true);
    if (piece.q.padding > 0) append(piece.q.padding, 0, false);
    if (piece.k.padding > 0) append(0, piece.k.padding, false);
  }

  Sequences take() {
    sequences_.positions = at::empty({static_cast<int64_t>(positions_.size())}, at::kLong);
    std::copy(positions_.begin(), positions_.end(), sequences_.positions.data_ptr<int64_t>());
    return std::move(sequences_);
  }

 private:
  void append(int64_t queries, int64_t keys, bool counts) {
    sequences_.cu_q.push_back(sequences_.cu_q.back() + queries);
    sequences_.cu_k.push_back(sequences_.cu_k.back() + keys);
    sequences_.max_q = std::max(sequences_.max_q, queries);
    sequences_.max_k = std::max(sequences_.max_k, keys);
    const int64_t reach = counts ? queries : std::min<int64_t>(queries, 1);
    sequences_.position_limit = std::max(sequences_.position_limit, reach);
    for (int64_t i = 0; i < queries; ++i) positions_.push_back(counts ? i : 0);
  }

  Sequences sequences_;
  std::vector<int64_t> positions_;
};

}  // namespace

Sequences sequences_of(const PackedBoundaries& boundaries, int64_t rows_q, int64_t rows_kv) {
  Builder builder;
  for (const Piece& piece : pieces_of(boundaries, rows_q, rows_kv)) builder.add(piece);
  return builder.take();
}

Sequences merged_sequences(const std::vector<PackedBoundaries>& samples, int64_t rows) {
  Builder builder;
  for (const PackedBoundaries& sample : samples) {
    for (const Piece& piece : pieces_of(sample, rows, rows)) {
      if (!piece.is_empty()) builder.add(piece);
    }
  }
  return builder.take();
}

at::Tensor key_positions(const Sequences& sequences) {
  at::Tensor positions = at::empty({sequences.cu_k.back()}, at::kLong);
  int64_t* out = positions.data_ptr<int64_t>();
  for (size_t n = 0; n + 1 < sequences.cu_k.size(); ++n) {
    const int64_t first = sequences.cu_k[n];
    const bool seen = sequences.cu_q[n + 1] > sequences.cu_q[n];
    for (int64_t s = first; s < sequences.cu_k[n + 1]; ++s) out[s] = seen ? s - first : 0;
  }
  return positions;
}

}  // namespace headway::ops
