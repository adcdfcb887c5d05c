// AdamW of the rows that tokens reached: equal to the dense update where all are, state and memory
// of the others saved, gradients as sparse tensors.
#include "headway/engine/sparse_rows.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/engine/optimizer.h"
#include "headway/nn/transformer.h"

#include "tests/support/message_of.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

using ::testing::HasSubstr;
using testing_support::message_of;

constexpr const char* kTable = "per_layer.table.weight";

/// A model and its optimizer, trained on the given tokens.
struct TableRun {
  TableRun(at::ScalarType type, bool sparse) : model(test::tiny_gemma4(), type) {
    model.parameters().initialise(3);
    model.set_row_sparse_gradients(sparse);
    config.sparse_rows = sparse;
    config.clip = 0.05;  // below the norms of this model: always divides
    optimizer.emplace(model.parameters(), config);
  }

  void step(const std::vector<at::Tensor>& micro_batches) {
    optimizer->zero_grad();
    for (const at::Tensor& ids : micro_batches) {
      const at::Tensor h = model.forward(ids, ops::equal_sequences(1, ids.numel()));
      model.loss(h, ids).loss.backward();
      optimizer->collect();
    }
    norm = optimizer->clip();
    optimizer->step(++steps, 0.01);
  }
  at::Tensor table() const { return model.parameters().get(kTable).detach(); }

  nn::Transformer model;
  config::OptimizerConfig config;
  std::optional<Optimizer> optimizer;
  int64_t steps = 0;
  double norm = 0;
};

at::Tensor all_ids() { return at::arange(0, 31, at::kLong).mul(7).remainder(31); }

TEST(SparseRows, WhereEveryStepReachesAllRowsItIsTheDenseUpdate) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    SCOPED_TRACE(c10::toString(type));
    TableRun sparse(type, true), dense(type, false);
    for (int i = 0; i < 3; ++i) {
      sparse.step({all_ids()});
      dense.step({all_ids()});
      EXPECT_DOUBLE_EQ(sparse.norm, dense.norm);
    }
    for (size_t i = 0; i < sparse.model.parameters().tensors().size(); ++i) {
      EXPECT_TRUE(test::same_bits(sparse.model.parameters().tensors()[i].detach(),
                                  dense.model.parameters().tensors()[i].detach()))
          << sparse.model.parameters().specs()[i].name;
    }
    EXPECT_EQ(sparse.optimizer->sparse_rows(), 31);
    EXPECT_EQ(dense.optimizer->sparse_rows(), std::nullopt);
  }
}

TEST(SparseRows, MicroBatchesAddUpAndOtherRowsStay) {
  TableRun run(at::kFloat, true);
  const at::Tensor before = run.table().clone();
  run.step({at::tensor({4, 4, 9}, at::kLong), at::tensor({9, 2, 2}, at::kLong)});
  EXPECT_EQ(run.optimizer->sparse_rows(), 3);
  const at::Tensor moved = run.table().ne(before).any(1);
  EXPECT_EQ(test::to_integers(moved.nonzero().flatten()), (std::vector<int64_t>{2, 4, 9}));
  const at::Tensor after = run.table().clone();
  run.step({at::tensor({9, 1}, at::kLong)});
  EXPECT_TRUE(test::same_bits(run.table()[4], after[4]));
  EXPECT_EQ(run.optimizer->sparse_rows(), 4);
}

TEST(SparseRows, MemoryIsThatOfTheRowsReached) {
  TableRun sparse(at::kFloat, true), dense(at::kFloat, false);
  at::Tensor table = at::zeros({100000, 8}).set_requires_grad(true);
  SparseRows rows(table);
  const int64_t empty = rows.bytes();
  rows.update(at::tensor({5, 70000}, at::kLong), at::ones({2, 8}), {}, {1, 0.1});
  EXPECT_EQ(empty, 100000 * 8);  // the slots
  EXPECT_EQ(rows.rows_reached(), 2);
  EXPECT_LE(rows.bytes() - empty, 1024 * (2 * 8 * 4 + 8));
  EXPECT_LT(table.detach()[70000][0].item<double>(), 0.0);
  EXPECT_EQ(table.detach()[6].abs().sum().item<double>(), 0.0);
}

TEST(SparseRows, SavedStateGoesOnTheSame) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    TableRun first(type, true), second(type, true);
    first.step({at::tensor({3, 8, 3}, at::kLong)});
    const auto saved = first.optimizer->state();
    const std::string rows_name = std::string("rows.") + kTable;
    ASSERT_TRUE(saved.contains(rows_name));
    EXPECT_EQ(saved.at(std::string("exp_avg.") + kTable).size(0), 2);
    {
      const at::NoGradGuard no_grad;
      for (size_t i = 0; i < first.model.parameters().tensors().size(); ++i) {
        second.model.parameters().tensors()[i].detach().copy_(
            first.model.parameters().tensors()[i]);
      }
      second.optimizer->prepare_state({{kTable, 2}});
      for (auto& [name, tensor] : second.optimizer->state()) tensor.copy_(saved.at(name));
      second.optimizer->adopt_state();
    }
    second.steps = first.steps;
    for (TableRun* run : {&first, &second}) run->step({at::tensor({8, 20, 3}, at::kLong)});
    EXPECT_TRUE(test::same_bits(first.table(), second.table()));
  }
}

TEST(SparseRows, DamagedStateNamesTheRow) {
  SparseRows rows(at::zeros({4, 2}));
  EXPECT_THAT(message_of<CheckpointError>([&] { rows.prepare(5); }), HasSubstr("rows = 5"));
  const auto adopt = [&](int64_t a, int64_t b) {
    rows.prepare(2);
    std::map<std::string, at::Tensor> state;
    rows.add_state("t", state);
    state.at("rows.t").copy_(at::tensor({a, b}, at::kLong));
    rows.adopt("t");
  };
  EXPECT_THAT(message_of<CheckpointError>([&] { adopt(0, 4); }), HasSubstr("rows.t[1] = 4"));
  EXPECT_THAT(message_of<CheckpointError>([&] { adopt(-1, 2); }), HasSubstr("rows.t[0] = -1"));
  EXPECT_THAT(message_of<CheckpointError>([&] { adopt(2, 2); }), HasSubstr("each once"));
  adopt(3, 1);
  EXPECT_EQ(rows.rows_reached(), 2);
}

}  // namespace
}  // namespace headway::engine
