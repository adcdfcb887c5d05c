// Parser and rules of pipeline layouts. Not for: which stage a process runs.
#include "headway/spec/pipeline_layout.h"

#include <algorithm>
#include <cctype>
#include <string>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"

namespace headway::spec {
namespace {

constexpr char kName[] = "pipeline_model_parallel_layout";
constexpr size_t kMaxLength = 65536;

[[noreturn]] void fail(const std::string& text) {
  throw ConfigError(fmt::format("{}: {}", kName, text));
}

void append(std::string& out, std::string_view body, size_t times) {
  if (!body.empty() && times > (kMaxLength - std::min(kMaxLength, out.size())) / body.size()) {
    fail(fmt::format("allowed at most {} layers and stages", kMaxLength));
  }
  for (size_t i = 0; i < times; ++i) out += body;
}

/// Reads `*n` at `at` and moves behind it; nothing when there is no count.
std::optional<size_t> repeat_count(std::string_view text, size_t& at) {
  if (at >= text.size() || text[at] != '*') return std::nullopt;
  size_t end = at + 1;
  size_t count = 0;
  while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end])) != 0) {
    count = std::min(count * 10 + static_cast<size_t>(text[end] - '0'), kMaxLength + 1);
    ++end;
  }
  if (end == at + 1) return std::nullopt;
  at = end;
  return count;
}

std::string expand_groups(std::string_view text) {
  std::string out;
  size_t at = 0;
  while (at < text.size()) {
    const size_t close = text[at] == '(' ? text.find_first_of("()", at + 1) : text.npos;
    if (close != text.npos && text[close] == ')' && close > at + 1) {
      size_t behind = close + 1;
      if (const auto times = repeat_count(text, behind)) {
        append(out, text.substr(at + 1, close - at - 1), *times);
        at = behind;
        continue;
      }
    }
    append(out, text.substr(at++, 1), 1);
  }
  return out;
}

std::string expand_characters(std::string_view text) {
  std::string out;
  size_t at = 0;
  while (at < text.size()) {
    size_t behind = at + 1;
    append(out, text.substr(at, 1), repeat_count(text, behind).value_or(1));
    at = behind;
  }
  return out;
}

StageLayer layer_of(char letter, std::string_view text) {
  switch (letter) {
    case 'E':
      return StageLayer::kEmbedding;
    case 't':
      return StageLayer::kDecoder;
    case 'm':
      return StageLayer::kMtp;
    case 'L':
      return StageLayer::kLoss;
    default:
      fail(
          fmt::format("Invalid layer character '{}' in {}, allowed E, t, m, L, |, commas and "
                      "repeats (body)*n, c*n",
                      printable(std::string_view(&letter, 1)), shorten(text)));
  }
}

PipelineLayout from_text(const std::string& text) {
  std::string letters = text;
  std::erase(letters, ',');
  letters = expand_characters(expand_groups(letters));
  PipelineLayout layout;
  layout.stages.emplace_back();
  for (const char letter : letters) {
    if (letter == '|') {
      layout.stages.emplace_back();
    } else {
      layout.stages.back().push_back(layer_of(letter, text));
    }
  }
  return layout;
}

StageLayer named_layer(const Json& name) {
  if (!name.is_string())
    fail(json_summary(name) + ", allowed a name: " + enum_allowed<StageLayer>());
  std::string text(trim(name.get_ref<const std::string&>()));
  for (char& letter : text) {
    letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  }
  const auto layer = enum_parse<StageLayer>(text);
  if (!layer) fail(json_summary(name) + ", allowed " + enum_allowed<StageLayer>());
  return *layer;
}

PipelineLayout from_list(const Json& list) {
  PipelineLayout layout;
  size_t total = list.size();
  for (const Json& stage : list) {
    if (!stage.is_array()) fail(json_summary(stage) + ", allowed a list of names for every stage");
    total += stage.size();
    if (total > kMaxLength) fail(fmt::format("allowed at most {} layers and stages", kMaxLength));
    std::vector<StageLayer> layers;
    for (const Json& name : stage) layers.push_back(named_layer(name));
    layout.stages.push_back(std::move(layers));
  }
  return layout;
}

