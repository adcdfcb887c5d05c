// Arithmetic of sample places, document boundaries and shifted labels.
// Not for: reading files.
#include "headway/data/packing.h"

#include <algorithm>
#include <functional>
#include <map>

#include <fmt/format.h>

#include "headway/base/error.h"

namespace headway::data {
namespace {

// Number of documents that have tokens in the range.
std::int64_t count_documents(const TokenStore& store, const TokenRange& range) {
  const auto ends = store.document_ends();
  const auto first = std::ranges::upper_bound(ends, static_cast<std::uint64_t>(range.begin));
  const auto last = std::ranges::lower_bound(ends, static_cast<std::uint64_t>(range.end));
  return last - first + 1;
}

std::int64_t least_tokens(std::int64_t sequence_length) {
  return std::max<std::int64_t>(sequence_length, 2);
}

}  // namespace

PackedSamples::PackedSamples(std::shared_ptr<const TokenStore> store, TokenRange range,
                             PackingRule rule, LastSample last)
    : store_(std::move(store)), range_(range), rule_(rule), last_(last) {
  if (range.begin < 0 || range.begin > range.end || range.end > store_->size()) {
    throw InternalError(fmt::format("[packing] range = {} to {}, allowed within {}", range.begin,
                                    range.end, store_->size()));
  }
  if (rule.sequence_length < 1) {
    throw ConfigError(
        fmt::format("[data] sequence_length = {}, allowed at least 1", rule.sequence_length));
  }
  if (rule.whole_documents) {
    plan_documents();
    return;
  }
  if (range.size() < 2 || (last == LastSample::kOverlap && range.size() < rule.sequence_length)) {
    throw ConfigError(
        fmt::format("[data] sequence_length = {}, allowed at most the number of tokens "
                    "(= {}), which must be at least 2; hint: more data, or shorter "
                    "sequences",
                    rule.sequence_length, range.size()));
  }
  if (!rule.cross_document && count_documents(*store_, range) == range.size()) {
    throw ConfigError(fmt::format(
        "[data] documents = {} of one token each, allowed at least one longer document; hint: "
        "data.cross_document = true joins them",
        range.size()));
  }
  // The last token of the range predicts nothing, so a sample of it alone would be of no use.
  size_ = (range.size() - 2) / rule.sequence_length + 1;
}

std::int64_t PackedSamples::length(std::int64_t sample) const {
  if (rule_.whole_documents) {
    first_token(sample);  // checks the number
    std::int64_t tokens = 0;
    for (const TokenRange& document : plan_[static_cast<std::size_t>(sample)]) {
      tokens += document.size();
    }
    return tokens;
  }
  return std::min(rule_.sequence_length, range_.end - first_token(sample));
}

std::int64_t PackedSamples::first_token(std::int64_t sample) const {
  if (sample < 0 || sample >= size_) {
    throw InternalError(fmt::format("[packing] sample = {}, allowed 0 to {}", sample, size_ - 1));
  }
  if (rule_.whole_documents) return plan_[static_cast<std::size_t>(sample)].front().begin;
  const std::int64_t first = range_.begin + sample * rule_.sequence_length;
  if (last_ == LastSample::kShort) return first;
  return std::min(first, range_.end - rule_.sequence_length);
}

std::int64_t PackedSamples::read(std::int64_t sample, std::span<std::int64_t> input_ids,
                                 std::span<std::int64_t> labels,
                                 std::vector<std::int64_t>& lengths) const {
  const std::int64_t first = first_token(sample);
  const std::int64_t count = length(sample);
  if (std::ssize(input_ids) != count || std::ssize(labels) != count) {
    throw InternalError(fmt::format("[packing] slots = {} and {}, allowed {}", input_ids.size(),
                                    labels.size(), count));
  }
  if (rule_.whole_documents) return read_documents(sample, input_ids, labels, lengths);
  store_->copy(first, input_ids);
  std::copy(input_ids.begin() + 1, input_ids.end(), labels.begin());
  labels.back() = kIgnoredLabel;
  if (first + count < range_.end) store_->copy(first + count, labels.last(1));
  // Slots that an overlapping last sample repeats have their labels in the sample before.
  const std::int64_t repeated = range_.begin + sample * rule_.sequence_length - first;
  std::ranges::fill(labels.first(static_cast<std::size_t>(repeated)), kIgnoredLabel);

  std::int64_t piece = first;
  if (!rule_.cross_document) {
    const auto ends = store_->document_ends();
    auto end = std::ranges::upper_bound(ends, static_cast<std::uint64_t>(first));
    for (; end != ends.end() && static_cast<std::int64_t>(*end) <= first + count; ++end) {
      const auto boundary = static_cast<std::int64_t>(*end);
      labels[static_cast<std::size_t>(boundary - first - 1)] = kIgnoredLabel;
      lengths.push_back(boundary - piece);
      piece = boundary;
    }
  }
  if (piece < first + count) lengths.push_back(first + count - piece);
  forget_unlearned(first, labels);
  return count - std::ranges::count(labels, kIgnoredLabel);
}

void PackedSamples::plan_documents() {
  std::vector<TokenRange> documents;
  std::int64_t begin = range_.begin;
  for (const std::uint64_t bound : store_->document_ends()) {
    const auto end = static_cast<std::int64_t>(bound);
    if (end <= range_.begin) continue;
    if (end > range_.end) break;
    const TokenRange kept{begin, std::min(end, begin + rule_.sequence_length)};
    begin = end;
    const bool learned = kept.size() > 1 && learns({kept.begin + 1, kept.end});
    if (!learned) ++empty_documents_;
    if (learned && kept.end < end) ++cut_documents_;
    if (learned) documents.push_back(kept);
  }
  if (documents.empty()) {
    throw ConfigError(fmt::format(
        "[data] sequence_length = {}, allowed one in which something of a conversation is learned; "
        "hint: longer sequences, or data.chat.turns",
        rule_.sequence_length));
  }
  std::ranges::stable_sort(documents, std::ranges::greater(), &TokenRange::size);
  std::multimap<std::int64_t, std::size_t> room;  // free slots -> sample
  for (const TokenRange& document : documents) {
    const auto best = room.lower_bound(document.size());
    std::size_t sample = plan_.size();
    std::int64_t left = rule_.sequence_length;
    if (best == room.end()) {
      plan_.emplace_back();
    } else {
      left = best->first;
      sample = best->second;
      room.erase(best);
    }
    plan_[sample].push_back(document);
    room.emplace(left - document.size(), sample);
  }
  size_ = std::ssize(plan_);
}

std::int64_t PackedSamples::read_documents(std::int64_t sample, std::span<std::int64_t> input_ids,
                                           std::span<std::int64_t> labels,
                                           std::vector<std::int64_t>& lengths) const {
  std::size_t place = 0;
  for (const TokenRange& document : plan_[static_cast<std::size_t>(sample)]) {
    const auto count = static_cast<std::size_t>(document.size());
    const auto ids = input_ids.subspan(place, count), own = labels.subspan(place, count);
    store_->copy(document.begin, ids);
    std::copy(ids.begin() + 1, ids.end(), own.begin());
    own.back() = kIgnoredLabel;
    forget_unlearned(document.begin, own);
    lengths.push_back(document.size());
    place += count;
  }
  return std::ssize(labels) - std::ranges::count(labels, kIgnoredLabel);
}

/// Whether some of these tokens are learned.
bool PackedSamples::learns(const TokenRange& tokens) const {
  const auto bounds = store_->learned();
  if (bounds.empty()) return true;
  // The first bound after the first token: an end means that the token itself is learned.
  const auto next = std::ranges::upper_bound(bounds, static_cast<std::uint64_t>(tokens.begin));
  const auto place = next - bounds.begin();
  if (place % 2 == 1) return true;
  return next != bounds.end() && *next < static_cast<std::uint64_t>(tokens.end);
}

/// labels[i] is the token after `first` + i.
void PackedSamples::forget_unlearned(std::int64_t first, std::span<std::int64_t> labels) const {
  const auto bounds = store_->learned();
  if (bounds.empty()) return;
  auto place =
      std::ranges::upper_bound(bounds, static_cast<std::uint64_t>(first + 1)) - bounds.begin();
  for (std::int64_t i = 0; i < std::ssize(labels); ++i) {
    const auto token = static_cast<std::uint64_t>(first + i + 1);
    while (place < std::ssize(bounds) && bounds[static_cast<std::size_t>(place)] <= token) ++place;
    if (place % 2 == 0) labels[static_cast<std::size_t>(i)] = kIgnoredLabel;
  }
}

TrainValidationSplit split_documents(const TokenStore& store, double fraction) {
  const auto ends = store.document_ends();
  const std::int64_t documents = std::ssize(ends);
  std::int64_t validation = 0;
  if (fraction > 0.0) {
    const double share = fraction * static_cast<double>(documents);
    validation = std::max<std::int64_t>(1, static_cast<std::int64_t>(share));
  }
  if (validation >= documents) {
    throw ConfigError(fmt::format(
        "[data] validation_fraction = {}, allowed one that leaves something to train on of {} "
        "documents; hint: more data, or 0",
        fraction, documents));
  }
  const auto boundary =
      static_cast<std::int64_t>(ends[static_cast<std::size_t>(documents - validation - 1)]);
  return {{0, boundary}, {boundary, store.size()}};
}

TrainValidationSplit split_tokens(std::int64_t tokens, double fraction,
                                  std::int64_t sequence_length) {
  if (!(fraction >= 0.0 && fraction < 1.0)) {
    throw ConfigError(
        fmt::format("[data] validation_fraction = {}, allowed 0 <= fraction < 1", fraction));
  }
  const std::int64_t least = least_tokens(sequence_length);
  std::int64_t validation = 0;
  if (fraction > 0.0) {
    validation = std::max(least, static_cast<std::int64_t>(fraction * static_cast<double>(tokens)));
  }
  const std::int64_t train = tokens - validation;
  if (train < least) {
    throw ConfigError(fmt::format(
        "[data] sequence_length = {}, allowed at most the tokens left for training (= {} of {}, "
        "after "
        "validation_fraction = {}); hint: more data, shorter sequences, or a smaller fraction",
        sequence_length, std::max<std::int64_t>(train, 0), tokens, fraction));
  }
  return {{0, train}, {train, tokens}};
}

}  // namespace headway::data
