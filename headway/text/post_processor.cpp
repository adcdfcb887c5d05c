// Templates and offset trimming.
// Not for: reading them from JSON (post_processor_parse.cpp).
#include "headway/text/post_processor.h"

#include <algorithm>

#include "headway/text/byte_alphabet.h"
#include "headway/text/unicode.h"

namespace headway::text {
namespace {

bool is_space(char32_t point) { return point == byte_to_character(' ') || is_white_space(point); }

// [begin, end) without the white space that `token` holds at its ends.
Offset trimmed(std::string_view token, std::size_t index, bool add_prefix_space, Offset offset) {
  const std::vector<char32_t> points = utf8_to_points(token);
  const auto first = std::find_if_not(points.begin(), points.end(), is_space);
  const auto last = std::find_if_not(points.rbegin(), points.rend(), is_space);
  auto leading = static_cast<std::int64_t>(first - points.begin());
  const auto trailing = static_cast<std::int64_t>(last - points.rbegin());
  if (leading > 0) {
    const bool is_first = index == 0 || offset.begin == 0;
    if (is_first && add_prefix_space && leading == 1) leading = 0;  // the space is ours
    offset.begin = std::min(offset.begin + leading, offset.end);
  }
  if (trailing > 0 && offset.end >= trailing) {
    offset.end = std::max(offset.end - trailing, offset.begin);
  }
  return offset;
}

void append(Encoding& out, const Encoding& part) {
  out.ids.insert(out.ids.end(), part.ids.begin(), part.ids.end());
  out.offsets.insert(out.offsets.end(), part.offsets.begin(), part.offsets.end());
}

Encoding fill(const std::vector<TemplateItem>& items, const Encoding& first, const Encoding& second,
              bool add_special) {
  const bool with_offsets = first.offsets.size() == first.ids.size();
  Encoding out;
  for (const TemplateItem& item : items) {
    if (item.is_sequence) {
      append(out, item.sequence == 'A' ? first : second);
    } else if (add_special) {
      out.ids.insert(out.ids.end(), item.ids.begin(), item.ids.end());
      if (with_offsets) out.offsets.resize(out.ids.size());
    }
  }
  return out;
}

}  // namespace

bool trims_offsets(const std::vector<PostProcessor>& steps) {
  return std::any_of(steps.begin(), steps.end(), [](const PostProcessor& step) {
    return std::holds_alternative<TrimOffsetsStep>(step);
  });
}

void trim_offsets(const std::vector<PostProcessor>& steps, const TokenSpelling& spelling,
                  std::vector<Offset>& offsets) {
  for (const PostProcessor& step : steps) {
    const auto* trim = std::get_if<TrimOffsetsStep>(&step);
    if (trim == nullptr) continue;
    for (std::size_t i = 0; i < offsets.size(); ++i) {
      offsets[i] = trimmed(spelling(i), i, trim->add_prefix_space, offsets[i]);
    }
  }
}

Encoding add_special_tokens(const std::vector<PostProcessor>& steps, Encoding encoding) {
  for (const PostProcessor& step : steps) {
    if (const auto* filled = std::get_if<TemplateStep>(&step)) {
      encoding = fill(filled->single, encoding, {}, true);
    }
  }
  return encoding;
}

Encoding join_pair(const std::vector<PostProcessor>& steps, const Encoding& first,
                   const Encoding& second, bool add_special) {
  for (const PostProcessor& step : steps) {
    if (const auto* filled = std::get_if<TemplateStep>(&step)) {
      return fill(filled->pair, first, second, add_special);
    }
  }
  Encoding out = first;
  append(out, second);
  return out;
}

std::size_t count_special_tokens(const std::vector<PostProcessor>& steps, bool pair) {
  std::size_t count = 0;
  for (const PostProcessor& step : steps) {
    const auto* filled = std::get_if<TemplateStep>(&step);
    if (filled == nullptr) continue;
    for (const TemplateItem& item : pair ? filled->pair : filled->single) {
      if (!item.is_sequence) count += item.ids.size();
    }
  }
  return count;
}

}  // namespace headway::text
