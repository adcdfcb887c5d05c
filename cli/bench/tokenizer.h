// Encoding speed of one tokenizer on one text.
// Not for: another library's speed (tools/compare_tokenizers.py runs both).
#pragma once

#include <string>
#include <vector>

#include "cli/bench/harness.h"

namespace headway::cli::bench {

struct TokenizerWork {
  std::string tokenizer;  // bytes, a folder, or a file
  std::string file;       // the text
};

struct TokenizerCases {
  std::vector<Case> cases;  // whole text and line by line, ids alone and with offsets
  double bytes = 0;         // of the text
};

/// Errors: those of load_tokenizer; CheckpointError (no such text).
TokenizerCases tokenizer_cases(const TokenizerWork& work);

}  // namespace headway::cli::bench
