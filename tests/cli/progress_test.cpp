// What a training run shows: plain lines in a file, one redrawn line on a terminal.
#include "cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

namespace headway::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Text that a display wrote while `use` ran.
template <class Use>
std::string shown(bool is_terminal, const Use& use) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* out = ::open_memstream(&text, &size);
  {
    ConsoleProgress progress(out, is_terminal);
    use(progress);
  }
  std::fclose(out);
  std::string result(text, size);
  std::free(text);
  return result;
}

engine::StepMetrics step(std::int64_t number) {
  engine::StepMetrics metrics;
  metrics.step = number;
  metrics.loss = 2.5;
  metrics.lr = 1e-3;
  metrics.grad_norm = 0.75;
  metrics.tokens_per_s = 12345;
  metrics.share_of_peak = 0.5;
  return metrics;
}

engine::TrainFacts facts() {
  engine::TrainFacts facts;
  facts.steps = 4;
  facts.batch_tokens = 4096;
  facts.num_parameters = 1234567;
  facts.dtype = "float32";
  facts.peak_flops = 2e11;
  return facts;
}

void run(ConsoleProgress& progress) {
  progress.on_start(facts());
  progress.on_evaluation(0, 5.5);
  for (int i = 1; i <= 4; ++i) progress.on_step(step(i));
  progress.on_checkpoint(4, "runs/a/checkpoints/step-4");
}

TEST(Progress, PlainLinesNameEveryNumber) {
  const std::string text = shown(false, run);
  EXPECT_THAT(text, HasSubstr("1,234,567 parameters, 4,096 tokens a step, float32"));
  EXPECT_THAT(text, HasSubstr("step 0/4  validation loss 5.5000\n"));
  EXPECT_THAT(text, HasSubstr("step 1/4  loss 2.5000 (val 5.5000)  12.3k tokens/s  grad 0.75"));
  EXPECT_THAT(text, HasSubstr("lr 1.00e-03  ETA 0:00  50% of peak\n"));
  EXPECT_THAT(text, HasSubstr("step 4/4  "));
  EXPECT_THAT(text, HasSubstr("saved runs/a/checkpoints/step-4\n"));
  EXPECT_THAT(text, Not(HasSubstr("step 3/4")));  // at most a line every 2 seconds in between
  EXPECT_THAT(text, Not(HasSubstr("\r")));
}

TEST(Progress, ATerminalSeesOneLineThatIsRedrawnAndEnded) {
  const std::string text = shown(true, run);
  EXPECT_THAT(text, HasSubstr("\r[#####...............] 1/4  loss 2.5000"));
  EXPECT_THAT(text, HasSubstr("\r[####################] 4/4  "));
  EXPECT_THAT(text, Not(HasSubstr("saved")));
  EXPECT_EQ(text.back(), '\n');
}

TEST(Progress, AResumedRunSaysWhereItGoesOn) {
  const std::string text = shown(false, [](ConsoleProgress& progress) {
    engine::TrainFacts resumed = facts();
    resumed.first_step = 2;
    resumed.dtype_reason = "GPU";
    progress.on_start(resumed);
  });
  EXPECT_THAT(text, HasSubstr("float32 (auto: GPU)"));
  EXPECT_THAT(text, HasSubstr("resuming after step 2 of 4\n"));
}

TEST(Progress, Durations) {
  EXPECT_EQ(format_duration(0.2), "0:00");
  EXPECT_EQ(format_duration(75), "1:15");
  EXPECT_EQ(format_duration(3700), "1:01:40");
}

}  // namespace
}  // namespace headway::cli
