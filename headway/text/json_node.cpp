// One place for the wording of errors in tokenizer files.
// Not for: what the keys mean.
#include "headway/text/json_node.h"

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/json.h"
#include "headway/base/text_util.h"
#include "headway/text/unicode.h"

namespace headway::text {
namespace {

std::string summary(const TokenizerJson& value) {
  if (value.is_object() || value.is_array()) {
    return fmt::format("a {} of {} values", value.is_object() ? "mapping" : "list", value.size());
  }
  if (value.is_string()) return fmt::format("\"{}\"", shorten(value.get<std::string>(), 60));
  return shorten(value.dump(), 60);
}

}  // namespace

void JsonNode::fail(std::string_view allowed) const {
  throw CheckpointError(
      fmt::format("[{}] {} = {}, allowed {}", file_, shown_path(), summary(*value_), allowed));
}

void JsonNode::fail_with(std::string_view problem) const {
  throw CheckpointError(fmt::format("[{}] {}: {}", file_, shown_path(), problem));
}

void JsonNode::unsupported(std::string_view reason) const {
  throw UnsupportedError(
      fmt::format("[{}] {} = {}: {}", file_, shown_path(), summary(*value_), reason));
}

JsonNode JsonNode::at(std::string_view key) const {
  require_object();
  const auto found = value_->find(std::string(key));
  if (found == value_->end()) {
    const std::string place = path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
    throw CheckpointError(fmt::format("[{}] {} = absent, allowed a value", file_, place));
  }
  return {*found, file_, path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key)};
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  require_object();
  const auto found = value_->find(std::string(key));
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return at(key);
}

JsonNode JsonNode::at(std::size_t index) const {
  return {(*value_)[index], file_, fmt::format("{}[{}]", path_, index)};
}

const JsonNode& JsonNode::require_list(std::optional<std::size_t> length) const {
  if (!value_->is_array()) fail("a list");
  if (length && value_->size() != *length) fail(fmt::format("a list of {} values", *length));
  return *this;
}

const JsonNode& JsonNode::require_object() const {
  if (!value_->is_object()) fail("a mapping");
  return *this;
}

std::string JsonNode::string() const {
  if (!value_->is_string()) fail("a string");
  return value_->get<std::string>();
}

bool JsonNode::boolean() const {
  if (!value_->is_boolean()) fail("true or false");
  return value_->get<bool>();
}

std::int64_t JsonNode::integer(std::int64_t low, std::int64_t high) const {
  const bool whole = value_->is_number_integer();
  const bool too_large = value_->is_number_unsigned() &&
                         value_->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX);
  if (!whole || too_large || value_->get<std::int64_t>() < low ||
      value_->get<std::int64_t>() > high) {
    fail(fmt::format("an integer in [{}, {}]", low, high));
  }
  return value_->get<std::int64_t>();
}

double JsonNode::number() const {
  if (!value_->is_number()) fail("a number");
  return value_->get<double>();
}

char32_t JsonNode::character() const {
  const std::string text = string();
  if (text.empty() || decode_point(text, 0).length != text.size()) fail("one character");
  return decode_point(text, 0).point;
}

bool JsonNode::boolean_or(std::string_view key, bool fallback) const {
  const auto node = find(key);
  return node ? node->boolean() : fallback;
}

std::optional<std::string> JsonNode::string_or_none(std::string_view key,
                                                    bool empty_is_none) const {
  const auto node = find(key);
  if (!node) return std::nullopt;
  std::string text = node->string();
  if (text.empty() && empty_is_none) return std::nullopt;
  return text;
}

}  // namespace headway::text
