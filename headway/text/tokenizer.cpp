// The part of Tokenizer that is the same for every one of them.
// Not for: any particular vocabulary.
#include "headway/text/tokenizer.h"

#include "headway/text/utf8.h"

namespace headway::text {

std::string Tokenizer::decode(std::span<const std::int64_t> ids, bool skip_special) const {
  return repair_utf8(decode_bytes(ids, skip_special));
}

}  // namespace headway::text
