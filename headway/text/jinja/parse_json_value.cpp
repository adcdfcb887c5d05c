// JSON to template values by events, so that order, large integers and repeated keys come out as
// Python's json module has them. Not for: recovering from damage.
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/text/jinja/json_text.h"

namespace headway::text::jinja {
namespace {

constexpr std::size_t kDeepest = 100;

class ValueBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ValueBuilder(std::string_view where) : where_(where) {}
  Value result;

  bool null() override { return add(Value()); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(std::int64_t{value}); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value <= std::uint64_t{INT64_MAX}) return add(static_cast<std::int64_t>(value));
    return add(*BigInt::parse(std::to_string(value), 10));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    if (text.find_first_of(".eE") != std::string::npos) return add(value);
    const bool negative = text[0] == '-';
    const auto magnitude = BigInt::parse(text.substr(negative ? 1 : 0), 10);
    return add(negative ? magnitude->negated() : *magnitude);
  }
  bool string(string_t& value) override { return add(Value(std::move(value))); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(true); }
  bool key(string_t& value) override {
    open_.back().key = Value(std::move(value));
    return true;
  }
  bool end_object() override {
    Value dict(std::move(open_.back().dict));
    open_.pop_back();
    return add(std::move(dict));
  }
  bool start_array(std::size_t) override { return open(false); }
  bool end_array() override {
    Value list = make_list(std::move(open_.back().items));
    open_.pop_back();
    return add(std::move(list));
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    throw ConfigError(fmt::format("[{}] JSON = damaged at byte {} ({}), allowed one JSON document",
                                  where_, position, shorten(error.what())));
  }

 private:
  struct Open {
    std::shared_ptr<Dict> dict;  // null: a list
    Value key;
    Values items;
  };

  bool open(bool is_object) {
    if (open_.size() == kDeepest) {
      throw ConfigError(
          fmt::format("[{}] JSON = nested more than {} deep, allowed less", where_, kDeepest));
    }
    open_.push_back({is_object ? std::make_shared<Dict>() : nullptr, {}, {}});
    return true;
  }
  bool add(Value value) {
    if (open_.empty()) {
      result = std::move(value);
    } else if (open_.back().dict) {
      open_.back().dict->set(open_.back().key, std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  std::string where_;
  std::vector<Open> open_;
};

}  // namespace

Value parse_json_value(std::string_view text, std::string_view where) {
  ValueBuilder builder(where);
  nlohmann::json::sax_parse(text, &builder);
  return std::move(builder.result);
}

}  // namespace headway::text::jinja
