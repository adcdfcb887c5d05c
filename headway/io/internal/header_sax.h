// Event handler that reads a safetensors header without a DOM, which would keep only one of two
// equal keys. Not for: any other JSON.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>

#include <nlohmann/json.hpp>

#include "headway/io/safetensors_header.h"

namespace headway::io::internal {

class HeaderSax : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderSax(SafetensorsHeader& header, const std::string& file) : header_(header), file_(file) {}

  bool null() override { return wrong_type("null"); }
  bool boolean(bool) override { return wrong_type("a boolean"); }
  bool number_integer(number_integer_t value) override;
  bool number_unsigned(number_unsigned_t value) override;
  bool number_float(number_float_t value, const string_t& text) override;
  bool string(string_t& value) override;
  bool binary(binary_t&) override { return wrong_type("binary data"); }
  bool start_object(std::size_t) override;
  bool key(string_t& key) override;
  bool end_object() override;
  bool start_array(std::size_t) override;
  bool end_array() override;
  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::json::exception& error) override;

 private:
  enum class Place {
    kStart,
    kRoot,
    kMetadataValue,
    kEntryValue,
    kMetadata,
    kEntry,
    kDtype,
    kShapeValue,
    kOffsetsValue,
    kShape,
    kOffsets,
    kEnd
  };

  [[noreturn]] void fail(SafetensorsRule rule, const std::string& what) const;
  [[noreturn]] bool wrong_type(std::string_view got) const;
  void enter();
  void begin_tensor(const std::string& name);
  void begin_field(const std::string& name);
  void end_entry();

  SafetensorsHeader& header_;
  const std::string& file_;
  Place place_ = Place::kStart;
  int depth_ = 0;
  std::unordered_set<std::string> names_;
  TensorEntry entry_;
  std::string metadata_key_;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  int offsets_ = 0;
};

}  // namespace headway::io::internal
