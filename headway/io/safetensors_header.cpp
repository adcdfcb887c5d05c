// See safetensors_header.h. Not for: loading tensors.
#include "headway/io/safetensors_header.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/io/internal/header_sax.h"

namespace headway::io {
namespace {

constexpr int64_t kLengthBytes = 8;

int64_t header_length(std::span<const std::byte> bytes, const std::string& file) {
  if (bytes.size() < kLengthBytes) {
    throw_safetensors(
        SafetensorsRule::kTooShort, file, "",
        fmt::format("size = {} bytes, allowed at least {}", bytes.size(), kLengthBytes));
  }
  uint64_t length = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i)
    length = length << 8 | std::to_integer<uint64_t>(bytes[i]);
  const uint64_t held = bytes.size() - kLengthBytes;
  if (length > static_cast<uint64_t>(kMaxHeaderBytes) || length > held) {
    throw_safetensors(
        SafetensorsRule::kHeaderLength, file, "",
        fmt::format("header = {} bytes, allowed at most {}; hint: the file may be cut off", length,
                    std::min<uint64_t>(held, kMaxHeaderBytes)));
  }
  return static_cast<int64_t>(length);
}

void check_sizes(const TensorEntry& entry, const std::string& file) {
  const TensorInfo& info = entry.info;
  const auto fail = [&](SafetensorsRule rule, const std::string& what) {
    throw_safetensors(rule, file, info.name, what);
  };
  int64_t bits = 0;
  const auto numel = checked_numel(info.shape);
  if (!numel || __builtin_mul_overflow(*numel, dtype_bits(info.dtype), &bits)) {
    fail(SafetensorsRule::kShapeOverflow,
         fmt::format("shape = {}, allowed at most 2^63-1 bits", shape_text(info.shape)));
  }
  if (bits % 8 != 0) {
    fail(SafetensorsRule::kPartialByte,
         fmt::format("{} of {} = {} bits, allowed whole bytes", enum_name(info.dtype),
                     shape_text(info.shape), bits));
  }
  if (entry.begin > entry.end) {
    fail(SafetensorsRule::kOffsetOrder,
         fmt::format("data_offsets = [{}, {}], allowed begin <= end", entry.begin, entry.end));
  }
  if (entry.end - entry.begin != bits / 8) {
    fail(SafetensorsRule::kByteLength,
         fmt::format("data_offsets = [{}, {}], allowed {} bytes for {} of {}", entry.begin,
                     entry.end, bits / 8, enum_name(info.dtype), shape_text(info.shape)));
  }
}

/// The tensors must tile the data: no overlap, no hole, nothing after the last.
void check_tiling(const SafetensorsHeader& header, int64_t data_bytes, const std::string& file) {
  int64_t end = 0;
  for (size_t i = 0; i < header.entries.size(); ++i) {
    const TensorEntry& entry = header.entries[i];
    if (entry.begin != end) {
      const SafetensorsRule rule = i == 0              ? SafetensorsRule::kFirstOffset
                                   : entry.begin < end ? SafetensorsRule::kOverlap
                                                       : SafetensorsRule::kHole;
      throw_safetensors(
          rule, file, entry.info.name,
          fmt::format("begin = {}, allowed {}, where the tensor before it ends", entry.begin, end));
    }
    end = entry.end;
  }
  if (end != data_bytes) {
    throw_safetensors(
        SafetensorsRule::kEndOfData, file,
        header.entries.empty() ? "" : header.entries.back().info.name,
        fmt::format("end = {}, allowed {}, where the file ends; hint: the file may be "
                    "cut off or have bytes appended",
                    end, data_bytes));
  }
}

}  // namespace

void throw_safetensors(SafetensorsRule rule, const std::string& file, const std::string& tensor,
                       const std::string& what) {
  const std::string place =
      tensor.empty() ? file : fmt::format("{}: tensor \"{}\"", file, shorten(tensor));
  throw SafetensorsError(
      rule, replace_invalid_utf8(fmt::format("[{}] {} (rule: {})", place, what, enum_name(rule))));
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> bytes,
                                           const std::string& file) {
  const int64_t length = header_length(bytes, file);
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + kLengthBytes;
  if (length == 0 || text[0] != '{') {
    throw_safetensors(SafetensorsRule::kHeaderStart, file, "",
                      "first byte of the header = not '{', allowed '{'");
  }
  if (const auto invalid = find_invalid_utf8(std::string_view(text, static_cast<size_t>(length)))) {
    throw_safetensors(SafetensorsRule::kJson, file, "",
                      fmt::format("header = not UTF-8 at byte {}", *invalid));
  }
  // The JSON library takes a NUL byte for the end of its input and would not look further.
  if (std::memchr(text, '\0', static_cast<size_t>(length)) != nullptr) {
    throw_safetensors(SafetensorsRule::kJson, file, "", "header = not JSON (NUL byte)");
  }
  SafetensorsHeader header;
  header.data_start = kLengthBytes + length;
  internal::HeaderSax sax(header, file);
  nlohmann::json::sax_parse(text, text + length, &sax);
  for (const TensorEntry& entry : header.entries) check_sizes(entry, file);
  std::ranges::sort(header.entries, [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.begin, a.end, a.info.name) < std::tie(b.begin, b.end, b.info.name);
  });
  check_tiling(header, static_cast<int64_t>(bytes.size()) - header.data_start, file);
  return header;
}

}  // namespace headway::io
