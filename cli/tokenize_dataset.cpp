// Text files to .bin and .idx. Not for: training, which keeps token files of its own.
#include "cli/tokenize_dataset.h"

#include <cstdio>
#include <filesystem>

#include <unistd.h>

#include "headway/base/error.h"
#include "headway/base/text_util.h"
#include "headway/data/indexed_dataset.h"
#include "headway/data/tokenize.h"

#include "cli/command.h"
#include "cli/progress.h"

namespace headway::cli {

void tokenize_dataset(const DatasetOptions& options,
                      std::shared_ptr<const text::Tokenizer> tokenizer, bool json) {
  if (options.out.empty()) throw ConfigError("[tokenize] --out = absent, allowed a PREFIX");
  for (const char* ending : {".bin", ".idx"}) {
    if (std::filesystem::exists(options.out + ending)) {
      throw ConfigError("[tokenize] --out = " + options.out + ending +
                        " exists, allowed a name that is free");
    }
  }
  ConsoleProgress progress(stderr, ::isatty(STDERR_FILENO) != 0);
  data::TokenizeRequest request;
  request.where = "--data";
  request.files = data::find_sources(options.data, request.where).files;
  request.text_field = options.text_field;
  request.tokenizer = std::move(tokenizer);
  request.progress = [&](const data::TokenizeProgress& done) { progress.on_tokenize(done); };
  const data::SourceContent content = data::inspect_sources(request);
  data::IndexedWriter writer(options.out, content.info);
  data::tokenize(request, content, writer);
  writer.commit();
  progress.finish_line();
  if (json) {
    return print_json({{"tokens", writer.size()},
                       {"documents", writer.num_documents()},
                       {"bin", options.out + ".bin"},
                       {"idx", options.out + ".idx"}});
  }
  std::fprintf(stderr, "%s tokens in %s documents: %s.bin, %s.idx\n",
               format_count(writer.size()).c_str(), format_count(writer.num_documents()).c_str(),
               options.out.c_str(), options.out.c_str());
}

}  // namespace headway::cli
