// From JSON to normalizer steps.
// Not for: what they do (normalizer.cpp).
#include "headway/text/normalizer.h"

namespace headway::text {
namespace {

void parse_into(const JsonNode& node, std::vector<Normalizer>& steps) {
  const std::string type = node.at("type").string();
  if (type == "Sequence") {
    const JsonNode list = node.at("normalizers");
    list.require_list();
    for (std::size_t i = 0; i < list.size(); ++i) parse_into(list.at(i), steps);
  } else if (type == "NFC") {
    steps.push_back(NormalFormNormalizer{NormalForm::kNfc});
  } else if (type == "NFD") {
    steps.push_back(NormalFormNormalizer{NormalForm::kNfd});
  } else if (type == "NFKC") {
    steps.push_back(NormalFormNormalizer{NormalForm::kNfkc});
  } else if (type == "NFKD") {
    steps.push_back(NormalFormNormalizer{NormalForm::kNfkd});
  } else if (type == "Lowercase") {
    steps.push_back(LowercaseNormalizer{});
  } else if (type == "Strip") {
    steps.push_back(
        StripNormalizer{node.at("strip_left").boolean(), node.at("strip_right").boolean()});
  } else if (type == "StripAccents") {
    steps.push_back(StripAccentsNormalizer{});
  } else if (type == "Replace") {
    steps.push_back(
        ReplaceNormalizer{Pattern::from_json(node.at("pattern")), node.at("content").string()});
  } else if (type == "Prepend") {
    steps.push_back(PrependNormalizer{node.at("prepend").string()});
  } else if (type == "ByteLevel") {
    steps.push_back(ByteLevelNormalizer{});
  } else if (type == "Nmt") {
    steps.push_back(NmtNormalizer{});
  } else if (type == "BertNormalizer") {
    const bool lowercase = node.at("lowercase").boolean();
    steps.push_back(BertNormalizer{node.at("clean_text").boolean(),
                                   node.at("handle_chinese_chars").boolean(),
                                   node.boolean_or("strip_accents", lowercase), lowercase});
  } else {
    node.at("type").unsupported(
        "not built, allowed Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, "
        "Replace, Prepend, ByteLevel, Nmt, BertNormalizer");
  }
}

}  // namespace

std::vector<Normalizer> parse_normalizer(const JsonNode& node) {
  std::vector<Normalizer> steps;
  parse_into(node, steps);
  return steps;
}

}  // namespace headway::text
