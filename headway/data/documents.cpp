// Streams files in chunks; memory is bounded by a chunk or by the longest JSON line.
// Not for: memory maps, which die when a file is shortened while it is read.
#include "headway/data/documents.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/json.h"
#include "headway/base/text_util.h"
#include "headway/text/utf8.h"

namespace headway::data {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;
constexpr JsonLimits kLineLimits{.max_bytes = std::int64_t{1} << 30, .max_depth = 100};

template <class F>
ContentHash::Value read_chunks(const std::filesystem::path& path, F callback) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw CheckpointError(fmt::format("[{}] file = {}, allowed a readable file", path.string(),
                                      std::strerror(errno)));
  }
  ContentHash hash;
  std::string buffer(kChunk, '\0');
  do {
    file.read(buffer.data(), kChunk);
    const std::string_view chunk(buffer.data(), static_cast<std::size_t>(file.gcount()));
    hash.update(chunk);
    callback(chunk);
  } while (file);
  if (file.bad()) {
    throw CheckpointError(
        fmt::format("[{}] file = read error, allowed a readable file", path.string()));
  }
  return hash.value();
}

[[noreturn]] void fail_utf8(const std::string& where, std::int64_t offset, char byte) {
  throw CheckpointError(fmt::format(
      "[{}] byte at offset {} = 0x{:02X} (not UTF-8), allowed UTF-8 text; hint: convert the file, "
      "or leave it out",
      where, offset, static_cast<unsigned char>(byte)));
}

class TextReader {
 public:
  TextReader(const SourceFile& source, const PieceCallback& callback)
      : where_(source.path.string()), callback_(callback) {}

  void push(std::string_view chunk) {
    pending_ += chunk;
    const std::size_t whole = pending_.size() - text::incomplete_utf8_suffix(pending_);
    emit(std::string_view(pending_).substr(0, whole));
    pending_.erase(0, whole);
  }

  void finish() {
    if (!pending_.empty()) fail_utf8(where_, offset_, pending_[0]);
    callback_("", true);
  }

 private:
  void emit(std::string_view piece) {
    if (const auto bad = find_invalid_utf8(piece)) {
      fail_utf8(where_, offset_ + static_cast<std::int64_t>(*bad), piece[*bad]);
    }
    offset_ += static_cast<std::int64_t>(piece.size());
    if (!piece.empty()) callback_(piece, false);
  }

  std::string where_;
  const PieceCallback& callback_;
  std::string pending_;
  std::int64_t offset_ = 0;  // of pending_ in the file
};

class LineReader {
 public:
  LineReader(const SourceFile& source, const LineCallback& callback)
      : where_(source.path.string()), callback_(callback) {}

  void push(std::string_view chunk) {
    std::size_t end;
    while ((end = chunk.find('\n')) != std::string_view::npos) {
      pending_ += chunk.substr(0, end);
      take_line();
      chunk.remove_prefix(end + 1);
    }
    pending_ += chunk;
  }

  void finish() { take_line(); }

 private:
  void take_line() {
    ++line_;
    const std::string where = fmt::format("{}:{}", where_, line_);
    if (const auto bad = find_invalid_utf8(pending_)) {
      fail_utf8(where, offset_ + static_cast<std::int64_t>(*bad), pending_[*bad]);
    }
    offset_ += static_cast<std::int64_t>(pending_.size()) + 1;
    if (!trim(pending_).empty()) callback_(pending_, where);
    pending_.clear();
  }

  std::string where_;
  const LineCallback& callback_;
  std::string pending_;
  std::int64_t line_ = 0;
  std::int64_t offset_ = 0;  // of pending_ in the file
};

/// The text of a line that is an object.
std::string text_of_line(std::string_view line, const std::string& where,
                         const std::string& text_field) {
  const auto object = parse_json<nlohmann::json>(line, where, JsonErrors::kCheckpoint, kLineLimits);
  if (!object.is_object()) {
    throw CheckpointError(fmt::format("[{}] line = {}, allowed an object with \"{}\"", where,
                                      json_summary(Json(object)), text_field));
  }
  const auto field = object.find(text_field);
  if (field == object.end()) {
    std::vector<std::string> names;
    for (const auto& item : object.items()) names.push_back(item.key());
    throw CheckpointError(
        fmt::format("[{}] {} = absent, allowed a string; hint: data.text_field names the field, "
                    "this line has: {}",
                    where, text_field, shorten(join(names, ", "))));
  }
  if (!field->is_string()) {
    throw CheckpointError(fmt::format("[{}] {} = {}, allowed a string", where, text_field,
                                      json_summary(Json(*field))));
  }
  return field->get<std::string>();
}

template <class Reader>
ContentHash::Value read_with(const SourceFile& source, Reader reader) {
  const auto hash = read_chunks(source.path, [&](std::string_view chunk) { reader.push(chunk); });
  reader.finish();
  return hash;
}

}  // namespace

ContentHash::Value hash_file(const std::filesystem::path& path) {
  return read_chunks(path, [](std::string_view) {});
}

ContentHash::Value read_lines(const SourceFile& source, const LineCallback& callback) {
  return read_with(source, LineReader(source, callback));
}

ContentHash::Value read_documents(const SourceFile& source, const std::string& text_field,
                                  const PieceCallback& callback) {
  if (source.format != SourceFormat::kJsonl) return read_with(source, TextReader(source, callback));
  return read_lines(source, [&](std::string_view line, const std::string& where) {
    callback(text_of_line(line, where, text_field), true);
  });
}

}  // namespace headway::data
