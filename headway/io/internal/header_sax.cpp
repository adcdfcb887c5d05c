// See header_sax.h. Not for: rules that need more than one entry (safetensors_header.cpp).
#include "headway/io/internal/header_sax.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "headway/base/text_util.h"

namespace headway::io::internal {
namespace {

constexpr int kMaxDepth = 4;
constexpr std::string_view kMetadataKey = "__metadata__";

bool has_control_character(std::string_view text) {
  return std::ranges::any_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

}  // namespace

void HeaderSax::fail(SafetensorsRule rule, const std::string& what) const {
  throw_safetensors(rule, file_, entry_.info.name, what);
}

bool HeaderSax::wrong_type(std::string_view got) const {
  switch (place_) {
    case Place::kStart:
      fail(SafetensorsRule::kStructure, fmt::format("header = {}, allowed an object", got));
    case Place::kMetadataValue:
      fail(SafetensorsRule::kStructure, fmt::format("__metadata__ = {}, allowed an object", got));
    case Place::kMetadata:
      fail(SafetensorsRule::kStructure,
           fmt::format("__metadata__.{} = {}, allowed a string", shorten(metadata_key_), got));
    case Place::kEntryValue:
      fail(SafetensorsRule::kStructure, fmt::format("entry = {}, allowed an object", got));
    case Place::kDtype:
      fail(SafetensorsRule::kStructure, fmt::format("dtype = {}, allowed a string", got));
    case Place::kShapeValue:
      fail(SafetensorsRule::kStructure, fmt::format("shape = {}, allowed a list", got));
    case Place::kOffsetsValue:
      fail(SafetensorsRule::kStructure, fmt::format("data_offsets = {}, allowed a list", got));
    case Place::kShape:
      fail(SafetensorsRule::kNumber, fmt::format("shape holds {}, allowed integers", got));
    case Place::kOffsets:
      fail(SafetensorsRule::kNumber, fmt::format("data_offsets holds {}, allowed integers", got));
    default:
      fail(SafetensorsRule::kStructure, fmt::format("{} where none is allowed", got));
  }
}

bool HeaderSax::number_integer(number_integer_t value) {
  if (place_ == Place::kShape || place_ == Place::kOffsets) {
    fail(SafetensorsRule::kNumber, fmt::format("number = {}, allowed an integer in 0..2^63-1",
                                               value == 0 ? "-0" : std::to_string(value)));
  }
  return wrong_type("a number");
}

bool HeaderSax::number_unsigned(number_unsigned_t value) {
  if (place_ != Place::kShape && place_ != Place::kOffsets) return wrong_type("a number");
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    fail(SafetensorsRule::kNumber,
         fmt::format("number = {}, allowed an integer in 0..2^63-1", value));
  }
  const auto number = static_cast<int64_t>(value);
  if (place_ == Place::kShape) {
    if (entry_.info.shape.size() == kMaxRank) {
      fail(SafetensorsRule::kRank,
           fmt::format("rank = more than {0}, allowed at most {0}", kMaxRank));
    }
    entry_.info.shape.push_back(number);
    return true;
  }
  if (offsets_ == 2) {
    fail(SafetensorsRule::kStructure, "data_offsets = more than two numbers, allowed [begin, end]");
  }
  (offsets_++ == 0 ? entry_.begin : entry_.end) = number;
  return true;
}

bool HeaderSax::number_float(number_float_t, const string_t& text) {
  if (place_ != Place::kShape && place_ != Place::kOffsets) return wrong_type("a number");
  fail(SafetensorsRule::kNumber,
       fmt::format("number = {}, allowed an integer in 0..2^63-1", shorten(text, 40)));
}

bool HeaderSax::string(string_t& value) {
  if (place_ == Place::kMetadata) {
    header_.metadata[metadata_key_] = value;
    return true;
  }
  if (place_ != Place::kDtype) return wrong_type("a string");
  const auto dtype = enum_parse<Dtype>(value);
  if (!dtype) {
    fail(SafetensorsRule::kDtype,
         fmt::format("dtype = \"{}\", allowed {}", shorten(value), enum_allowed<Dtype>()));
  }
  entry_.info.dtype = *dtype;
  place_ = Place::kEntry;
  return true;
}

void HeaderSax::enter() {
  if (++depth_ > kMaxDepth) {
    fail(SafetensorsRule::kDepth, fmt::format("depth = {}, allowed at most {}", depth_, kMaxDepth));
  }
}

bool HeaderSax::start_object(std::size_t) {
  enter();
  switch (place_) {
    case Place::kStart:
      place_ = Place::kRoot;
      return true;
    case Place::kMetadataValue:
      place_ = Place::kMetadata;
      return true;
    case Place::kEntryValue:
      place_ = Place::kEntry;
      return true;
    default:
      return wrong_type("an object");
  }
}

bool HeaderSax::start_array(std::size_t) {
  enter();
  if (place_ == Place::kShapeValue) {
    place_ = Place::kShape;
  } else if (place_ == Place::kOffsetsValue) {
    place_ = Place::kOffsets;
  } else {
    return wrong_type("a list");
  }
  return true;
}

bool HeaderSax::end_array() {
  --depth_;
  if (place_ == Place::kOffsets && offsets_ != 2) {
    fail(SafetensorsRule::kStructure,
         fmt::format("data_offsets = {} numbers, allowed [begin, end]", offsets_));
  }
  place_ = Place::kEntry;
  return true;
}

bool HeaderSax::key(string_t& key) {
  if (place_ == Place::kRoot) {
    begin_tensor(key);
  } else if (place_ == Place::kMetadata) {
    if (header_.metadata.contains(key)) {
      fail(SafetensorsRule::kDuplicate,
           fmt::format("__metadata__.{} = given twice, allowed once", shorten(key)));
    }
    metadata_key_ = key;
  } else {
    begin_field(key);
  }
  return true;
}

void HeaderSax::begin_tensor(const std::string& name) {
  entry_ = {};
  if (!names_.insert(name).second) {
    fail(SafetensorsRule::kDuplicate,
         fmt::format("name \"{}\" = given twice, allowed once", shorten(name)));
  }
  if (name == kMetadataKey) {
    place_ = Place::kMetadataValue;
    return;
  }
  if (name.size() > kMaxNameBytes || has_control_character(name)) {
    fail(SafetensorsRule::kName,
         fmt::format("name of {} bytes, allowed at most {} without control characters", name.size(),
                     kMaxNameBytes));
  }
  if (header_.entries.size() == kMaxTensors) {
    fail(SafetensorsRule::kTensorCount,
         fmt::format("tensors = more than {0}, allowed at most {0}", kMaxTensors));
  }
  entry_.info.name = name;
  has_dtype_ = has_shape_ = has_offsets_ = false;
  offsets_ = 0;
  place_ = Place::kEntryValue;
}

void HeaderSax::begin_field(const std::string& name) {
  const auto take = [&](bool& seen, Place next) {
    if (seen) {
      fail(SafetensorsRule::kDuplicate, fmt::format("{} = given twice, allowed once", name));
    }
    seen = true;
    place_ = next;
  };
  if (name == "dtype") {
    take(has_dtype_, Place::kDtype);
  } else if (name == "shape") {
    take(has_shape_, Place::kShapeValue);
  } else if (name == "data_offsets") {
    take(has_offsets_, Place::kOffsetsValue);
  } else {
    fail(SafetensorsRule::kUnknownField,
         fmt::format("field = \"{}\", allowed dtype | shape | data_offsets", shorten(name)));
  }
}

bool HeaderSax::end_object() {
  --depth_;
  if (place_ == Place::kEntry) end_entry();
  place_ = place_ == Place::kRoot ? Place::kEnd : Place::kRoot;
  return true;
}

void HeaderSax::end_entry() {
  for (const auto& [seen, name] : {std::pair(has_dtype_, "dtype"), std::pair(has_shape_, "shape"),
                                   std::pair(has_offsets_, "data_offsets")}) {
    if (!seen) fail(SafetensorsRule::kMissingField, fmt::format("{} = missing", name));
  }
  header_.entries.push_back(std::move(entry_));
  entry_ = {};
}

bool HeaderSax::parse_error(std::size_t position, const std::string&,
                            const nlohmann::json::exception& error) {
  throw_safetensors(
      SafetensorsRule::kJson, file_, "",
      fmt::format("header = not JSON at byte {} ({})", position, shorten(error.what(), 200)));
}

}  // namespace headway::io::internal
