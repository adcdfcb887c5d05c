// What one thread needs while it encodes with a JsonTokenizer.
// Not for: anyone but JsonTokenizer.
#pragma once

#include <string>
#include <vector>

#include "headway/text/json_tokenizer.h"

namespace headway::text {

struct JsonTokenizer::Workspace {
  /// A token of the text, in original bytes.
  struct Placed {
    std::uint32_t id;
    Span origin;
    Span text;   // in document.text
    bool added;  // an added token: its spelling is what stands in the text
  };
  std::string repaired;
  Document document;
  ModelScratch scratch;
  std::vector<Token> tokens;
};

}  // namespace headway::text
