// Cases of `headway bench tokenizer`: one thread, the cache of words warm after the first round.
// Not for: training a tokenizer.
#include "cli/bench/tokenizer.h"

#include <memory>

#include "headway/base/file_util.h"
#include "headway/base/text_util.h"
#include "headway/text/tokenizer_factory.h"

namespace headway::cli::bench {
namespace {

constexpr int64_t kLargestText = int64_t{256} << 20;

}  // namespace

TokenizerCases tokenizer_cases(const TokenizerWork& work) {
  const auto tokenizer = text::load_tokenizer(work.tokenizer);
  const auto whole = std::make_shared<const std::string>(read_file(work.file, kLargestText));
  const auto lines = std::make_shared<const std::vector<std::string>>(split(*whole, '\n'));
  TokenizerCases result;
  result.bytes = static_cast<double>(whole->size());
  const auto add = [&](std::string name, std::function<size_t()> encode) {
    Case one;
    one.name = std::move(name);
    one.tokens = static_cast<double>(encode());
    one.ours = [encode] { encode(); };
    result.cases.push_back(std::move(one));
  };
  add("ids, whole text", [=] { return tokenizer->encode(*whole, false).size(); });
  add("ids, line by line", [=] {
    size_t count = 0;
    for (const std::string& line : *lines) count += tokenizer->encode(line, false).size();
    return count;
  });
  add("ids and offsets, whole text",
      [=] { return tokenizer->encode_with_offsets(*whole, false).ids.size(); });
  add("ids and offsets, line by line", [=] {
    size_t count = 0;
    for (const std::string& line : *lines) {
      count += tokenizer->encode_with_offsets(line, false).ids.size();
    }
    return count;
  });
  return result;
}

}  // namespace headway::cli::bench
