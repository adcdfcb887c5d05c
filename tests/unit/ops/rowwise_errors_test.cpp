// Every documented error of the norms, rope, the sigmoid gate and the activations, with its text.
#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"
#include "headway/ops/activation.h"
#include "headway/ops/gate.h"
#include "headway/ops/kernel_table.h"
#include "headway/ops/norm.h"
#include "headway/ops/rope.h"

namespace headway::ops {
namespace {

template <class Call>
std::string shape_error(const Call& call) {
  try {
    call();
  } catch (const ShapeError& error) {
    return error.what();
  }
  return "no ShapeError";
}

at::Tensor halves(at::IntArrayRef sizes) { return at::ones(sizes, at::kBFloat16); }

TEST(NormErrors, NameOpArgumentGotAndAllowed) {
  const at::Tensor x = at::ones({2, 8}), w = at::ones({8});
  const auto rms = [](const at::Tensor& x, const at::Tensor& w, double eps = 1e-6,
                      NormFlavour flavour = NormFlavour::kPlain) {
    return shape_error([&] { rms_norm(x, w, eps, flavour); });
  };
  EXPECT_EQ(rms({}, w), "[rms_norm] x = undefined, allowed a tensor […,C]");
  EXPECT_EQ(rms(at::ones({2, 0}), w), "[rms_norm] x = [2, 0], allowed […,C] with C >= 1");
  EXPECT_EQ(rms(at::ones({2, 8}, at::kLong), w),
            "[rms_norm] x = Long, allowed float32, float64, bfloat16 or float16");
  EXPECT_EQ(rms(at::ones({8, 8}).t(), w),
            "[rms_norm] x = [1, 8], allowed strides with a contiguous last dimension");
  EXPECT_EQ(rms(x, at::ones({7})), "[rms_norm] weight = [7], allowed [8], the last dimension of x");
  EXPECT_EQ(rms(x, {}), "[rms_norm] weight = undefined, allowed a tensor [8]");
  EXPECT_EQ(rms(x, w, 1e-6, NormFlavour::kNoWeight),
            "[rms_norm] weight = [8], allowed none for this flavour");
  EXPECT_EQ(rms(x, halves({8})),
            "[rms_norm] weight = BFloat16, allowed Float, the dtype of x, or Float");
  EXPECT_EQ(rms(x, w, -1.0), "[rms_norm] eps = -1, allowed a finite number >= 0");
  EXPECT_EQ(rms(x, w, std::nan("")), "[rms_norm] eps = nan, allowed a finite number >= 0");
  EXPECT_EQ(shape_error([&] {
              layer_norm(x, w, at::ones({2, 4}), 1e-6);
            }),
            "[layer_norm] bias = [2, 4], allowed [8], the last dimension of x");
  EXPECT_EQ(shape_error([&] { layer_norm(x, w, {}, INFINITY); }),
            "[layer_norm] eps = inf, allowed a finite number >= 0");
}

TEST(NormErrors, OfTheFusedAdd) {
  const at::Tensor x = at::ones({2, 8}), w = at::ones({8});
  const auto add = [&](const at::Tensor& residual, const at::Tensor& delta) {
    return shape_error([&] { add_rms_norm(residual, delta, w, 1e-6, NormFlavour::kPlain); });
  };
  EXPECT_EQ(add({}, x), "[add_rms_norm] residual = undefined, allowed a tensor […,C]");
  EXPECT_EQ(add(x, {}), "[add_rms_norm] delta = undefined, allowed a tensor […,C]");
  EXPECT_EQ(add(x, at::ones({3, 8})),
            "[add_rms_norm] delta = [3, 8], allowed [2, 8], the shape of residual");
  EXPECT_EQ(add(x, halves({2, 8})),
            "[add_rms_norm] delta = BFloat16, allowed Float, the dtype of residual");
}

TEST(RopeErrors, NameOpArgumentGotAndAllowed) {
  const at::Tensor x = at::ones({3, 2, 8}), table = at::ones({5, 4}), at3 = at::arange(3);
  const auto turn = [](const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                       const at::Tensor& positions) {
    return shape_error([&] { rope(x, cos, sin, positions, false); });
  };
  EXPECT_EQ(turn(at::ones({3, 8}), table, table, at3), "[rope] x = [3, 8], allowed [T,H,K]");
  EXPECT_EQ(turn(x.transpose(1, 2), table, table, at3),
            "[rope] x = [16, 1, 8], allowed strides with a contiguous last dimension");
  EXPECT_EQ(turn(x, {}, table, at3), "[rope] cos = undefined, allowed a tensor [M,P]");
  EXPECT_EQ(turn(x, table.to(at::kDouble), table, at3),
            "[rope] cos = Double, allowed Float for x of Float");
  EXPECT_EQ(turn(x, table, at::ones({5, 5}), at3),
            "[rope] sin = [5, 5], allowed [M,P] with 2P <= 8, the channels of a head");
  EXPECT_EQ(turn(x, table, at::ones({6, 4}), at3),
            "[rope] sin = [6, 4], allowed [5, 4], the shape of cos");
  EXPECT_EQ(turn(x, table, table, at3.to(at::kInt)), "[rope] positions = Int, allowed int64");
  EXPECT_EQ(turn(x, table, table, at::arange(4)),
            "[rope] positions = [4], allowed [3], one per token of x");
  EXPECT_EQ(turn(x, table, table, at3 + 3),
            "[rope] positions[2] = 5, allowed 0 .. 4, the rows of the table");
  EXPECT_EQ(turn(x, table, table, at3 - 1),
            "[rope] positions[0] = -1, allowed 0 .. 4, the rows of the table");
}

TEST(GateErrors, NameOpArgumentGotAndAllowed) {
  const at::Tensor x = at::ones({3, 2, 8});
  const auto gate = [](const at::Tensor& x, const at::Tensor& g) {
    return shape_error([&] { sigmoid_gate(x, g); });
  };
  const std::string allowed = "allowed [3, 2] (head-wise) or [3, 2, 8] (element-wise)";
  EXPECT_EQ(gate(x, {}), "[sigmoid_gate] gate = undefined, " + allowed);
  EXPECT_EQ(gate(x, at::ones({3, 2, 1})), "[sigmoid_gate] gate = [3, 2, 1], " + allowed);
  EXPECT_EQ(gate(x, halves({3, 2})),
            "[sigmoid_gate] gate = BFloat16, allowed Float, the dtype of x");
  EXPECT_EQ(gate(at::ones({3, 2}), at::ones({3, 2})), "[sigmoid_gate] x = [3, 2], allowed [T,H,V]");
  EXPECT_EQ(gate(x.transpose(1, 2), at::ones({3, 8})),
            "[sigmoid_gate] x = [16, 1, 8], allowed strides with a contiguous last dimension");
}

TEST(ActivationErrors, NameOpArgumentGotAndAllowed) {
  const auto gated = [](const at::Tensor& x, double limit = 0.0) {
    return shape_error([&] { gated_activation(x, ActivationKind::kSilu, limit); });
  };
  EXPECT_EQ(gated(at::ones({2, 7})),
            "[gated_activation] gate_up = [2, 7], allowed […,2F], an even last dimension >= 2");
  EXPECT_EQ(gated({}), "[gated_activation] gate_up = undefined, allowed a tensor […,2F]");
  EXPECT_EQ(gated(at::ones({2, 8}), -1.0),
            "[gated_activation] limit = -1, allowed 0 (none) or a positive finite number");
  EXPECT_EQ(shape_error([] { activation(at::ones({2}, at::kInt), ActivationKind::kRelu); }),
            "[activation] x = Int, allowed float32, float64, bfloat16 or float16");
}

TEST(RowwiseKernels, EveryOpListsItsKernelsInOrder) {
  for (const char* op : {"norm", "rope", "sigmoid_gate", "activation"}) {
    bool found = false;
    for (const KernelList& list : kernel_lists()) {
      if (list.op != op) continue;
      found = true;
      EXPECT_EQ(list.kernels, (std::vector<std::string>{"simd", "reference"})) << op;
    }
    EXPECT_TRUE(found) << op;
  }
}

TEST(RowwiseKernels, ForcedSimdRefusesDouble) {
  const at::Tensor x = at::ones({2, 2, 4}, at::kDouble);
  const auto refusal = [](const char* op, const auto& call) -> std::string {
    const ScopedKernel forced(op, "simd");
    try {
      call();
    } catch (const UnsupportedError& error) {
      return error.what();
    }
    return "no UnsupportedError";
  };
  const std::string reason =
      "] forced kernel 'simd' cannot run: it takes float32 and bfloat16 only";
  EXPECT_EQ(refusal("norm", [&] { rms_norm(x, {}, 0.0, NormFlavour::kNoWeight); }),
            "[norm" + reason);
  EXPECT_EQ(refusal("sigmoid_gate", [&] { sigmoid_gate(x, x); }), "[sigmoid_gate" + reason);
  const at::Tensor table = at::ones({2, 1}, at::kDouble);
  EXPECT_EQ(refusal("rope", [&] { rope(x, table, table, at::arange(2), true); }), "[rope" + reason);
}

}  // namespace
}  // namespace headway::ops
