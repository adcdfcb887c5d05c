// The header of a safetensors file: what it may say, and every rule that is checked before a byte
// of tensor data is touched. Layout: u64 little-endian N, N bytes of JSON, data.
// Not for: opening files (safetensors_file.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "headway/base/enum_table.h"
#include "headway/base/error.h"
#include "headway/io/dtype.h"

namespace headway::io {

/// Each way in which a file can be wrong, in the order in which they are checked.
enum class SafetensorsRule {
  kTooShort,       // fewer than 8 bytes
  kHeaderLength,   // N above the limit, or more than the file holds
  kHeaderStart,    // the first byte is not {
  kJson,           // not JSON, or not UTF-8
  kDepth,          // nested too deeply
  kDuplicate,      // a name or field given twice
  kStructure,      // a value of the wrong type in its place
  kUnknownField,   // an entry has a field besides dtype, shape, data_offsets
  kMissingField,   // an entry lacks one of them
  kNumber,         // not an integer in 0..2^63-1
  kRank,           // too many axes
  kTensorCount,    // too many tensors
  kName,           // too long, or with control characters
  kDtype,          // unknown element type
  kShapeOverflow,  // elements or bits exceed 2^63-1
  kPartialByte,    // bits do not fill whole bytes
  kOffsetOrder,    // begin > end
  kByteLength,     // end - begin is not what dtype and shape need
  kFirstOffset,    // data does not begin at 0
  kOverlap,        // two tensors share bytes
  kHole,           // bytes between tensors belong to none
  kEndOfData,      // the last tensor does not end where the file ends
  kBoolValue,      // a BOOL byte other than 0 and 1 (checked on load)
};

/// A safetensors file that breaks a rule: `[file: tensor "x"] rule: …`.
class SafetensorsError : public CheckpointError {
 public:
  SafetensorsError(SafetensorsRule rule, const std::string& message)
      : CheckpointError(message), rule_(rule) {}
  SafetensorsRule rule() const { return rule_; }

 private:
  SafetensorsRule rule_;
};

/// A tensor as a header states it.
struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<int64_t> shape;
  bool operator==(const TensorInfo&) const = default;
};

struct TensorEntry {
  TensorInfo info;
  int64_t begin = 0;  // bytes from the start of the data
  int64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<TensorEntry> entries;  // sorted by position in the file
  std::map<std::string, std::string> metadata;
  int64_t data_start = 0;  // bytes from the start of the file
};

inline constexpr int64_t kMaxHeaderBytes = 100'000'000;
inline constexpr int kMaxRank = 16;
inline constexpr size_t kMaxTensors = 1'000'000;
inline constexpr size_t kMaxNameBytes = 4096;

/// Parses and checks the header of a whole file. `file` names it in messages.
/// Throws SafetensorsError. Allocates no more than the header asks for byte by byte.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> bytes,
                                           const std::string& file);

[[noreturn]] void throw_safetensors(SafetensorsRule rule, const std::string& file,
                                    const std::string& tensor, const std::string& what);

}  // namespace headway::io

namespace headway {

template <>
struct EnumTable<io::SafetensorsRule> {
  static constexpr auto kEntries = std::to_array<EnumEntry<io::SafetensorsRule>>(
      {{io::SafetensorsRule::kTooShort, "file size"},
       {io::SafetensorsRule::kHeaderLength, "header length"},
       {io::SafetensorsRule::kHeaderStart, "header start"},
       {io::SafetensorsRule::kJson, "header JSON"},
       {io::SafetensorsRule::kDepth, "header depth"},
       {io::SafetensorsRule::kDuplicate, "duplicate key"},
       {io::SafetensorsRule::kStructure, "header structure"},
       {io::SafetensorsRule::kUnknownField, "unknown field"},
       {io::SafetensorsRule::kMissingField, "missing field"},
       {io::SafetensorsRule::kNumber, "number"},
       {io::SafetensorsRule::kRank, "rank"},
       {io::SafetensorsRule::kTensorCount, "tensor count"},
       {io::SafetensorsRule::kName, "tensor name"},
       {io::SafetensorsRule::kDtype, "dtype"},
       {io::SafetensorsRule::kShapeOverflow, "shape overflow"},
       {io::SafetensorsRule::kPartialByte, "partial byte"},
       {io::SafetensorsRule::kOffsetOrder, "offset order"},
       {io::SafetensorsRule::kByteLength, "byte length"},
       {io::SafetensorsRule::kFirstOffset, "first offset"},
       {io::SafetensorsRule::kOverlap, "overlap"},
       {io::SafetensorsRule::kHole, "hole"},
       {io::SafetensorsRule::kEndOfData, "end of data"},
       {io::SafetensorsRule::kBoolValue, "BOOL value"}});
};

}  // namespace headway
