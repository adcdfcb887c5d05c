// Evaluation requests that make sense and those that do not.
#include "headway/engine/evaluator.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "tests/support/tiny_specs.h"

namespace headway::engine {
namespace {

nn::Transformer make() {
  nn::Transformer model(test::tiny_gemma(), at::kDouble);
  model.parameters().initialise(4);
  return model;
}

TEST(Evaluator, RowsAreIndependentSequences) {
  nn::Transformer model = make();
  EvaluationRequest request;
  request.input_ids_BS = at::tensor({1, 2, 3, 4, 5, 6, 7, 8}, at::kLong).view({2, 4});
  const at::Tensor both = evaluate(model, request).logits_BSV;
  request.input_ids_BS = request.input_ids_BS.narrow(0, 1, 1);
  EXPECT_TRUE(
      at::allclose(both.narrow(0, 1, 1), evaluate(model, request).logits_BSV, 1e-12, 1e-12));
}

TEST(Evaluator, LossShiftsAlignedLabelsAndIgnoresMinus100) {
  nn::Transformer model = make();
  EvaluationRequest request;
  request.input_ids_BS = at::tensor({1, 2, 3, 4, 5}, at::kLong).view({1, 5});
  request.labels_BS = at::tensor({-100, 2, -100, 4, 5}, at::kLong).view({1, 5});
  const Evaluation evaluation = evaluate(model, request);
  const at::Tensor log_p = at::log_softmax(evaluation.logits_BSV[0], -1);
  const double want = -(log_p[0][2] + log_p[2][4] + log_p[3][5]).item<double>() / 3;
  EXPECT_NEAR(evaluation.loss.item<double>(), want, 1e-12);
}

TEST(Evaluator, GradientsLeaveTheModelClean) {
  nn::Transformer model = make();
  EvaluationRequest request;
  request.input_ids_BS = request.labels_BS = at::tensor({1, 2, 3, 4, 5}, at::kLong).view({1, 5});
  request.gradients = true;
  const Evaluation evaluation = evaluate(model, request);
  EXPECT_GT(evaluation.gradients.at("embedding.weight").abs().sum().item<double>(), 0.0);
  EXPECT_FALSE(evaluation.gradients.contains("layers.0.layer_scalar"));  // stored, not trained
  for (const at::Tensor& tensor : model.parameters().tensors())
    EXPECT_FALSE(tensor.grad().defined());
}

TEST(Evaluator, RefusesWrongShapesAndIds) {
  nn::Transformer model = make();
  EvaluationRequest request;
  request.input_ids_BS = at::tensor({1, 2, 3}, at::kLong);
  EXPECT_THROW(evaluate(model, request), ShapeError);
  request.input_ids_BS = at::ones({1, 3});
  EXPECT_THROW(evaluate(model, request), ShapeError);
  request.input_ids_BS = at::full({1, 3}, 31, at::kLong);
  EXPECT_THROW(evaluate(model, request), ShapeError);
  request.input_ids_BS = at::full({1, 3}, 3, at::kLong);
  request.labels_BS = at::full({1, 2}, 3, at::kLong);
  EXPECT_THROW(evaluate(model, request), ShapeError);
  request.labels_BS = at::Tensor();
  request.gradients = true;
  EXPECT_THROW(evaluate(model, request), ConfigError);
}

}  // namespace
}  // namespace headway::engine
