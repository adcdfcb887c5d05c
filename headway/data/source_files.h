// From the paths a user names to the list of files that hold text.
// Not for: reading what is in them (documents.h).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace headway::data {

/// kText: the file is one document. kJsonl: every line is a document. kIndexed: the .idx of a
/// Megatron dataset, which holds tokens. The numbers go into cache keys.
enum class SourceFormat { kText = 0, kJsonl = 1, kIndexed = 2 };

struct SourceFile {
  std::filesystem::path path;
  SourceFormat format = SourceFormat::kText;
  bool operator==(const SourceFile&) const = default;
};

struct SourceList {
  std::vector<SourceFile> files;               // sorted by path, byte by byte
  std::vector<std::filesystem::path> skipped;  // binary files of folders
};

/// Files named by `paths` and files anywhere below folders named there, all sorted by path.
/// A name ending in .jsonl or .ndjson is JSON lines; PREFIX, PREFIX.bin or PREFIX.idx is a dataset
/// if PREFIX.bin and PREFIX.idx both exist; any other is text. In folders, names that
/// start with '.', linked folders and binary files (a NUL in the first 8 KiB) are passed over; a
/// file named itself is always taken. `where` is the configuration key for messages. Errors:
/// ConfigError (no path, a file reached twice); CheckpointError (missing, unreadable, neither file
/// nor folder, a folder without text). Test: tests/unit/data/source_files_test.cpp
SourceList find_sources(const std::vector<std::string>& paths, std::string_view where);

}  // namespace headway::data
