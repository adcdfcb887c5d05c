// Trains a small encoder-decoder to turn sequences of digits around, and shows what it learnt.
// Not for: real training (see headway/engine); it shows how layers are put together in C++.
#include <cstdio>
#include <exception>

#include "headway/base/error.h"

#include "reverse_task.h"

namespace {

void show(const example::Digits& digits) {
  for (const int64_t digit : digits) std::printf("%lld", static_cast<long long>(digit));
}

int run() {
  example::EncoderDecoder model({}, at::kFloat);
  model.parameters().initialise(/*seed=*/1);
  constexpr int kSteps = 150;
  const double loss = example::train(model, kSteps, /*seed=*/1);
  std::printf("loss %.4f after %d steps\n", loss, kSteps);

  std::vector<example::Digits> sources;
  for (int64_t i = 0; i < 3; ++i) sources.push_back(example::source_of(/*seed=*/99, i));
  const auto answers = example::answers(model, sources);
  for (size_t n = 0; n < sources.size(); ++n) {
    show(sources[n]);
    std::printf(" -> ");
    show(answers[n]);
    std::printf("\n");
  }
  constexpr int kCount = 100;
  const auto right = example::count_reversed(model, kCount, /*seed=*/77);
  std::printf("%lld of %d unseen sequences reversed\n", static_cast<long long>(right), kCount);
  return right >= kCount * 95 / 100 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const headway::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "unexpected: %s\n", error.what());
    return 70;
  }
}
