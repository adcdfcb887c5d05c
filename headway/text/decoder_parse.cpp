// From JSON to decoder steps.
// Not for: what they do (decoder.cpp).
#include "headway/text/decoder.h"

namespace headway::text {
namespace {

void parse_into(const JsonNode& node, std::vector<Decoder>& steps) {
  const std::string type = node.at("type").string();
  if (type == "Sequence") {
    const JsonNode list = node.at("decoders");
    list.require_list();
    for (std::size_t i = 0; i < list.size(); ++i) parse_into(list.at(i), steps);
  } else if (type == "ByteLevel") {
    steps.push_back(ByteLevelDecoder{});
  } else if (type == "ByteFallback") {
    steps.push_back(ByteFallbackDecoder{});
  } else if (type == "Fuse") {
    steps.push_back(FuseDecoder{});
  } else if (type == "Strip") {
    steps.push_back(StripDecoder{point_to_utf8(node.at("content").character()),
                                 static_cast<std::size_t>(node.at("start").integer(0, INT32_MAX)),
                                 static_cast<std::size_t>(node.at("stop").integer(0, INT32_MAX))});
  } else if (type == "Replace") {
    steps.push_back(
        ReplaceDecoder{Pattern::from_json(node.at("pattern")), node.at("content").string()});
  } else if (type == "Metaspace") {
    const MetaspaceStep step = parse_metaspace(node);
    steps.push_back(MetaspaceDecoder{step.replacement, step.prepend != PrependScheme::kNever});
  } else if (type == "WordPiece") {
    steps.push_back(WordPieceDecoder{node.at("prefix").string(), node.at("cleanup").boolean()});
  } else if (type == "BPEDecoder") {
    steps.push_back(BpeDecoder{node.at("suffix").string()});
  } else if (type == "CTC") {
    steps.push_back(CtcDecoder{node.at("pad_token").string(),
                               node.at("word_delimiter_token").string(),
                               node.at("cleanup").boolean()});
  } else {
    node.at("type").unsupported(
        "not built, allowed Sequence, ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, "
        "WordPiece, BPEDecoder, CTC");
  }
}

}  // namespace

std::vector<Decoder> parse_decoder(const JsonNode& node) {
  std::vector<Decoder> steps;
  parse_into(node, steps);
  if (steps.empty()) steps.push_back(FuseDecoder{});  // an empty Sequence joins without spaces
  return steps;
}

}  // namespace headway::text
