// Parameters of several processes compared: threads stand for processes here.
// Not for: MPI (tests/dist).
#include "headway/engine/replica_check.h"

#include <barrier>
#include <cmath>
#include <functional>
#include <mutex>
#include <thread>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::engine {
namespace {

using Named = std::vector<std::pair<std::string, at::Tensor>>;

/// What the ranks share.
struct Board {
  explicit Board(int64_t ranks) : ranks(ranks), gate(ranks) {}
  int64_t ranks;
  std::barrier<> gate;
  std::mutex mutex;
  at::Tensor value;
};

class ThreadTransport : public dist::Transport {
 public:
  ThreadTransport(Board& board, int64_t rank) : board_(&board), rank_(rank) {}
  std::string_view name() const override { return "threads"; }
  int64_t rank() const override { return rank_; }
  int64_t size() const override { return board_->ranks; }
  void all_reduce_sum(at::Tensor& tensor) const override {
    exchange(tensor, [&] {
      board_->value = board_->value.defined() ? board_->value + tensor : tensor.clone();
    });
  }
  void broadcast(at::Tensor& tensor, int64_t root) const override {
    exchange(tensor, [&] {
      if (rank_ == root) board_->value = tensor.clone();
    });
  }
  void barrier() const override { board_->gate.arrive_and_wait(); }

 private:
  void exchange(at::Tensor& tensor, const std::function<void()>& give) const {
    barrier();
    {
      const std::lock_guard lock(board_->mutex);
      give();
    }
    barrier();
    tensor.copy_(board_->value);
    barrier();
    if (rank_ == 0) board_->value.reset();
    barrier();
  }

  Board* board_;
  int64_t rank_;
};

/// What every rank's check says; "" for nothing.
std::vector<std::string> check_all(const std::vector<Named>& ranks) {
  Board board(static_cast<int64_t>(ranks.size()));
  std::vector<std::string> said(ranks.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    threads.emplace_back([&, rank] {
      try {
        check_replicas(ranks[rank], ThreadTransport(board, static_cast<int64_t>(rank)));
      } catch (const InternalError& error) {
        said[rank] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return said;
}

Named norms() {
  return {{"layers.0.mixer.q_norm.weight", at::full({8}, 1.5)},
          {"layers.0.mixer.k_norm.weight", at::full({8}, 0.75, at::kBFloat16)},
          {"layers.1.mixer.q_norm.bias", at::full({3}, 2.0, at::kDouble)}};
}

TEST(ReplicaCheck, EqualParametersPass) {
  EXPECT_THAT(check_all({norms()}), testing::Each(""));
  EXPECT_THAT(check_all({norms(), norms(), norms()}), testing::Each(""));
  EXPECT_THAT(check_all({Named{}, Named{}}), testing::Each(""));
}

TEST(ReplicaCheck, OneUnitInTheLastPlaceOfOneRankIsNamed) {
  std::vector<Named> ranks = {norms(), norms(), norms()};
  at::Tensor weight = ranks[2][0].second;
  weight[5] = std::nextafter(1.5f, 2.0f);
  for (const std::string& said : check_all(ranks)) {
    EXPECT_THAT(said, testing::HasSubstr("layers.0.mixer.q_norm.weight of rank 2 and rank 0 along "
                                         "dp: allowed equal bits"));
    EXPECT_THAT(said, testing::HasSubstr("difference is 1.19209"));
  }
}

TEST(ReplicaCheck, EveryByteCounts) {
  for (size_t i = 0; i < norms().size(); ++i) {
    std::vector<Named> ranks = {norms(), norms()};
    const at::Tensor tensor = ranks[1][i].second;
    auto* bytes = static_cast<unsigned char*>(tensor.data_ptr());
    bytes[tensor.nbytes() - 1] ^= 0x40;
    for (const std::string& said : check_all(ranks)) {
      EXPECT_THAT(said, testing::HasSubstr(norms()[i].first + " of rank 1"));
    }
  }
}

TEST(ReplicaCheck, HashesDependOnShapeTypeAndOrder) {
  const at::Tensor x = at::arange(6, at::kFloat);
  EXPECT_EQ(tensor_hash(x), tensor_hash(x.clone()));
  EXPECT_NE(tensor_hash(x), tensor_hash(x.view({2, 3})));
  EXPECT_NE(tensor_hash(x), tensor_hash(x.flip({0})));
  EXPECT_NE(tensor_hash(at::zeros({2})), tensor_hash(at::zeros({2}, at::kInt)));
  EXPECT_EQ(tensor_hash(x.view({2, 3}).t()), tensor_hash(x.view({2, 3}).t().contiguous()));
}

}  // namespace
}  // namespace headway::engine
