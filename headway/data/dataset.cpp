// Puts sources, cache, split and packing together.
// Not for: any rule of its own.
#include "headway/data/dataset.h"

#include <fmt/format.h>

#include "headway/base/logging.h"
#include "headway/text/tokenizer_factory.h"

namespace headway::data {
namespace {

TokenizeRequest tokenize_request(const DatasetRequest& request, std::string where,
                                 const SourceList& sources) {
  if (!sources.skipped.empty()) {
    log(LogLevel::kInfo, fmt::format("[{}] {} binary files passed over, the first is {}", where,
                                     sources.skipped.size(), sources.skipped.front().string()));
  }
  return {std::move(where),  sources.files, request.config.text_field,
          request.tokenizer, request.chat,  request.progress};
}

void log_conversations(const PackedSamples& samples) {
  const TokenStore& store = samples.store();
  std::uint64_t learned = 0;
  for (std::size_t i = 0; i + 1 < store.learned().size(); i += 2) {
    learned += store.learned()[i + 1] - store.learned()[i];
  }
  log(LogLevel::kInfo,
      fmt::format("[data] conversations = {}, of {} tokens {} are learned; {} samples; {} too long "
                  "and cut, {} left out with nothing to learn",
                  store.document_ends().size(), store.size(), learned, samples.size(),
                  samples.cut_documents(), samples.empty_documents()));
}

}  // namespace

Dataset open_dataset(const DatasetRequest& request) {
  const config::DataConfig& config = request.config;
  text::check_vocabulary(*request.tokenizer, request.model_vocab_size);
  const SourceList train = find_sources(config.train, "data.train");
  const SourceList validation =
      config.validation.empty() ? SourceList{} : find_sources(config.validation, "data.validation");
  const bool held_out = config.validation.empty();
  const PackingRule rule{config.sequence_length, config.cross_document, request.chat != nullptr};

  TokenCache cache(request.cache_folder);
  const auto tokens = cache.get(tokenize_request(request, "data.train", train));
  const double fraction = held_out ? config.validation_fraction : 0.0;
  const TrainValidationSplit split =
      rule.whole_documents ? split_documents(*tokens, fraction)
                           : split_tokens(tokens->size(), fraction, config.sequence_length);
  Dataset dataset{PackedSamples(tokens, split.train, rule, LastSample::kOverlap), std::nullopt};
  if (!held_out) {
    const auto other = cache.get(tokenize_request(request, "data.validation", validation));
    dataset.validation.emplace(other, TokenRange{0, other->size()}, rule, LastSample::kShort);
  } else if (split.validation.size() > 0) {
    dataset.validation.emplace(tokens, split.validation, rule, LastSample::kShort);
  }
  if (rule.whole_documents) log_conversations(dataset.train);
  dataset.skipped_files = std::ssize(train.skipped) + std::ssize(validation.skipped);
  dataset.cached = cache.made() == 0;
  cache.keep();
  return dataset;
}

PackedSamples open_text(const std::vector<std::string>& paths,
                        std::shared_ptr<const text::Tokenizer> tokenizer, PackingRule rule) {
  TokenizeRequest request;
  request.where = "text";
  request.files = find_sources(paths, request.where).files;
  request.tokenizer = std::move(tokenizer);
  const auto tokens = tokenize_in_memory(request);
  return PackedSamples(tokens, {0, tokens->size()}, rule, LastSample::kShort);
}

}  // namespace headway::data
