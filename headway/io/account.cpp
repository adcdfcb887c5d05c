// Strict accounting: nothing on disk is dropped in silence, nothing expected is left unset.
// Not for: reading values, except to compare a tied head.
#include <algorithm>
#include <cstring>
#include <set>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/io/tensor_layout.h"

namespace headway::io {
namespace {

constexpr size_t kMaxNamed = 20;

bool matches_any(const std::vector<std::string>& globs, const std::string& name) {
  return std::ranges::any_of(globs, [&](const std::string& g) { return matches_glob(g, name); });
}

/// Lines of one kind of problem, cut after 20.
class Lines {
 public:
  explicit Lines(std::string title) : title_(std::move(title)) {}
  void add(const std::string& line) {
    if (lines_.size() < kMaxNamed) lines_.push_back(shorten(line, 300));
    ++count_;
  }
  void append_to(std::string& text) const {
    if (count_ == 0) return;
    text += fmt::format("\n{} ({}):", title_, count_);
    for (const std::string& line : lines_) text += "\n  " + line;
    if (count_ > lines_.size()) text += fmt::format("\n  … and {} more", count_ - lines_.size());
  }

 private:
  std::string title_;
  std::vector<std::string> lines_;
  size_t count_ = 0;
};

struct Findings {
  Lines missing{"missing tensors"};
  Lines unexpected{"unexpected tensors"};
  Lines shapes{"tensors of the wrong shape"};
  Lines types{"tensors of the wrong type"};
  Lines head{"tied head"};

  void throw_if_any(const Family& family) const {
    std::string text;
    for (const Lines* lines : {&missing, &unexpected, &shapes, &types, &head})
      lines->append_to(text);
    if (text.empty()) return;
    throw CheckpointError(
        fmt::format("[checkpoint] tensors = not those that the config of family {} needs{}",
                    family.name, text));
  }
};

bool same_bytes(const TensorSource& source, const std::string& a, const std::string& b) {
  const TensorInfo& x = source.info(a);
  const TensorInfo& y = source.info(b);
  if (x.dtype != y.dtype || x.shape != y.shape) return false;
  const at::Tensor left = source.view(a);
  const at::Tensor right = source.view(b);
  return left.nbytes() == 0 ||
         std::memcmp(left.const_data_ptr(), right.const_data_ptr(), left.nbytes()) == 0;
}

void check_tensor(const DiskTensor& tensor, const TensorSource& source, Findings& findings) {
  const TensorInfo& info = source.info(tensor.name);
  if (info.shape != tensor.shape) {
    findings.shapes.add(fmt::format("{} = {}, allowed {}", tensor.name, shape_text(info.shape),
                                    shape_text(tensor.shape)));
  }
  if (!is_floating(info.dtype)) {
    findings.types.add(
        fmt::format("{} = {}, allowed F32 | BF16 | F16 | F64", tensor.name, enum_name(info.dtype)));
  }
}

void take_binding(const Binding& binding, const TensorSource& source, const AccountOptions& options,
                  Findings& findings, Account& result) {
  bool is_present = true;
  for (const DiskTensor& tensor : binding.disk) {
    if (source.contains(tensor.name)) {
      check_tensor(tensor, source, findings);
      continue;
    }
    is_present = false;
    if (!matches_any(options.allow_missing, tensor.name)) {
      findings.missing.add(fmt::format("{} {}", tensor.name, shape_text(tensor.shape)));
    }
  }
  if (is_present) {
    result.present.push_back(binding);
  } else {
    result.missing.insert(result.missing.end(), binding.native.begin(), binding.native.end());
  }
}

/// What may explain a tensor that no binding takes.
struct Explanations {
  std::vector<Rule> rules;
  const AccountOptions& options;
};

/// Whether a rule or an option explains a name that no binding takes.
bool is_explained(const std::string& name, const Explanations& known,
                  std::map<std::string, size_t>& ignored) {
  for (const Rule& rule : known.rules) {
    if (const auto* refuse = std::get_if<RefuseRule>(&rule)) {
      if (!matches_glob(refuse->pattern, name)) continue;
      throw UnsupportedError(
          fmt::format("[checkpoint] tensor \"{}\" = part of {}, which cannot be read",
                      shorten(name), refuse->reason));
    }
    const auto* ignore = std::get_if<IgnoreRule>(&rule);
    if (ignore == nullptr || !matches_glob(ignore->pattern, name)) continue;
    ++ignored[fmt::format("{} ({})", ignore->pattern, ignore->reason)];
    return true;
  }
  if (!matches_any(known.options.allow_unexpected, name)) return false;
  ++ignored["allowed unexpected"];
  return true;
}

}  // namespace

bool has_different_tied_head(const spec::ModelSpec& spec, const Family& family,
                             const TensorSource& source) {
  if (!spec.head.tied || !source.contains(kHeadName)) return false;
  const auto embedding = embedding_name(family, source);
  return embedding && !same_bytes(source, kHeadName, *embedding);
}

std::optional<std::string> embedding_name(const Family& family, const TensorSource& source) {
  if (const std::string name = family.disk_name(kEmbeddingName); source.contains(name)) return name;
  for (const auto& [name, info] : source.tensors()) {
    if (name.ends_with(".embed_tokens.weight")) return name;
  }
  return std::nullopt;
}

Account account(const std::vector<Binding>& layout, const spec::ModelSpec& spec,
                const Family& family, const TensorSource& source, const AccountOptions& options) {
  Account result;
  Findings findings;
  std::set<std::string> taken;
  for (const Binding& binding : layout) {
    take_binding(binding, source, options, findings, result);
    for (const DiskTensor& tensor : binding.disk) taken.insert(tensor.name);
  }
  const Explanations known{family.rules(spec), options};
  std::map<std::string, size_t> ignored;
  for (const auto& [name, info] : source.tensors()) {
    if (taken.contains(name)) continue;
    if (name == kHeadName && spec.head.tied) {
      result.has_tied_head = !has_different_tied_head(spec, family, source);
      if (!result.has_tied_head) {
        findings.head.add(
            fmt::format("{} differs from {}; hint: --untie keeps both", kHeadName, kEmbeddingName));
      }
      continue;
    }
    if (!is_explained(name, known, ignored)) {
      findings.unexpected.add(
          fmt::format("{} {} {}", name, enum_name(info.dtype), shape_text(info.shape)));
    }
  }
  findings.throw_if_any(family);
  for (const auto& [what, count] : ignored)
    result.notes.push_back(fmt::format("left out {} tensors: {}", count, what));
  if (result.has_tied_head) {
    result.notes.push_back(fmt::format("{} equals the embedding it is tied to", kHeadName));
  }
  for (const NativeTensor& tensor : result.missing) {
    result.notes.push_back(fmt::format("missing as allowed: {}", tensor.name));
  }
  for (const std::string& warning : source.warnings()) result.notes.push_back(warning);
  return result;
}

}  // namespace headway::io
