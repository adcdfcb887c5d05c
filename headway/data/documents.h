// Text of source files, document by document, checked to be UTF-8.
// Not for: choosing files (source_files.h) or tokens (tokenize.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "headway/base/content_hash.h"
#include "headway/data/source_files.h"

namespace headway::data {

/// Receives a document as one or more pieces that end between characters; `last` closes it (that
/// piece may be empty).
using PieceCallback = std::function<void(std::string_view piece, bool last)>;

/// Hash of the bytes of a file. Errors: CheckpointError (missing, unreadable).
ContentHash::Value hash_file(const std::filesystem::path& path);

/// Receives a line of a JSON lines file and "file:number" for messages.
using LineCallback = std::function<void(std::string_view line, const std::string& where)>;

/// Hands over every line of `source` that is not blank and returns the hash of the bytes that were
/// read. Errors: CheckpointError naming file, line and byte offset (not UTF-8).
ContentHash::Value read_lines(const SourceFile& source, const LineCallback& callback);

/// Hands over every document of `source` and returns the hash of the bytes that were read.
/// Text files are one document in pieces of about 1 MiB. Of JSON lines (separated by LF; blank
/// lines are passed over) each must be an object whose `text_field` is a string: one document, one
/// piece. Errors: CheckpointError naming the file and the byte offset (not UTF-8) or the line (not
/// an object, no such field, not a string). Test: tests/unit/data/documents_test.cpp
ContentHash::Value read_documents(const SourceFile& source, const std::string& text_field,
                                  const PieceCallback& callback);

}  // namespace headway::data
