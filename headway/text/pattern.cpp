// Oniguruma behind a small interface: compile once, search from many threads.
// Not for: the spelling of character classes (regex_dialect.cpp).
#include "headway/text/pattern.h"

#include <mutex>

#include <fmt/format.h>
#include <oniguruma.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"

namespace headway::text {
namespace {

constexpr std::size_t kLongestPattern = 65536;

const OnigUChar* bytes_of(std::string_view text) {
  return reinterpret_cast<const OnigUChar*>(text.data());
}

void initialise_onig() {
  static std::once_flag once;
  std::call_once(once, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
  });
}

struct RegionDeleter {
  void operator()(OnigRegion* region) const { onig_region_free(region, 1); }
};

void literal_stretches(std::string_view text, std::string_view literal, std::vector<Stretch>& out) {
  std::size_t previous = 0;
  for (std::size_t at = text.find(literal); at != std::string_view::npos;
       at = text.find(literal, previous)) {
    const auto begin = static_cast<std::uint32_t>(at);
    if (at != previous) out.push_back({{static_cast<std::uint32_t>(previous), begin}, false});
    previous = at + literal.size();
    out.push_back({{begin, static_cast<std::uint32_t>(previous)}, true});
  }
  if (previous != text.size()) {
    out.push_back(
        {{static_cast<std::uint32_t>(previous), static_cast<std::uint32_t>(text.size())}, false});
  }
}

}  // namespace

struct Pattern::Compiled {
  regex_t* regex = nullptr;
  ~Compiled() {
    if (regex != nullptr) onig_free(regex);
  }
  std::optional<Span> search(std::string_view text, std::size_t from, OnigRegion* region) const;
};

std::optional<Span> Pattern::Compiled::search(std::string_view text, std::size_t from,
                                              OnigRegion* region) const {
  const OnigUChar* begin = bytes_of(text);
  const OnigUChar* end = begin + text.size();
  onig_region_clear(region);
  const int found = onig_search(regex, begin, end, begin + from, end, region, ONIG_OPTION_NONE);
  if (found == ONIG_MISMATCH) return std::nullopt;
  if (found < 0) {
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN] = {};
    onig_error_code_to_str(message, found);
    throw ConfigError(fmt::format("[tokenizer] pattern: gives up on a text of {} bytes: {}",
                                  text.size(), reinterpret_cast<const char*>(message)));
  }
  return Span{static_cast<std::uint32_t>(region->beg[0]),
              static_cast<std::uint32_t>(region->end[0])};
}

Pattern Pattern::literal(std::string literal) {
  if (literal.empty()) {
    static const TokenizerJson none;
    Pattern pattern = regex("", JsonNode(none, "tokenizer"));
    return pattern;
  }
  Pattern pattern;
  pattern.source_ = std::move(literal);
  return pattern;
}

Pattern Pattern::regex(const std::string& source, const JsonNode& where) {
  initialise_onig();
  if (source.size() > kLongestPattern) {
    where.fail(fmt::format("a pattern of at most {} bytes", kLongestPattern));
  }
  const std::string spelled = with_unicode_classes(source);
  auto compiled = std::make_shared<Compiled>();
  OnigErrorInfo info{};
  const int status =
      onig_new(&compiled->regex, bytes_of(spelled), bytes_of(spelled) + spelled.size(),
               ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_RUBY, &info);
  if (status != ONIG_NORMAL) {
    compiled->regex = nullptr;
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN] = {};
    onig_error_code_to_str(message, status, &info);
    where.fail(fmt::format("a regular expression ({})",
                           shorten(reinterpret_cast<const char*>(message), 80)));
  }
  Pattern pattern;
  pattern.source_ = source;
  pattern.compiled_ = std::move(compiled);
  return pattern;
}

Pattern Pattern::from_json(const JsonNode& node) {
  if (node.is_string()) return literal(node.string());
  node.require_object();
  if (node.size() == 1 && node.value().contains("String"))
    return literal(node.at("String").string());
  if (node.size() == 1 && node.value().contains("Regex")) {
    const JsonNode source = node.at("Regex");
    return regex(source.string(), source);
  }
  node.fail("{\"String\": …} or {\"Regex\": …}");
}

void Pattern::stretches(std::string_view text, std::vector<Stretch>& out) const {
  if (text.empty()) return;
  if (!compiled_) return literal_stretches(text, source_, out);
  const std::unique_ptr<OnigRegion, RegionDeleter> region(onig_region_new());
  std::uint32_t previous = 0;
  std::uint32_t from = 0;
  std::optional<std::uint32_t> last_end;
  while (from <= text.size()) {
    const auto match = compiled_->search(text, from, region.get());
    if (!match) break;
    if (match->size() == 0 && last_end == match->end) {
      from += from < text.size() ? decode_point(text, from).length : 1;
      continue;
    }
    from = match->end;
    last_end = match->end;
    if (previous != match->begin) out.push_back({{previous, match->begin}, false});
    out.push_back({*match, true});
    previous = match->end;
  }
  if (previous != text.size()) {
    out.push_back({{previous, static_cast<std::uint32_t>(text.size())}, false});
  }
}

}  // namespace headway::text
