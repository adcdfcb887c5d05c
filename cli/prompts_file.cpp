// Reads and checks the lines of a prompts file. Not for: running them.
#include "cli/prompts_file.h"

#include <algorithm>
#include <limits>

#include "headway/base/error.h"
#include "headway/base/file_util.h"
#include "headway/base/json.h"
#include "headway/base/text_util.h"

namespace headway::cli {
namespace {

constexpr int64_t kLargestPromptFile = int64_t{1} << 30;
const std::vector<std::string> kKeys = {
    "prompt", "token_ids", "max_new_tokens",     "temperature", "top_k",  "top_p",
    "min_p",  "stop",      "repetition_penalty", "seed",        "request"};

/// One line under way: where it stands and how to complain about it.
struct Line {
  std::string where;  // file:number
  const Json& json;

  [[noreturn]] void refuse(const std::string& key, const Json& got,
                           const std::string& allowed) const {
    throw ConfigError("[" + where + "] " + key + " = " + json_summary(got) + ", allowed " +
                      allowed);
  }
  void take(const char* key, int64_t& value) const {
    if (!json.contains(key)) return;
    uint64_t whole = 0;
    take(key, whole);
    if (whole > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      refuse(key, json[key], "a 63-bit number");
    }
    value = static_cast<int64_t>(whole);
  }
  void take(const char* key, uint64_t& value) const {
    if (!json.contains(key)) return;
    if (!json[key].is_number_unsigned()) refuse(key, json[key], "a whole number, 0 or more");
    value = json[key].get<uint64_t>();
  }
  void take(const char* key, double& value) const {
    if (!json.contains(key)) return;
    if (!json[key].is_number()) refuse(key, json[key], "a number");
    value = json[key].get<double>();
  }
};

std::vector<int64_t> prompt_of(const Line& line, const engine::LoadedModel& loaded) {
  const bool text = line.json.contains("prompt"), ids = line.json.contains("token_ids");
  if (text == ids) {
    throw ConfigError("[" + line.where + "] line = " + json_summary(line.json) +
                      ", allowed {\"prompt\": …} or {\"token_ids\": […]}");
  }
  if (text) {
    const Json& prompt = line.json["prompt"];
    if (!prompt.is_string()) line.refuse("prompt", prompt, "text");
    return loaded.tokenizer.require()->encode(prompt.get<std::string>(), true);
  }
  const Json& list = line.json["token_ids"];
  if (!list.is_array()) line.refuse("token_ids", list, "a list of integers");
  std::vector<int64_t> tokens;
  for (const Json& id : list) {
    if (!id.is_number_integer()) line.refuse("token_ids", id, "integers");
    tokens.push_back(id.get<int64_t>());
  }
  return tokens;
}

void take_stop(const Line& line, std::vector<std::string>& stop) {
  if (!line.json.contains("stop")) return;
  const Json& got = line.json["stop"];
  stop.clear();
  for (const Json& item : got.is_array() ? got : Json::array({got})) {
    if (!item.is_string()) line.refuse("stop", item, "text or a list of texts");
    stop.push_back(item.get<std::string>());
  }
}

engine::BatchRequest request_of(const Line& line, const engine::LoadedModel& loaded,
                                const engine::GenerateOptions& defaults) {
  if (!line.json.is_object()) {
    throw ConfigError("[" + line.where + "] line = " + json_summary(line.json) +
                      ", allowed {\"prompt\": …} or {\"token_ids\": […]}");
  }
  for (const auto& [key, value] : line.json.items()) {
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) {
      line.refuse(key, value, join(kKeys, ", "));
    }
  }
  engine::BatchRequest request{prompt_of(line, loaded), defaults};
  engine::GenerateOptions& options = request.options;
  line.take("max_new_tokens", options.max_new_tokens);
  line.take("temperature", options.sampler.temperature);
  line.take("top_k", options.sampler.top_k);
  line.take("top_p", options.sampler.top_p);
  line.take("min_p", options.sampler.min_p);
  line.take("repetition_penalty", options.sampler.repetition_penalty);
  line.take("seed", options.seed);
  line.take("request", options.request);
  take_stop(line, options.stop);
  return request;
}

}  // namespace

std::vector<engine::BatchRequest> read_prompts(const std::string& path,
                                               const engine::LoadedModel& loaded,
                                               const engine::GenerateOptions& defaults) {
  const int64_t vocab = loaded.model->spec().embedding.vocab_size;
  std::vector<engine::BatchRequest> requests;
  int64_t number = 0;
  for (const std::string& text : split(read_file(path, kLargestPromptFile), '\n')) {
    ++number;
    if (trim(text).empty()) continue;
    const std::string where = path + ":" + std::to_string(number);
    const Json json = parse_json(text, where, JsonErrors::kConfig);
    engine::GenerateOptions options = defaults;
    options.request = requests.size();
    requests.push_back(request_of({where, json}, loaded, options));
    try {
      engine::check_generation(requests.back().prompt, requests.back().options, vocab,
                               loaded.tokenizer.tokenizer != nullptr);
    } catch (const ConfigError& error) {
      throw ConfigError("[" + where + "] " + error.what());
    }
  }
  if (requests.empty())
    throw ConfigError("[" + path + "] prompts = none, allowed at least one line");
  return requests;
}

}  // namespace headway::cli
