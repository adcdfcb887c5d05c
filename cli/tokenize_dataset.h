// `headway tokenize --data … --out PREFIX`: files of text to a Megatron dataset.
// Not for: single texts (tokenize.cpp).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "headway/text/tokenizer.h"

namespace headway::cli {

struct DatasetOptions {
  std::vector<std::string> data;  // files and folders, as data.train of a run file
  std::string out;                // PREFIX of .bin and .idx
  std::string text_field = "text";
};

/// Encodes on all threads, with a bar on stderr. Errors: those of data::tokenize; ConfigError if
/// files of the name exist.
void tokenize_dataset(const DatasetOptions& options,
                      std::shared_ptr<const text::Tokenizer> tokenizer, bool json);

}  // namespace headway::cli
