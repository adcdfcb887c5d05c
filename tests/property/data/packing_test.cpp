// Laws of packing over random documents: nothing lost, nothing predicted twice, nothing crossed.
// Not for: worked examples (tests/unit/data/packing_test.cpp).
#include "headway/data/packing.h"

#include <algorithm>
#include <map>
#include <numeric>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace headway::data {
namespace {

// A store whose token values are their own places, so that a token says where it comes from.
struct Case {
  std::shared_ptr<const TokenStore> store;
  std::vector<std::int64_t> document;  // of every token
  TokenRange range;
  PackingRule rule;
  LastSample last;
};

Case arbitrary_case(bool cross_document) {
  const auto lengths = *rc::gen::nonEmpty(
      rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(1, 12)));
  Case result;
  TokenStore::Content content;
  for (std::size_t d = 0; d < lengths.size(); ++d) {
    // At least one document predicts something, wherever the range lies.
    const std::int64_t length = lengths[d] + (d == 0 ? 4 : 0);
    result.document.insert(result.document.end(), static_cast<std::size_t>(length),
                           static_cast<std::int64_t>(d));
    content.document_ends.push_back(result.document.size());
  }
  content.tokens.resize(result.document.size());
  std::iota(content.tokens.begin(), content.tokens.end(), 0u);
  content.vocab_size = std::ssize(content.tokens);
  result.store = TokenStore::in_memory(std::move(content));
  result.range.begin = *rc::gen::inRange<std::int64_t>(0, 3);
  result.range.end =
      *rc::gen::inRange<std::int64_t>(result.range.begin + 2, result.store->size() + 1);
  result.rule = {*rc::gen::inRange<std::int64_t>(1, result.range.size() + 1), cross_document};
  result.last = *rc::gen::element(LastSample::kOverlap, LastSample::kShort);
  return result;
}

struct Sample {
  std::vector<std::int64_t> input_ids, labels, lengths;
  std::int64_t label_count = 0;
};

std::vector<Sample> all_samples(const Case& c) {
  const PackedSamples packed(c.store, c.range, c.rule, c.last);
  std::vector<Sample> samples(static_cast<std::size_t>(packed.size()));
  for (std::int64_t i = 0; i < packed.size(); ++i) {
    Sample& sample = samples[static_cast<std::size_t>(i)];
    sample.input_ids.resize(static_cast<std::size_t>(packed.length(i)));
    sample.labels.resize(sample.input_ids.size());
    sample.label_count = packed.read(i, sample.input_ids, sample.labels, sample.lengths);
  }
  return samples;
}

void check_every_token_is_predicted_once(const Case& c) {
  std::map<std::int64_t, int> predicted, seen;
  for (const Sample& sample : all_samples(c)) {
    for (std::size_t t = 0; t < sample.labels.size(); ++t) {
      ++seen[sample.input_ids[t]];
      if (sample.labels[t] == kIgnoredLabel) continue;
      RC_ASSERT(sample.labels[t] == sample.input_ids[t] + 1);
      ++predicted[sample.labels[t]];
    }
  }
  for (std::int64_t token = c.range.begin; token < c.range.end; ++token) {
    const auto here = static_cast<std::size_t>(token);
    const bool starts = token == c.range.begin ||
                        (!c.rule.cross_document && c.document[here] != c.document[here - 1]);
    RC_ASSERT(predicted[token] == (starts ? 0 : 1));
    // Only the very last token may be a label and no input; only the overlap is an input twice.
    const bool last = token == c.range.end - 1;
    RC_ASSERT(seen[token] >= (last ? 0 : 1));
    RC_ASSERT(seen[token] <= (c.last == LastSample::kOverlap ? 2 : 1));
  }
  RC_ASSERT(predicted.rbegin()->first < c.range.end);
}

RC_GTEST_PROP(PackingProperty, EveryTokenIsPredictedOnce, ()) {
  check_every_token_is_predicted_once(arbitrary_case(false));
}

RC_GTEST_PROP(PackingProperty, EveryTokenIsPredictedOnceAcrossDocuments, ()) {
  check_every_token_is_predicted_once(arbitrary_case(true));
}

RC_GTEST_PROP(PackingProperty, SamplesAreFullRunsOfTheStream, ()) {
  const Case c = arbitrary_case(*rc::gen::arbitrary<bool>());
  const auto samples = all_samples(c);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const Sample& sample = samples[i];
    for (std::size_t t = 1; t < sample.input_ids.size(); ++t) {
      RC_ASSERT(sample.input_ids[t] == sample.input_ids[t - 1] + 1);
    }
    RC_ASSERT(sample.input_ids.front() >= c.range.begin);
    RC_ASSERT(sample.input_ids.back() < c.range.end);
    const bool may_be_short = c.last == LastSample::kShort && i + 1 == samples.size();
    const auto length = std::ssize(sample.input_ids);
    RC_ASSERT(length == c.rule.sequence_length ||
              (may_be_short && length < c.rule.sequence_length));
    RC_ASSERT(std::reduce(sample.lengths.begin(), sample.lengths.end()) == length);
    RC_ASSERT(sample.label_count == length - std::ranges::count(sample.labels, kIgnoredLabel));
  }
}

RC_GTEST_PROP(PackingProperty, SequencesNeverCrossDocuments, ()) {
  const Case c = arbitrary_case(false);
  for (const Sample& sample : all_samples(c)) {
    std::size_t t = 0;
    for (const std::int64_t length : sample.lengths) {
      RC_ASSERT(length > 0);
      const auto document = c.document[static_cast<std::size_t>(sample.input_ids[t])];
      const std::size_t end = t + static_cast<std::size_t>(length);
      for (; t < end; ++t) {
        RC_ASSERT(c.document[static_cast<std::size_t>(sample.input_ids[t])] == document);
        const std::int64_t label = sample.labels[t];
        // RC_ASSERT evaluates both sides of ||, hence the if.
        if (label == kIgnoredLabel) continue;
        RC_ASSERT(c.document[static_cast<std::size_t>(label)] == document);
      }
      // A boundary inside a sample is the end of a document, never an invented cut.
      if (t < sample.input_ids.size()) {
        RC_ASSERT(c.document[static_cast<std::size_t>(sample.input_ids[t])] != document);
      }
    }
  }
}

RC_GTEST_PROP(PackingProperty, CrossingSamplesAreOneSequence, ()) {
  for (const Sample& sample : all_samples(arbitrary_case(true))) {
    RC_ASSERT(sample.lengths.size() == 1u);
  }
}

RC_GTEST_PROP(SplitProperty, PartsMeetAndHoldASequence, ()) {
  const auto length = *rc::gen::inRange<std::int64_t>(1, 100);
  const auto tokens = *rc::gen::inRange<std::int64_t>(2 * length + 2, 10000);
  const double fraction = *rc::gen::inRange(1, 50) / 100.0;
  const auto split = split_tokens(tokens, fraction, length);
  RC_ASSERT(split.train.begin == 0 && split.train.end == split.validation.begin);
  RC_ASSERT(split.validation.end == tokens);
  RC_ASSERT(split.train.size() >= length && split.validation.size() >= length);
  RC_ASSERT(split.validation.size() >=
            static_cast<std::int64_t>(fraction * static_cast<double>(tokens)));
}

}  // namespace
}  // namespace headway::data
