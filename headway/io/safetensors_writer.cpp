// See safetensors_writer.h. Not for: reading.
#include "headway/io/safetensors_writer.h"

#include <algorithm>
#include <set>
#include <span>

#include <fmt/format.h>

#include "headway/base/atomic_file.h"
#include "headway/base/checked_math.h"
#include "headway/base/json.h"

namespace headway::io {
namespace {

constexpr size_t kAlignment = 8;

int64_t byte_length(const TensorInfo& info) {
  const auto bytes = checked_bytes(info.dtype, info.shape);
  if (!bytes) {
    throw InternalError(fmt::format("[safetensors writer] {} = {} of {}, allowed whole bytes",
                                    info.name, enum_name(info.dtype), shape_text(info.shape)));
  }
  return *bytes;
}

std::string header_text(const std::vector<TensorInfo>& table,
                        const std::map<std::string, std::string>& extra) {
  std::map<std::string, std::string> metadata = extra;
  metadata.emplace("format", "pt");
  // Written entry by entry: an ordered DOM would look every name up in a list.
  std::string text = "{\"__metadata__\":" + nlohmann::json(metadata).dump();
  int64_t begin = 0;
  for (const TensorInfo& info : table) {
    const int64_t end = checked_add(begin, byte_length(info), "safetensors writer");
    text += fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}",
                        nlohmann::json(info.name).dump(), enum_name(info.dtype),
                        nlohmann::json(info.shape).dump(), begin, end);
    begin = end;
  }
  text += "}";
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  return text;
}

void check_announced(const TensorInfo& info, const at::Tensor& tensor) {
  const TensorInfo got = info_of(info.name, tensor);
  if (got == info) return;
  throw InternalError(fmt::format("[safetensors writer] {} = {} of {}, allowed {} of {}", info.name,
                                  enum_name(got.dtype), shape_text(got.shape),
                                  enum_name(info.dtype), shape_text(info.shape)));
}

}  // namespace

TensorInfo info_of(const std::string& name, const at::Tensor& tensor) {
  return {name, dtype_of(tensor.scalar_type()), tensor.sizes().vec()};
}

void write_safetensors(const std::filesystem::path& path, std::vector<TensorInfo> table,
                       const TensorProvider& provider,
                       const std::map<std::string, std::string>& extra) {
  std::ranges::sort(table, [](const TensorInfo& a, const TensorInfo& b) {
    const int64_t a_bits = dtype_bits(a.dtype);
    const int64_t b_bits = dtype_bits(b.dtype);
    return a_bits != b_bits ? a_bits > b_bits : a.name < b.name;
  });
  const std::string header = header_text(table, extra);
  uint8_t length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(header.size() >> (8 * i));
  AtomicFile file(path.string());
  file.append(std::as_bytes(std::span(length)));
  file.append(header);
  for (const TensorInfo& info : table) {
    const at::Tensor given = provider(info);
    check_announced(info, given);
    const at::Tensor tensor = given.detach().to(at::kCPU).contiguous();
    file.append(std::span(static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()));
  }
  file.commit();
}

void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& extra) {
  std::vector<TensorInfo> table;
  for (const auto& [name, tensor] : tensors) table.push_back(info_of(name, tensor));
  write_safetensors(
      path, std::move(table), [&](const TensorInfo& info) { return tensors.at(info.name); }, extra);
}

}  // namespace headway::io
