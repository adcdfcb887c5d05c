// Chat files for the commands. Not for: the interactive loop (chat.cpp).
#include "cli/chat_prompt.h"

#include "headway/base/file_util.h"

namespace headway::cli {
namespace {

constexpr int64_t kLargestChat = int64_t{256} << 20;

}  // namespace

text::ChatRequest read_chat_file(const std::string& path) {
  text::ChatRequest request =
      text::parse_chat(text::jinja::parse_json_value(read_file(path, kLargestChat), path), path);
  if (!text::has_variable(request, "add_generation_prompt") &&
      !text::has_variable(request, "continue_final_message")) {
    request.variables.emplace_back("add_generation_prompt", true);
  }
  return request;
}

}  // namespace headway::cli
