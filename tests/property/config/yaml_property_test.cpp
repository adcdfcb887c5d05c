// Any JSON value survives being written as YAML and read back; any text survives as a scalar.
#include <cmath>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "headway/base/text_util.h"
#include "headway/config/yaml.h"

namespace headway::config {
namespace {

std::string arbitrary_text() {
  const auto bytes = *rc::gen::container<std::string>(rc::gen::oneOf(
      rc::gen::element('a', 'Z', '0', '-', ':', '#', ' ', '\n', '"', '\'', '{', '&', '.', '~'),
      rc::gen::arbitrary<char>()));
  std::string text = replace_invalid_utf8(bytes);
  std::erase(text, '\0');
  return text;
}

Json arbitrary_value(int depth) {
  const int kind = *rc::gen::inRange(0, depth > 0 ? 8 : 6);
  switch (kind) {
    case 0:
      return nullptr;
    case 1:
      return *rc::gen::arbitrary<bool>();
    case 2:
      return *rc::gen::arbitrary<int64_t>();
    case 3: {
      const double value = *rc::gen::arbitrary<double>();
      return std::isfinite(value) ? Json(value) : Json(1.5);
    }
    case 4:
    case 5:
      return arbitrary_text();
    case 6: {
      Json list = Json::array();
      const int count = *rc::gen::inRange(0, 4);
      for (int i = 0; i < count; ++i) list.push_back(arbitrary_value(depth - 1));
      return list;
    }
    default: {
      Json object = Json::object();
      const int count = *rc::gen::inRange(0, 4);
      for (int i = 0; i < count; ++i) object["k" + arbitrary_text()] = arbitrary_value(depth - 1);
      return object;
    }
  }
}

RC_GTEST_PROP(YamlProperty, WriteThenReadIsIdentity, ()) {
  const Json value = arbitrary_value(3);
  RC_ASSERT(parse_yaml(emit_yaml(value), "x") == value);
}

RC_GTEST_PROP(YamlProperty, PlainScalarsThatAreTextReadBackAsText, ()) {
  const std::string text = arbitrary_text();
  const Json read = resolve_plain_scalar(text);
  if (read.is_string()) RC_ASSERT(read.get<std::string>() == text);
  if (read.is_number_integer()) RC_ASSERT(!text.empty());
}

}  // namespace
}  // namespace headway::config
