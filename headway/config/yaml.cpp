// YAML parser events to the JSON DOM, under limits.
// Not for: what a plain scalar means or writing (yaml_scalar.cpp).
#include "headway/config/yaml.h"

#include <charconv>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <vector>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"

namespace headway::config {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr size_t kMaxDepth = 100;
constexpr size_t kMaxNodes = 100'000;

size_t count_nodes(const Json& value) {
  size_t count = 1;
  if (value.is_structured()) {
    for (const Json& element : value) count += count_nodes(element);
  }
  return count;
}

/// Builds the DOM from parser events, so that limits hold before memory is spent.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(std::string_view source) : source_(source) {}

  Json take() { return std::move(root_); }
  bool has_document() const { return documents_ > 0; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) fail(mark, "second document, allowed one");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(mark, Json(nullptr), "", anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "alias to a value that contains it");
    count(mark, count_nodes(found->second));
    add(mark, found->second, "", 0);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    add(mark, read_scalar(mark, tag, value), value, anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    check_tag(mark, tag, "tag:yaml.org,2002:seq");
    open(mark, Json::array(), anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    check_tag(mark, tag, "tag:yaml.org,2002:map");
    open(mark, Json::object(), anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    Json value;
    YAML::Mark mark;
    YAML::anchor_t anchor = 0;
    std::string key;
    bool has_key = false;
    std::set<std::string> keys;
  };

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& what) const {
    throw ConfigError(fmt::format("[{}] line {}: {}", source_, mark.line + 1, what));
  }

  void count(const YAML::Mark& mark, size_t nodes) {
    nodes_ += nodes;
    if (nodes_ > kMaxNodes)
      fail(mark, fmt::format("more than {} values, allowed fewer", kMaxNodes));
  }

  void check_tag(const YAML::Mark& mark, const std::string& tag, std::string_view own) const {
    if (!tag.empty() && tag != "?" && tag != "!" && tag != own) {
      fail(mark, fmt::format("tag {} = not known, allowed !!str !!int !!float !!bool !!null",
                             shorten(tag)));
    }
  }

  Json read_scalar(const YAML::Mark& mark, const std::string& tag, const std::string& value) const {
    constexpr std::string_view kCore = "tag:yaml.org,2002:";
    if (tag == "!") return Json(value);  // quoted
    if (tag.empty() || tag == "?") return resolve_plain_scalar(value);
    const std::string_view kind =
        tag.starts_with(kCore) ? std::string_view(tag).substr(kCore.size()) : "";
    if (kind == "str") return Json(value);
    const Json plain = resolve_plain_scalar(value);
    if (kind == "float" && plain.is_number()) return Json(plain.get<double>());
    const bool matches = (kind == "int" && plain.is_number_integer()) ||
                         (kind == "bool" && plain.is_boolean()) ||
                         (kind == "null" && plain.is_null());
    if (!matches) check_tag(mark, tag.empty() ? "!" : tag, "");
    return plain;
  }

  void open(const YAML::Mark& mark, Json value, YAML::anchor_t anchor) {
    if (!stack_.empty() && stack_.back().value.is_object() && !stack_.back().has_key) {
      fail(mark, "key = a mapping or a list, allowed text");
    }
    if (stack_.size() >= kMaxDepth) {
      fail(mark,
           fmt::format("nesting depth = more than {}, allowed at most {}", kMaxDepth, kMaxDepth));
    }
    count(mark, 1);
    Frame frame;
    frame.value = std::move(value);
    frame.mark = mark;
    frame.anchor = anchor;
    stack_.push_back(std::move(frame));
  }

  void close() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    place(std::move(frame.value), frame.anchor);
  }

  // A scalar or alias: a key where one is awaited, else a value. `text` is how a key was written.
  void add(const YAML::Mark& mark, Json value, const std::string& text, YAML::anchor_t anchor) {
    count(mark, 1);
    if (!stack_.empty() && stack_.back().value.is_object() && !stack_.back().has_key) {
      Frame& frame = stack_.back();
      frame.key = value.is_string() ? value.get<std::string>() : text;
      if (value.is_structured() || frame.key.empty()) fail(mark, "key = empty, allowed text");
      if (!frame.keys.insert(frame.key).second) {
        fail(mark, fmt::format("key \"{}\" = given twice, allowed once", shorten(frame.key)));
      }
      frame.has_key = true;
      if (anchor != 0) anchors_[anchor] = std::move(value);
      return;
    }
    place(std::move(value), anchor);
  }

  void place(Json value, YAML::anchor_t anchor) {
    if (anchor != 0) anchors_[anchor] = value;
    if (stack_.empty()) {
      root_ = std::move(value);
      return;
    }
    Frame& frame = stack_.back();
    if (frame.value.is_object()) {
      frame.value[frame.key] = std::move(value);
      frame.has_key = false;
    } else {
      frame.value.push_back(std::move(value));
    }
  }

  std::string source_;
  Json root_;
  int documents_ = 0;
  size_t nodes_ = 0;
  std::vector<Frame> stack_;
  std::map<YAML::anchor_t, Json> anchors_;
};

}  // namespace

Json parse_yaml(std::string_view text, std::string_view source) {
  if (text.size() > kMaxBytes) {
    throw ConfigError(fmt::format("[{}] size = {}, allowed at most {}", source,
                                  format_bytes(static_cast<int64_t>(text.size())),
                                  format_bytes(kMaxBytes)));
  }
  if (const auto bad = find_invalid_utf8(text)) {
    throw ConfigError(fmt::format("[{}] byte {} = not UTF-8, allowed UTF-8 text", source, *bad));
  }
  if (text.find('\0') != std::string_view::npos) {
    throw ConfigError(fmt::format("[{}] text = holds a NUL byte, allowed UTF-8 text", source));
  }
  Builder builder(source);
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    throw ConfigError(fmt::format("[{}] line {}: {}, allowed a YAML document", source,
                                  error.mark.line + 1, shorten(error.msg)));
  }
  if (!builder.has_document()) return Json(nullptr);
  return builder.take();
}

}  // namespace headway::config
