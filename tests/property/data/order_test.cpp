// Laws of the training order: a bijection, no memory, resume equals no interruption.
// Not for: what a sample holds (packing_test.cpp).
#include <algorithm>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "headway/data/permutation.h"
#include "headway/data/train_loader.h"

namespace headway::data {
namespace {

RC_GTEST_PROP(PermutationProperty, IsABijection, ()) {
  const auto size = *rc::gen::inRange<std::int64_t>(1, 700);
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto stream = *rc::gen::arbitrary<std::uint64_t>();
  const Permutation order(size, seed, stream);
  std::vector<std::int64_t> images;
  for (std::int64_t place = 0; place < size; ++place) images.push_back(order(place));
  std::ranges::sort(images);
  for (std::int64_t place = 0; place < size; ++place) {
    RC_ASSERT(images[static_cast<std::size_t>(place)] == place);
  }
}

RC_GTEST_PROP(PermutationProperty, LargeSizesStayInsideAndApart, ()) {
  const auto size = *rc::gen::inRange<std::int64_t>(std::int64_t{1} << 33, std::int64_t{1} << 62);
  const Permutation order(size, *rc::gen::arbitrary<std::uint64_t>(), 0);
  std::vector<std::int64_t> images;
  for (std::int64_t place = 0; place < 100; ++place) images.push_back(order(size - 1 - place));
  RC_ASSERT(std::ranges::all_of(images, [&](auto image) { return image >= 0 && image < size; }));
  std::ranges::sort(images);
  RC_ASSERT(std::ranges::adjacent_find(images) == images.end());
}

RC_GTEST_PROP(PermutationProperty, SeedsAndStreamsGiveOtherOrders, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto step = *rc::gen::inRange<std::uint64_t>(1, 1000);
  const Permutation base(1000, seed, 0), other_seed(1000, seed + step, 0),
      other_stream(1000, seed, step);
  const auto agreements = [&](const Permutation& other) {
    int count = 0;
    for (std::int64_t place = 0; place < 1000; ++place) count += base(place) == other(place);
    return count;
  };
  // Two random orders agree in one place on average; 20 has a chance below 1e-18.
  RC_ASSERT(agreements(other_seed) < 20);
  RC_ASSERT(agreements(other_stream) < 20);
}

TEST(PermutationQuality, PlacesAreEquallyLikely) {
  constexpr int kSize = 10, kOrders = 20000;
  std::vector<int> counts(kSize * kSize);
  for (int stream = 0; stream < kOrders; ++stream) {
    const Permutation order(kSize, 5, static_cast<std::uint64_t>(stream));
    for (int place = 0; place < kSize; ++place) {
      ++counts[static_cast<std::size_t>(place * kSize + order(place))];
    }
  }
  // Mean 2000, standard deviation 42: six deviations.
  for (const int count : counts) EXPECT_NEAR(count, kOrders / kSize, 255);
}

PackedSamples some_samples(std::int64_t tokens, std::int64_t length) {
  TokenStore::Content content;
  content.vocab_size = 1 << 20;
  for (std::int64_t i = 0; i < tokens; ++i) content.tokens.push_back(static_cast<std::uint32_t>(i));
  content.document_ends = {static_cast<std::uint64_t>(tokens)};
  return PackedSamples(TokenStore::in_memory(std::move(content)), {0, tokens}, {length, false},
                       LastSample::kOverlap);
}

bool same(const Batch& a, const Batch& b) {
  return a.input_ids.equal(b.input_ids) && a.labels.equal(b.labels) &&
         a.cu_seqlens == b.cu_seqlens && a.label_count == b.label_count && a.max_len == b.max_len;
}

RC_GTEST_PROP(TrainLoaderProperty, ResumeEqualsNoInterruption, ()) {
  const auto samples = some_samples(*rc::gen::inRange<std::int64_t>(10, 60), 3);
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto sizes = *rc::gen::nonEmpty(
      rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(1, 9)));
  const auto stop = *rc::gen::inRange<std::size_t>(0, sizes.size() + 1);
  TrainLoader whole(samples, seed), before(samples, seed), after(samples, seed);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (i == stop) after.restore(Json::parse(before.state().dump()));
    TrainLoader& current = i < stop ? before : after;
    RC_ASSERT(same(whole.next(sizes[i]), current.next(sizes[i])));
  }
}

RC_GTEST_PROP(TrainLoaderProperty, CutIntoBatchesDoesNotMatter, ()) {
  const auto samples = some_samples(*rc::gen::inRange<std::int64_t>(10, 60), 3);
  const auto first = *rc::gen::inRange<std::int64_t>(1, 40);
  const auto second = *rc::gen::inRange<std::int64_t>(1, 40);
  TrainLoader whole(samples, 1), parts(samples, 1);
  const Batch all = whole.next(first + second);
  const Batch a = parts.next(first), b = parts.next(second);
  RC_ASSERT(all.input_ids.slice(0, 0, a.num_tokens()).equal(a.input_ids));
  RC_ASSERT(all.labels.slice(0, a.num_tokens()).equal(b.labels));
  RC_ASSERT(all.label_count == a.label_count + b.label_count);
}

}  // namespace
}  // namespace headway::data
