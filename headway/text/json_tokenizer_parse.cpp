// A tokenizer.json and its side files, section by section.
// Not for: encoding and decoding (json_tokenizer.cpp).
#include <fmt/format.h>

#include "headway/base/atomic_file.h"
#include "headway/base/content_hash.h"
#include "headway/base/error.h"
#include "headway/base/file_util.h"
#include "headway/base/json.h"
#include "headway/base/logging.h"
#include "headway/text/json_tokenizer.h"
#include "headway/text/json_workspace.h"

namespace headway::text {
namespace {

constexpr std::int64_t kLargestFile = std::int64_t{256} << 20;
constexpr int kDeepest = 64;

}  // namespace

JsonTokenizer::~JsonTokenizer() = default;

std::shared_ptr<const JsonTokenizer> JsonTokenizer::load(const std::filesystem::path& file,
                                                         bool with_side_files) {
  SideFiles side;
  if (with_side_files) side = read_side_files(file.parent_path());
  return std::make_shared<JsonTokenizer>(read_file(file.string(), kLargestFile), file.string(),
                                         std::move(side));
}

JsonTokenizer::JsonTokenizer(std::string content, const std::string& name, SideFiles side)
    : content_(std::move(content)), side_(std::move(side)) {
  const auto root =
      parse_json<TokenizerJson>(content_, name, JsonErrors::kCheckpoint, {kLargestFile, kDeepest});
  const JsonNode node(root, name);
  parse(node);
  for (const auto& [id, token] : side_.added) {
    if (!added_.contains(token)) add_token(token, id, "tokenizer_config.json");
  }
  added_.prepare(normalizer_);
  check_special_ids(node);
  const auto find = [this](const std::string& token) { return token_to_id(token); };
  bos_ = side_.id_of("bos_token", find);
  eos_ = side_.id_of("eos_token", find);
  ContentHash hash;
  hash.field("headway-tokenizer-1").field(content_).field(side_.added.size());
  for (const auto& [id, token] : side_.added) {
    hash.field(static_cast<std::uint64_t>(id)).field(token.content);
  }
  hash.field(static_cast<std::uint64_t>(bos_.value_or(-1)));
  hash.field(static_cast<std::uint64_t>(eos_.value_or(-1)));
  fingerprint_ = hash.hex();
}

void JsonTokenizer::parse(const JsonNode& root) {
  root.require_object();
  if (const auto version = root.find("version")) {
    if (version->string() != "1.0") version->fail("\"1.0\"");
  }
  if (const auto node = root.find("normalizer")) normalizer_ = parse_normalizer(*node);
  if (const auto node = root.find("pre_tokenizer")) pre_tokenizer_ = parse_pre_tokenizer(*node);
  if (const auto node = root.find("post_processor")) {
    post_processor_ = parse_post_processor(*node);
  }
  if (const auto node = root.find("decoder")) decoder_ = parse_decoder(*node);
  if (const auto node = root.find("truncation")) {
    truncation_ = parse_truncation(*node, count_special_tokens(post_processor_, false));
  }
  if (const auto node = root.find("padding")) padding_ = parse_padding(*node);
  model_ = parse_model(root.at("model"));
  always_align_ = asks_for_origin(pre_tokenizer_) && !normalizer_.empty();
  if (const auto node = root.find("added_tokens")) read_added_tokens(*node);
}

void JsonTokenizer::read_added_tokens(const JsonNode& list) {
  list.require_list();
  if (list.size() > kLargestVocabulary) {
    list.fail(fmt::format("at most {} tokens", kLargestVocabulary));
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonNode entry = list.at(i);
    add_token(AddedToken::from_json(entry), entry.at("id").integer(0, kLargestTokenId),
              list.file());
  }
}

void JsonTokenizer::add_token(const AddedToken& token, std::int64_t expected,
                              const std::string& file) {
  added_.add(token, vocabulary_of(*model_));
  const auto id = added_.id_of(token.content);
  if (id && *id != expected) {
    log(LogLevel::kWarning,
        fmt::format("[{}] added token \"{}\": id = {} in the file, but {} by the rule of the "
                    "library (vocabulary first, then the next free id)",
                    file, token.content, expected, *id));
  }
}

// Every id that a template or the padding can put into a result must belong to a token.
void JsonTokenizer::check_special_ids(const JsonNode& root) const {
  const auto check = [&](std::int64_t id, const JsonNode& where) {
    if (id_to_token(id)) return;
    where.fail_with(fmt::format("id = {}, allowed ids of the vocabulary", id));
  };
  for (const PostProcessor& step : post_processor_) {
    const auto* filled = std::get_if<TemplateStep>(&step);
    if (filled == nullptr) continue;
    for (const auto* items : {&filled->single, &filled->pair}) {
      for (const TemplateItem& item : *items) {
        for (const std::int64_t id : item.ids) check(id, root.at("post_processor"));
      }
    }
  }
}

void JsonTokenizer::save(const std::filesystem::path& folder) const {
  write_file_atomically((folder / "tokenizer.json").string(), content_);
  for (const auto& [name, bytes] : side_.contents) {
    write_file_atomically((folder / name).string(), bytes);
  }
}

}  // namespace headway::text
