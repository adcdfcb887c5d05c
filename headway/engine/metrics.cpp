// Writing and cutting back metrics.jsonl.
// Not for: reading metrics back into numbers; nothing in Headway does.
#include "headway/engine/metrics.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "headway/base/atomic_file.h"
#include "headway/base/error.h"
#include "headway/base/json.h"

namespace headway::engine {
namespace {

Json number(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

/// The step of a line, or nothing when it is not one of ours.
std::optional<std::int64_t> step_of(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  const auto step = json.find("step");
  if (step == json.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<std::int64_t>();
}

void cut_back(const std::filesystem::path& path, std::int64_t last_step) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return;
  std::string kept;
  std::int64_t total = 0;
  for (std::string line; std::getline(in, line);) {
    const bool whole = !in.eof();
    total += static_cast<std::int64_t>(line.size()) + (whole ? 1 : 0);
    const auto step = whole ? step_of(line) : std::nullopt;
    if (step && *step <= last_step) kept += line + "\n";
  }
  in.close();
  if (static_cast<std::int64_t>(kept.size()) != total) write_file_atomically(path.string(), kept);
}

}  // namespace

std::string to_json_line(const StepMetrics& metrics) {
  Json json;
  json["step"] = metrics.step;
  json["loss"] = number(metrics.loss);
  json["lr"] = number(metrics.lr);
  json["grad_norm"] = number(metrics.grad_norm);
  json["tokens_per_s"] = number(metrics.tokens_per_s);
  json["peak_bytes"] = metrics.peak_bytes;
  json["share_of_peak"] = number(metrics.share_of_peak);
  if (metrics.index_loss) json["index_loss"] = number(metrics.index_loss);
  if (metrics.max_attention_logit)
    json["max_attention_logit"] = number(metrics.max_attention_logit);
  if (metrics.checks_s) json["checks_s"] = number(metrics.checks_s);
  if (metrics.val_loss) json["val_loss"] = number(metrics.val_loss);
  if (!metrics.mtp_loss.empty()) json["mtp_loss"] = metrics.mtp_loss;
  if (!metrics.val_mtp_loss.empty()) json["val_mtp_loss"] = metrics.val_mtp_loss;
  if (metrics.sparse_rows) json["sparse_rows"] = *metrics.sparse_rows;
  if (metrics.optimizer_bytes) json["optimizer_bytes"] = *metrics.optimizer_bytes;
  if (metrics.routing) {
    const RouterMetrics& routing = *metrics.routing;
    json["auxiliary_loss"] = number(routing.auxiliary_loss);
    json["router"] = {{"layers", routing.layers},
                      {"load", routing.load},
                      {"entropy", routing.entropy},
                      {"drop_rate", routing.drop_rate}};
  }
  return json.dump();
}

MetricsFile::MetricsFile(const std::filesystem::path& path, std::int64_t last_step) : path_(path) {
  cut_back(path_, last_step);
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("open");
}

MetricsFile::~MetricsFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void MetricsFile::fail(const char* action) const {
  throw CheckpointError(fmt::format("[{}] {} = failed ({}); hint: check free space and permissions",
                                    path_.string(), action, std::strerror(errno)));
}

void MetricsFile::append(const StepMetrics& metrics) {
  const std::string line = to_json_line(metrics) + "\n";
  ssize_t written = 0;
  do {
    written = ::write(descriptor_, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written >= 0 && static_cast<std::size_t>(written) < line.size()) errno = ENOSPC;
  if (written != static_cast<ssize_t>(line.size())) fail("append");
}

void MetricsFile::sync() {
  if (::fsync(descriptor_) != 0) fail("sync");
}

}  // namespace headway::engine
