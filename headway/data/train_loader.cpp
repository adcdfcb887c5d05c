// Position arithmetic over epochs, and the saved state.
// Not for: reading tokens (packing.h).
#include "headway/data/train_loader.h"

#include <limits>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/data/permutation.h"

namespace headway::data {
namespace {

std::int64_t require_count(const Json& state, const char* key, std::int64_t limit) {
  const auto value = state.find(key);
  if (value == state.end() || !value->is_number_integer() || *value < 0 || *value >= limit) {
    throw CheckpointError(fmt::format("[data state] {} = {}, allowed a whole number from 0 to {}",
                                      key, value == state.end() ? "absent" : json_summary(*value),
                                      limit - 1));
  }
  return value->get<std::int64_t>();
}

}  // namespace

TrainLoader::TrainLoader(PackedSamples samples, std::uint64_t seed)
    : samples_(std::move(samples)), seed_(seed) {}

void TrainLoader::advance() {
  if (++position_.sample == samples_.size()) position_ = {position_.epoch + 1, 0};
}

Batch TrainLoader::next(std::int64_t sample_count) {
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < sample_count; ++i) {
    const auto epoch = static_cast<std::uint64_t>(position_.epoch);
    indices.push_back(Permutation(samples_.size(), seed_, epoch)(position_.sample));
    advance();
  }
  return make_batch(samples_, indices);
}

void TrainLoader::skip(std::int64_t sample_count) {
  for (std::int64_t i = 0; i < sample_count; ++i) advance();
}

std::string TrainLoader::identity() const {
  ContentHash hash;
  for (const std::uint64_t part : samples_.store().content()) hash.field(part);
  for (const std::int64_t part :
       {samples_.range().begin, samples_.range().end, samples_.rule().sequence_length}) {
    hash.field(static_cast<std::uint64_t>(part));
  }
  hash.field(samples_.rule().cross_document ? 1 : 0).field(seed_);
  if (samples_.rule().whole_documents) hash.field("whole documents");
  return hash.hex();
}

Json TrainLoader::state() const {
  return {{"epoch", position_.epoch}, {"sample", position_.sample}, {"data", identity()}};
}

void TrainLoader::restore(const Json& state) {
  if (!state.is_object()) {
    throw CheckpointError(
        fmt::format("[data state] state = {}, allowed a mapping", json_summary(state)));
  }
  const auto data = state.find("data");
  if (data == state.end() || *data != identity()) {
    throw CheckpointError(fmt::format(
        "[data state] data = {}, allowed \"{}\"; hint: the run was started with other data, "
        "tokenizer, sequence_length, cross_document, validation split or seed",
        data == state.end() ? "absent" : json_summary(*data), identity()));
  }
  position_ = {require_count(state, "epoch", std::numeric_limits<std::int64_t>::max()),
               require_count(state, "sample", samples_.size())};
}

}  // namespace headway::data
