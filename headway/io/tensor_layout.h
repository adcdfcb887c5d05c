// The tensors of one model in one family: which must be on disk, what each becomes, and the
// account of what a folder holds against that list, in both directions.
// Not for: families' configs (hf/family.h).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "headway/io/hf/family.h"
#include "headway/io/safetensors_writer.h"
#include "headway/io/tensor_source.h"
#include "headway/spec/tensor_inventory.h"

namespace headway::io {

/// A row segment of a parameter, named as in a native checkpoint.
struct NativeTensor {
  std::string name;  // model.layers.0.self_attn.q_proj.weight
  Shape shape;
  std::string parameter;  // layers.0.mixer.qkv.weight
  int64_t begin = 0;      // first row in the parameter
};

struct DiskTensor {
  std::string name;
  Shape shape;
};

/// One application of a rule.
struct Binding {
  std::vector<NativeTensor> native;
  std::vector<DiskTensor> disk;
  const Transform* transform = &kCopy;
};

/// All bindings of a model, in inventory order: the table generated before any tensor byte is read.
/// With `held`, rules of alternative layouts apply where its folder has their tensors.
std::vector<Binding> layout(const spec::ModelSpec& spec, const Family& family,
                            const TensorSource* held = nullptr);

struct AccountOptions {
  std::vector<std::string> allow_missing;     // globs of names on disk
  std::vector<std::string> allow_unexpected;  // globs of names on disk
};

/// What a folder holds of a model.
struct Account {
  std::vector<Binding> present;
  std::vector<NativeTensor> missing;  // allowed to be
  std::vector<std::string> notes;     // what was left out, with counts
  bool has_tied_head = false;         // lm_head.weight is there and equals the tied embedding
};

/// Checks every name, shape and element type both ways. CheckpointError with up to 20 names per
/// kind of problem: missing, unexpected, wrong shape, wrong type, a head that differs from the
/// embedding it is tied to. UnsupportedError for tensors that mean an unsupported feature.
Account account(const std::vector<Binding>& layout, const spec::ModelSpec& spec,
                const Family& family, const TensorSource& source, const AccountOptions& options);

/// The embedding on disk: kEmbeddingName, or what stands for it below another prefix.
std::optional<std::string> embedding_name(const Family& family, const TensorSource& source);

/// Whether `source` has a head of its own although the spec ties it, with other values.
bool has_different_tied_head(const spec::ModelSpec& spec, const Family& family,
                             const TensorSource& source);

/// Reads native tensors by name from a source, through the bindings.
class NativeReader {
 public:
  NativeReader(const TensorSource& source, const std::vector<Binding>& bindings);
  bool contains(const std::string& name) const { return places_.contains(name); }
  /// Element type on disk.
  Dtype dtype(const std::string& name) const;
  /// May alias the mapped file: read only.
  at::Tensor read(const std::string& name) const;

 private:
  struct Place {
    const Binding* binding;
    size_t index;
  };
  const TensorSource& source_;
  std::map<std::string, Place> places_;
};

/// Tensors on disk that a set of native tensors makes, in layout order.
struct DiskTable {
  std::vector<TensorInfo> infos;
  TensorProvider provider;
};

using NativeProvider = std::function<at::Tensor(const std::string& name)>;
using NativeDtype = std::function<Dtype(const std::string& name)>;

/// Disk tensors of `bindings`, made one at a time. Keeps references to `bindings` and `read`.
DiskTable disk_table(const std::vector<Binding>& bindings, const NativeDtype& dtype,
                     const NativeProvider& read);

inline constexpr const char* kHeadName = "lm_head.weight";
inline constexpr const char* kEmbeddingName = "model.embed_tokens.weight";

}  // namespace headway::io
