// Templates that mean harm, and golden templates with random damage: a TemplateError or a text,
// soon, and in bounded memory. Not for: what correct templates render (tests/golden/text).
#include <chrono>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "headway/base/file_util.h"
#include "headway/text/chat_template.h"
#include "headway/text/utf8.h"

namespace headway::text {
namespace {

namespace fs = std::filesystem;
using jinja::ErrorKind;
using jinja::TemplateError;

ChatRequest short_chat() {
  ChatRequest request;
  request.messages = jinja::parse_json_value(
      R"([{"role":"system","content":"s"},{"role":"user","content":"häi 😀"},
          {"role":"assistant","content":"a",
           "tool_calls":[{"function":{"name":"f","arguments":{"x":1}}}]}])",
      "chat");
  request.now = parse_clock("2024-03-09T14:05:06");
  return request;
}

jinja::Limits small_limits() {
  jinja::Limits limits;
  limits.steps = 200'000;
  limits.memory = 16 << 20;
  limits.output = 1 << 20;
  return limits;
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::int64_t peak_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

std::string repeated(const std::string& part, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += part;
  return text;
}

struct Hostile {
  const char* name;
  std::string source;
};

std::vector<Hostile> hostile_templates() {
  const std::string loops = repeated("{% for i in range(100000) %}", 6);
  const std::string ends = repeated("{% endfor %}", 6);
  const std::string grow = "{% set ns = namespace(x='ab') %}{% for i in range(99) %}";
  const std::string nest = "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}";
  return {
      {"nested loops", loops + "x" + ends},
      {"loops without output", loops + "{% set a = i * i %}" + ends},
      {"macro recursion", "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}"},
      {"mutual recursion",
       "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}"},
      {"caller recursion",
       "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}"},
      {"loop recursion", "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}"},
      {"doubled text", grow + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}"},
      {"added text", grow + "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}"},
      {"doubled list",
       "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}"
       "{% set ns.x = ns.x + ns.x %}{% endfor %}"},
      {"text times", "{{ 'abc' * 1000000000000 }}"},
      {"list times", "{{ ([0] * 100000000000) | length }}"},
      {"tuple times", "{{ (1, 2) * 9223372036854775807 }}"},
      {"long range", "{{ range(1000000000) | list }}"},
      {"range of ranges",
       "{% for i in range(100000) %}{{ range(100000) | list | length }}{% endfor %}"},
      {"power tower", "{{ 9 ** (9 ** (9 ** 9)) }}"},
      {"huge shift", "{{ 2 ** 100000000000000000000 }}"},
      {"big number text", "{{ (10 ** 19000) | string }}"},
      {"many multiplications",
       "{% set ns = namespace(x=3) %}{% for i in range(100000) %}"
       "{% set ns.x = ns.x * ns.x %}{% endfor %}"},
      {"center", "{{ 'a' | center(99999999999) }}"},
      {"ljust", "{{ 'a'.ljust(99999999999) }}"},
      {"zfill", "{{ '1'.zfill(99999999999) }}"},
      {"expandtabs", "{{ '\\t'.expandtabs(99999999999) }}"},
      {"indent", "{{ ('a\\n' * 1000) | indent(99999999) }}"},
      {"percent width", "{{ '%99999999999d' % 1 }}"},
      {"percent star", "{{ '%*d' % (99999999999, 1) }}"},
      {"percent precision", "{{ '%.999999999f' % 1.5 }}"},
      {"format width", "{{ '{:99999999999}'.format(1) }}"},
      {"format nested", "{{ '{:{}}'.format(1, 99999999999) }}"},
      {"format precision", "{{ '{:.999999999f}'.format(1.5) }}"},
      {"json indent", "{{ messages | tojson(indent=99999999) }}"},
      {"replace growth", grow + "{% set ns.x = ns.x.replace('', 'abcdefgh') %}{% endfor %}"},
      {"join growth", grow + "{% set ns.x = ns.x.join(ns.x) %}{% endfor %}"},
      {"batch fill", "{{ [1] | batch(99999999999, 0) | list }}"},
      {"slices", "{{ [1] | slice(99999999999) | list }}"},
      {"strftime width", "{{ strftime_now('%999999999Y') }}"},
      {"nested values", nest + "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}"},
      {"nested dicts", nest + "{% set ns.x = {'a': ns.x} %}{% endfor %}{{ ns.x | tojson }}"},
      {"nested generators",
       nest + "{% set ns.x = ns.x | map('upper') %}{% endfor %}{{ ns.x | list }}"},
      {"shared values",
       "{% set ns = namespace(x=[1]) %}{% for i in range(200) %}"
       "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | string | length }}"},
      {"shared equality",
       "{% set a = namespace(x=[1], y=[1]) %}{% for i in range(200) %}"
       "{% set a.x = [a.x, a.x] %}{% set a.y = [a.y, a.y] %}{% endfor %}"
       "{{ a.x == a.y }}"},
      {"own namespace", "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}"},
      {"deep parentheses", "{{ " + repeated("(", 100000) + "1" + repeated(")", 100000) + " }}"},
      {"deep lists", "{{ " + repeated("[", 50000) + repeated("]", 50000) + " }}"},
      {"deep not", "{{ " + repeated("not ", 100000) + "1 }}"},
      {"deep minus", "{{ " + repeated("-", 100000) + "1 }}"},
      {"deep blocks", repeated("{% if 1 %}", 50000) + repeated("{% endif %}", 50000)},
      {"long sum", "{{ 1" + repeated(" + 1", 100000) + " }}"},
      {"long attributes", "{{ x" + repeated(".a", 100000) + " }}"},
      {"long filters", "{{ x" + repeated("|string", 100000) + " }}"},
      {"unclosed", repeated("{% for i in x %}", 20000)},
      {"unclosed comment", repeated("{# ", 50000)},
      {"unclosed raw", "{% raw %}" + repeated("{% ", 50000)},
      {"escape", "{{ ''.__class__.__mro__ }}"},
      {"escape by format", "{{ '{0.__class__.__mro__}'.format(1) }}"},
      {"escape by map", "{{ [''] | map(attribute='__class__.__mro__') | list }}"},
  };
}

TEST(TemplateFuzz, HostileTemplatesEndSoonWithAnError) {
  const ChatRequest request = short_chat();
  for (const Hostile& hostile : hostile_templates()) {
    SCOPED_TRACE(hostile.name);
    const double seconds = seconds_of([&] {
      EXPECT_THROW(ChatTemplate(hostile.source).render(request, small_limits()), TemplateError);
    });
    EXPECT_LT(seconds, 20.0);
  }
  EXPECT_LT(peak_bytes(), std::int64_t{1} << 30);
}

TEST(TemplateFuzz, TheStandardLimitsHoldToo) {
  const ChatRequest request = short_chat();
  const std::string endless =
      repeated("{% for i in range(100000) %}", 3) + "{% set a = i %}" + repeated("{% endfor %}", 3);
  EXPECT_THROW(ChatTemplate(endless).render(request), TemplateError);
  const std::string growing =
      "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}"
      "{% endfor %}";
  EXPECT_THROW(ChatTemplate(growing).render(request), TemplateError);
}

std::vector<std::string> golden_templates() {
  std::vector<std::string> sources;
  for (const auto& entry : fs::directory_iterator(fs::path(HEADWAY_TESTS_DIR) / "golden/chat")) {
    const fs::path file = entry.path() / "template.jinja";
    if (fs::exists(file)) sources.push_back(read_file(file.string(), 1 << 20));
  }
  return sources;
}

// Cuts, repeats, swaps and overwrites pieces; the result is repaired to UTF-8.
std::string damaged(std::string source, std::mt19937& random) {
  const std::vector<std::string> pieces = {"{%", "%}", "{{",   "}}", "-",    "|",
                                           "(",  ")",  "[",    ".",  " if ", "endfor",
                                           "'",  "\\", "loop", "**", "é",    "is "};
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : random() % n; };
  for (int i = 0; i < 3; ++i) {
    const std::size_t at = below(source.size());
    switch (below(4)) {
      case 0:
        source.erase(at, below(20));
        break;
      case 1:
        source.insert(at, pieces[below(pieces.size())]);
        break;
      case 2:
        source.insert(at, source.substr(below(source.size()), below(40)));
        break;
      default:
        source[at] = static_cast<char>(below(256));
    }
  }
  return repair_utf8(source);
}

TEST(TemplateFuzz, DamagedTemplatesRenderOrAreRefused) {
  const ChatRequest request = short_chat();
  const auto sources = golden_templates();
  ASSERT_GE(sources.size(), 12u);
  std::mt19937 random(20240309);
  int rendered = 0;
  int refused = 0;
  for (int i = 0; i < 1500; ++i) {
    const std::string source = damaged(sources[random() % sources.size()], random);
    try {
      ChatTemplate(source).render(request, small_limits());
      ++rendered;
    } catch (const TemplateError&) {
      ++refused;
    }
  }
  EXPECT_GT(rendered, 50);
  EXPECT_GT(refused, 50);
}

}  // namespace
}  // namespace headway::text
