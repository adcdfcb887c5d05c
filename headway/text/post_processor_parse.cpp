// From JSON to post-processor steps.
// Not for: what they do (post_processor.cpp).
#include <map>

#include "headway/text/post_processor.h"

namespace headway::text {
namespace {

using SpecialTokens = std::map<std::string, std::vector<std::int64_t>>;

SpecialTokens parse_special_tokens(const JsonNode& node) {
  node.require_object();
  SpecialTokens special;
  for (const auto& [name, value] : node.value().items()) {
    const JsonNode ids = node.at(name).at("ids");
    ids.require_list();
    for (std::size_t i = 0; i < ids.size(); ++i) {
      special[name].push_back(ids.at(i).integer(0, kLargestTokenId));
    }
    special[name];
  }
  return special;
}

TemplateItem parse_item(const JsonNode& node, const SpecialTokens& special) {
  node.require_object();
  if (const auto sequence = node.find("Sequence")) {
    const JsonNode id = sequence->at("id");
    const std::string name = id.string();
    if (name != "A" && name != "B") id.fail("A, B");
    return {true, name[0], {}};
  }
  if (const auto token = node.find("SpecialToken")) {
    const JsonNode id = token->at("id");
    const auto found = special.find(id.string());
    if (found == special.end()) id.fail("a key of post_processor.special_tokens");
    return {false, 'A', found->second};
  }
  node.fail("{\"Sequence\": …} or {\"SpecialToken\": …}");
}

std::vector<TemplateItem> parse_items(const JsonNode& node, const SpecialTokens& special) {
  node.require_list();
  std::vector<TemplateItem> items;
  for (std::size_t i = 0; i < node.size(); ++i) items.push_back(parse_item(node.at(i), special));
  return items;
}

TemplateItem parse_token(const JsonNode& node) {
  node.require_list(2);
  node.at(std::size_t{0}).string();
  return {false, 'A', {node.at(std::size_t{1}).integer(0, kLargestTokenId)}};
}

// cls A sep, and for two texts cls A sep (sep) B sep.
TemplateStep parse_cls_sep(const JsonNode& node, bool doubled) {
  const TemplateItem sep = parse_token(node.at("sep"));
  const TemplateItem cls = parse_token(node.at("cls"));
  const TemplateItem a{true, 'A', {}};
  const TemplateItem b{true, 'B', {}};
  TemplateStep step{{cls, a, sep}, {cls, a, sep}};
  if (doubled) step.pair.push_back(sep);
  step.pair.push_back(b);
  step.pair.push_back(sep);
  return step;
}

void parse_into(const JsonNode& node, std::vector<PostProcessor>& steps) {
  const std::string type = node.at("type").string();
  if (type == "Sequence") {
    const JsonNode list = node.at("processors");
    list.require_list();
    for (std::size_t i = 0; i < list.size(); ++i) parse_into(list.at(i), steps);
  } else if (type == "ByteLevel") {
    const bool add_prefix_space = node.at("add_prefix_space").boolean();
    if (node.at("trim_offsets").boolean()) steps.push_back(TrimOffsetsStep{add_prefix_space});
  } else if (type == "TemplateProcessing") {
    const SpecialTokens special = parse_special_tokens(node.at("special_tokens"));
    steps.push_back(TemplateStep{parse_items(node.at("single"), special),
                                 parse_items(node.at("pair"), special)});
  } else if (type == "BertProcessing") {
    steps.push_back(parse_cls_sep(node, false));
  } else if (type == "RobertaProcessing") {
    const bool add_prefix_space = node.at("add_prefix_space").boolean();
    if (node.at("trim_offsets").boolean()) steps.push_back(TrimOffsetsStep{add_prefix_space});
    steps.push_back(parse_cls_sep(node, true));
  } else {
    node.at("type").unsupported(
        "not built, allowed Sequence, ByteLevel, TemplateProcessing, BertProcessing, "
        "RobertaProcessing");
  }
}

}  // namespace

std::vector<PostProcessor> parse_post_processor(const JsonNode& node) {
  std::vector<PostProcessor> steps;
  parse_into(node, steps);
  return steps;
}

}  // namespace headway::text
