// docs/run_file.md is what the field lists say: it is generated here and compared.
// Not for: whether the fields do what they say.
#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "headway/base/fields.h"
#include "headway/config/run_config.h"

namespace headway::config {
namespace {

constexpr const char* kHead =
    "# Fields of a run file\n"
    "\n"
    "A run file is YAML or JSON. `headway train RUN.yaml a.b=value …` changes single fields;\n"
    "list entries are `a.0=value`. Every field has a default unless it says *required*. An "
    "unknown\n"
    "key, a wrong type or a value outside what is allowed is an error that names the field; all\n"
    "errors of a file are reported at once.\n"
    "\n"
    "`<name>` stands for a name of your own. A mapping with a short form may be written as that\n"
    "form alone: `gate: head_wise` is `gate: {kind: head_wise}`, and likewise `rope: none`,\n"
    "`norms: sandwich` and `schedule: constant`. The word `none` unsets a field that allows it.\n"
    "\n"
    "To train, `data.train` and `output` are needed; `validate` and `inspect` take a file without\n"
    "them. What the model does with its fields is in [numerics](numerics.md).\n"
    "\n"
    "This page is generated from the field lists in `headway/config/`; the test\n"
    "`unit_config_docs` fails when it is out of step and says how to renew it.\n";

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

std::string group_of(const std::string& path) {
  const size_t dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

/// Fields by the mapping they stand in, in the order in which a mapping is first met.
std::vector<std::pair<std::string, std::vector<FieldDoc>>> grouped_docs() {
  std::vector<std::pair<std::string, std::vector<FieldDoc>>> groups;
  for (FieldDoc& doc : field_docs<RunConfig>()) {
    const std::string name = group_of(doc.path);
    auto group = std::ranges::find(groups, name, [](const auto& entry) { return entry.first; });
    if (group == groups.end()) group = groups.insert(group, {name, {}});
    group->second.push_back(std::move(doc));
  }
  return groups;
}

std::string row(const FieldDoc& doc, const std::string& group) {
  const std::string name = group.empty() ? doc.path : doc.path.substr(group.size() + 1);
  std::string preset = "`" + escaped(doc.preset == "null" ? "none" : doc.preset) + "`";
  if (doc.preset == "required") preset = "*required*";
  return "| `" + name + "` | " + escaped(doc.help) + " | " + escaped(doc.allowed) + " | " + preset +
         " |\n";
}

std::string generate() {
  std::string text = kHead;
  for (const auto& [group, docs] : grouped_docs()) {
    text += "\n## " + (group.empty() ? std::string("Top level") : "`" + group + "`") + "\n\n";
    text += "| field | meaning | allowed | default |\n|---|---|---|---|\n";
    for (const FieldDoc& doc : docs) text += row(doc, group);
  }
  return text;
}

TEST(RunFileDocs, PageHoldsWhatTheFieldListsSay) {
  const std::string page = std::string(HEADWAY_TESTS_DIR) + "/../docs/run_file.md";
  std::stringstream have;
  have << std::ifstream(page).rdbuf();
  const std::string want = generate();
  if (have.str() == want) return;
  const std::string renewed = testing::TempDir() + "run_file.md";
  std::ofstream(renewed) << want;
  FAIL() << "docs/run_file.md differs from the field lists. Renew it by\n  cp " << renewed << " "
         << page;
}

TEST(RunFileDocs, EveryFieldHasHelp) {
  for (const FieldDoc& doc : field_docs<RunConfig>()) {
    EXPECT_FALSE(doc.help.empty()) << doc.path;
    EXPECT_FALSE(doc.allowed.empty()) << doc.path;
  }
}

}  // namespace
}  // namespace headway::config
