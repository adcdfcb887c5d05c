// `headway tokenize`: text to ids and back, once or line by line. Adds `tokenizer` beside it.
#include <charconv>
#include <cstdio>
#include <iostream>
#include <memory>

#include "headway/base/error.h"
#include "headway/base/file_util.h"
#include "headway/text/decode_stream.h"
#include "headway/text/tokenizer_factory.h"

#include "cli/command.h"
#include "cli/tokenizer.h"
#include "cli/tokenize_dataset.h"

namespace headway::cli {
namespace {

struct Options {
  std::string tokenizer;
  std::string text;
  std::string file;
  bool jsonl = false;
  bool special = false;
  bool decode = false;
  bool json = false;
  DatasetOptions dataset;
};

constexpr int64_t kLargestFile = int64_t{1} << 32;

/// Ids separated by commas or white space.
std::vector<int64_t> parse_ids(const std::string& text) {
  std::vector<int64_t> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    if (*at == ',' || std::isspace(static_cast<unsigned char>(*at))) {
      ++at;
      continue;
    }
    int64_t id = 0;
    const auto parsed = std::from_chars(at, end, id);
    if (parsed.ec != std::errc()) {
      throw ConfigError("[tokenize] ids = '" + std::string(at, std::min(end, at + 20)) +
                        "', allowed integers separated by commas or spaces");
    }
    ids.push_back(id);
    at = parsed.ptr;
  }
  return ids;
}

Json offsets_json(const std::vector<text::Offset>& offsets) {
  Json list = Json::array();
  for (const text::Offset& offset : offsets) list.push_back({offset.begin, offset.end});
  return list;
}

Json encoded_line(const text::Tokenizer& tokenizer, const std::string& text) {
  const text::Encoding plain = tokenizer.encode_with_offsets(text, false);
  return {{"ids", plain.ids},
          {"ids_special", tokenizer.encode(text, true)},
          {"offsets", offsets_json(plain.offsets)},
          {"decoded", tokenizer.decode(plain.ids, false)},
          {"decoded_skip", tokenizer.decode(plain.ids, true)}};
}

/// One piece for every id, null when the id completes no text. What is left at the end is not
/// given; a stream that breaks ends the list.
Json decoded_line(const text::Tokenizer& tokenizer, const std::vector<int64_t>& ids) {
  Json line{{"pieces", Json::array()}};
  const auto decoder = tokenizer.stream_decoder(true);
  const auto* window = dynamic_cast<const text::WindowStream*>(decoder.get());
  for (const int64_t id : ids) {
    const std::string piece = decoder->push(id);
    if (window != nullptr && window->broken()) {
      line["error"] = *window->broken();
      break;
    }
    line["pieces"].push_back(piece.empty() ? Json() : Json(piece));
  }
  line["decoded"] = tokenizer.decode(ids, false);
  line["decoded_skip"] = tokenizer.decode(ids, true);
  return line;
}

Json answer(const text::Tokenizer& tokenizer, const std::string& line, int64_t number) {
  const std::string where = "stdin:" + std::to_string(number);
  const Json request = parse_json(line, where, JsonErrors::kConfig);
  if (request.is_object() && request.contains("text") && request["text"].is_string()) {
    return encoded_line(tokenizer, request["text"].get<std::string>());
  }
  if (request.is_object() && request.contains("ids") && request["ids"].is_array()) {
    for (const Json& id : request["ids"]) {
      if (!id.is_number_integer())
        throw ConfigError("[" + where + "] ids = " + json_summary(id) + ", allowed integers");
    }
    return decoded_line(tokenizer, request["ids"].get<std::vector<int64_t>>());
  }
  throw ConfigError("[" + where + "] line = " + json_summary(request) +
                    ", allowed {\"text\": …} or {\"ids\": […]}");
}

void run_lines(const text::Tokenizer& tokenizer) {
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    if (line.empty()) continue;
    std::cout
        << answer(tokenizer, line, number).dump(-1, ' ', false, Json::error_handler_t::replace)
        << '\n';
  }
}

void run(const Options& options) {
  const auto tokenizer = text::load_tokenizer(options.tokenizer);
  if (!options.dataset.data.empty()) {
    return tokenize_dataset(options.dataset, tokenizer, options.json);
  }
  if (options.jsonl) return run_lines(*tokenizer);
  const std::string input =
      options.file.empty() ? options.text : read_file(options.file, kLargestFile);
  if (options.decode) {
    const std::vector<int64_t> ids = parse_ids(input);
    const std::string text = tokenizer->decode(ids, !options.special);
    if (options.json) return print_json({{"ids", ids}, {"text", text}});
    std::cout << text << '\n';
    return;
  }
  const std::vector<int64_t> ids = tokenizer->encode(input, options.special);
  if (options.json) return print_json({{"ids", ids}, {"count", ids.size()}});
  for (size_t i = 0; i < ids.size(); ++i) std::cout << (i == 0 ? "" : " ") << ids[i];
  std::cout << '\n';
}

}  // namespace

void add_tokenize(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("tokenize", "Text to token ids and back");
  command->add_option("--tokenizer", options->tokenizer, "bytes, a folder, or a tokenizer file")
      ->required();
  auto* input = command->add_option_group("input", "what to read");
  input->add_option("--text", options->text, "The text (with --decode: the ids)");
  input->add_option("--file", options->file, "A file holding it");
  input->add_flag("--jsonl", options->jsonl,
                  "Lines {\"text\"} or {\"ids\"} on stdin, one answer a line");
  input->add_option("--data", options->dataset.data,
                    "Text and JSONL files and folders, encoded into --out");
  input->require_option(1);
  command->add_option("--out", options->dataset.out,
                      "With --data: PREFIX of a Megatron dataset, PREFIX.bin and PREFIX.idx");
  command
      ->add_option("--text-field", options->dataset.text_field,
                   "With --data: field of JSON lines that holds the text")
      ->capture_default_str();
  command->add_flag("--special", options->special, "Add special tokens; keep them with --decode");
  command->add_flag("--decode", options->decode, "Ids to text");
  command->add_flag("--json", options->json, "Machine-readable output on stdout");
  command->callback([options] { run(*options); });
  add_tokenizer(app);
}

}  // namespace headway::cli