std::vector<StageLayer> flat(const PipelineLayout& layout) {
  std::vector<StageLayer> all;
  for (const auto& stage : layout.stages) all.insert(all.end(), stage.begin(), stage.end());
  return all;
}

void check_order(const std::vector<StageLayer>& all) {
  if (all.empty() || all.front() != StageLayer::kEmbedding)
    fail("the first layer must be embedding");
  if (all.back() != StageLayer::kLoss) fail("the last layer must be loss");
  bool mtp = false;
  for (const StageLayer layer : all) {
    if (layer == StageLayer::kMtp) mtp = true;
    if (layer == StageLayer::kDecoder && mtp) fail("a decoder layer stands behind an mtp layer");
  }
}

void check_count(const PipelineLayout& layout, StageLayer kind, int64_t wanted,
                 std::string_view because) {
  const int64_t got = layout.count(kind);
  if (got != wanted) {
    fail(fmt::format("{} {} layers, allowed {} ({})", got, enum_name(kind), wanted, because));
  }
}

/// Stages that hold MTP layers: at most one, in the last virtual stage of its rank.
std::optional<int64_t> mtp_stage(const PipelineLayout& layout, int64_t pipeline_size) {
  std::optional<int64_t> found;
  const auto count = static_cast<int64_t>(layout.stages.size());
  for (int64_t i = 0; i < count; ++i) {
    const auto& stage = layout.stages[i];
    if (std::find(stage.begin(), stage.end(), StageLayer::kMtp) == stage.end()) continue;
    if (i < count - pipeline_size) {
      fail(fmt::format("mtp layers in stage {}, allowed only in the last virtual stage of a rank",
                       i));
    }
    if (found) fail(fmt::format("mtp layers in stages {} and {}, allowed in one stage", *found, i));
    found = i;
  }
  return found;
}

}  // namespace

int64_t PipelineLayout::decoder_layers(int64_t index) const {
  const auto& stage = stages.at(index);
  return std::count(stage.begin(), stage.end(), StageLayer::kDecoder);
}

int64_t PipelineLayout::decoder_offset(int64_t index) const {
  int64_t offset = 0;
  for (int64_t i = 0; i < index; ++i) offset += decoder_layers(i);
  return offset;
}

int64_t PipelineLayout::count(StageLayer kind) const {
  const std::vector<StageLayer> all = flat(*this);
  return std::count(all.begin(), all.end(), kind);
}

PipelineLayout parse_pipeline_layout(const Json& layout) {
  if (layout.is_string()) return from_text(layout.get<std::string>());
  if (layout.is_array()) return from_list(layout);
  fail(json_summary(layout) + ", allowed a layout string or a list of lists of names");
}

bool validate_layer_layout(const PipelineLayout& layout, const LayoutNeeds& needs) {
  const auto stages = static_cast<int64_t>(layout.stages.size());
  if (stages == 0 || stages % needs.pipeline_size != 0) {
    fail(fmt::format("{} stages, allowed a multiple of pipeline_model_parallel_size (= {})", stages,
                     needs.pipeline_size));
  }
  if (layout.count(StageLayer::kEncoder) > 0) {
    throw UnsupportedError(fmt::format("{}: encoder layers are not in this build", kName));
  }
  check_order(flat(layout));
  check_count(layout, StageLayer::kEmbedding, 1, "exactly once");
  check_count(layout, StageLayer::kLoss, 1, "exactly once");
  check_count(layout, StageLayer::kDecoder, needs.num_layers, "num_layers");
  check_count(layout, StageLayer::kMtp, needs.mtp_num_layers, "mtp_num_layers");
  const std::optional<int64_t> mtp = mtp_stage(layout, needs.pipeline_size);
  return mtp && *mtp % needs.pipeline_size != needs.pipeline_size - 1;
}

}  // namespace headway::spec
