// Token files as strings, to be damaged and sealed again with right checksums.
// Not for: writing token files (headway/data/token_writer.h).
#pragma once

#include <cstring>
#include <string>

#include "headway/data/internal/token_format.h"
#include "headway/data/token_writer.h"

#include "tests/support/temp_folder.h"

namespace headway::testing_support {

/// The bytes of a token file of `documents`.
inline std::string token_file_bytes(const std::vector<std::vector<std::int64_t>>& documents,
                                    std::int64_t vocab_size) {
  const TempFolder folder;
  const std::string path = (folder / "tokens").string();
  data::TokenWriter writer(path, {vocab_size, {1, 2}, {3, 4}});
  for (const auto& document : documents) {
    writer.append(document);
    writer.end_document();
  }
  writer.commit();
  return read_bytes(path);
}

inline data::internal::Header token_header(const std::string& bytes) {
  data::internal::Header header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  return header;
}

/// Puts `header` in front with both checksums made right, so that later checks are reached.
inline void seal_token_file(std::string& bytes, data::internal::Header header) {
  const auto payload = std::string_view(bytes).substr(sizeof(header));
  header.payload = ContentHash().update(payload).value();
  header.header = data::internal::header_hash(header);
  std::memcpy(bytes.data(), &header, sizeof(header));
}

}  // namespace headway::testing_support
