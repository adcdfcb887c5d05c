// Rules of the template language beyond the goldens: scopes, numbers, slices, formats, limits. The
// expected texts are Jinja2's. Not for: whole chats (tests/golden/text).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/text/chat_template.h"

namespace headway::text {
namespace {

using jinja::ErrorKind;
using jinja::TemplateError;
using jinja::Value;

std::string render(const std::string& source, const std::string& variables = "{}",
                   const jinja::Limits& limits = {}) {
  ChatRequest request;
  request.messages = jinja::parse_json_value(R"([{"role": "user", "content": "hi"}])", "messages");
  const Value given = jinja::parse_json_value(variables, "variables");
  for (const auto& [name, value] : given.object<jinja::Dict>().items) {
    request.variables.emplace_back(name.text(), value);
  }
  return ChatTemplate(source).render(request, limits).text;
}

ErrorKind error_of(const std::string& source, const jinja::Limits& limits = {}) {
  try {
    render(source, "{}", limits);
  } catch (const TemplateError& error) {
    return error.kind();
  }
  ADD_FAILURE() << source << " rendered";
  return ErrorKind::kRaised;
}

TEST(JinjaScopes, ANameSetForCertainHidesTheCallersFromTheStart) {
  EXPECT_EQ(render("{% for i in [1] %}{{ v }}{% endfor %}|{% set v = 1 %}{{ v }}", R"({"v": 7})"),
            "|1");
  EXPECT_EQ(render("{{ v }}{% set v = v + 1 %}{{ v }}", R"({"v": 7})"), "78");
  EXPECT_EQ(render("{% if false %}{% set v = 1 %}{% endif %}{{ v }}", R"({"v": 7})"), "7");
  EXPECT_EQ(render("{% macro m() %}{{ v }}{% endmacro %}{{ m() }}{% set v = 1 %}{{ m() }}",
                   R"({"v": 7})"),
            "1");
}

TEST(JinjaScopes, LoopsAndBlocksDoNotLeak) {
  EXPECT_EQ(render("{% set x = 1 %}{% with y = x + 1, x = 5 %}{{ x }}{{ y }}{% endwith %}{{ x }}"),
            "521");
  EXPECT_EQ(render("{% generation %}{% set a = 1 %}{{ a }}{% endgeneration %}{{ a is defined }}"),
            "1False");
  EXPECT_EQ(render("{% set s %}{% set a = 2 %}{{ a }}{% endset %}{{ s }}{{ a is defined }}"),
            "2False");
}

TEST(JinjaLoops, TestsRunWhenTheItemIsAskedFor) {
  EXPECT_EQ(render("{% set ns = namespace(n=0) %}{% for i in range(9) if ns.n < 3 %}"
                   "{% set ns.n = ns.n + 1 %}{{ i }}{% endfor %}"),
            "012");
  EXPECT_EQ(render("{% for i in [1, 2] %}{% continue %}{% else %}E{% endfor %}"), "E");
  EXPECT_EQ(render("{% for i in [3, 4] | map('string') %}{{ loop.length }}{{ i }}{{ loop.last }};"
                   "{% endfor %}"),
            "23False;24True;");
}

TEST(JinjaNumbers, AreOfAnySize) {
  EXPECT_EQ(render("{{ 10 ** 30 // 7 }} {{ -10 ** 30 % 7 }} {{ (2 ** 100) / (2 ** 98) }}"),
            "142857142857142857142857142857 1 4.0");
  EXPECT_EQ(render("{{ 2 ** 63 - 1 + 1 }} {{ -2 ** 63 }} {{ 2 ** 53 + 1 == 2 ** 53 + 1.0 }}"),
            "9223372036854775808 -9223372036854775808 False");
  EXPECT_EQ(
      render("{{ n }} {{ n + 1 }} {{ n | tojson }}", R"({"n": 123456789012345678901234567890})"),
      "123456789012345678901234567890 123456789012345678901234567891 "
      "123456789012345678901234567890");
  EXPECT_EQ(render("{{ 1e16 }} {{ 123456.789e3 }} {{ 0.1 + 0.2 }} {{ 1e-5 }}"),
            "1e+16 123456789.0 0.30000000000000004 1e-05");
}

TEST(JinjaTexts, CountCharactersNotBytes) {
  EXPECT_EQ(render("{{ 'a😀é'[::-1] }} {{ 'a😀é'[1] }} {{ 'a😀é' | length }} {{ 'a😀é'.find('é') }}"),
            "é😀a 😀 3 2");
  EXPECT_EQ(render("{{ 'ŉΑΣ ß'.upper() }} {{ 'ΑΣ'.lower() }} {{ 'ǆ'.title() }}"), "ʼNΑΣ SS ας ǅ");
  EXPECT_EQ(render("{{ '  x\\ty \\n'.rsplit(none, 1) }} {{ ' a b '.split(none, 1) }}"),
            "['  x', 'y'] ['a', 'b ']");
}

TEST(JinjaFormats, FollowPython) {
  EXPECT_EQ(
      render("{{ '{:05}|{:>6.2f}|{!r:>5}|{:,}|{:#x}'.format(-42, 3.14159, 'a', 1234567, 255) }}"),
      "-0042|  3.14|  'a'|1,234,567|0xff");
  EXPECT_EQ(render("{{ '%05.1f|%-4s|%(x)s' % {'x': 1} if false else '%x %e' % (255, 12345.678) }}"),
            "ff 1.234568e+04");
  EXPECT_EQ(render("{{ '{:05}'.format('ab') }} {{ range(2, 9, 3)[::2] }}"),
            "ab000 range(2, 11, 6)");
}

TEST(JinjaSandbox, RefusesWhatTheReferenceRefuses) {
  EXPECT_EQ(error_of("{{ ''.__class__.__mro__ }}"), ErrorKind::kSecurity);
  EXPECT_EQ(error_of("{{ [].append(1) }}"), ErrorKind::kSecurity);
  EXPECT_EQ(error_of("{{ {}.update({}) }}"), ErrorKind::kSecurity);
  EXPECT_EQ(error_of("{{ '{0.__class__.x}'.format(1) }}"), ErrorKind::kSecurity);
  EXPECT_EQ(error_of("{% set ns = namespace() %}{% set ns._a = 1 %}"), ErrorKind::kSecurity);
  EXPECT_EQ(error_of("{{ range(100001) }}"), ErrorKind::kArithmetic);
}

TEST(JinjaLimits, NameWhatWasTooMuch) {
  jinja::Limits few;
  few.steps = 100;
  EXPECT_EQ(error_of("{% for i in range(1000) %}x{% endfor %}", few), ErrorKind::kRuntime);
  jinja::Limits shallow;
  shallow.calls = 10;
  const std::string down =
      "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{% endif %}.{% endmacro %}{{ m(NUMBER) }}";
  const auto with = [&](const char* number) {
    return std::string(down).replace(down.find("NUMBER"), 6, number);
  };
  EXPECT_EQ(error_of(with("10"), shallow), ErrorKind::kRecursion);
  EXPECT_EQ(render(with("9"), "{}", shallow), "..........");
  EXPECT_EQ(render(with("150")), std::string(151, '.'));
  jinja::Limits small;
  small.output = 1000;
  EXPECT_EQ(error_of("{{ 'ab' * 501 }}", small), ErrorKind::kRuntime);
  EXPECT_EQ(render("{{ 'ab' * 500 }}", "{}", small).size(), 1000u);
}

TEST(ChatTemplate, AliasesReasoningAndContinuesMessages) {
  ChatRequest request;
  request.messages = jinja::parse_json_value(
      R"([{"role": "assistant", "content": "so far ", "reasoning": "R"}])", "messages");
  const ChatTemplate chat("{{ messages[0].thinking }}:{{ messages[0].content }}<end>");
  EXPECT_EQ(chat.render(request).text, "R:so far <end>");
  request.variables.emplace_back("continue_final_message", true);
  EXPECT_EQ(chat.render(request).text, "R:so far ");
  const ChatTemplate silent("{{ messages[0].role }}content");
  EXPECT_THROW(silent.render(request), TemplateError);
}

TEST(ChatTemplate, ClockIsChecked) {
  EXPECT_EQ(parse_clock("2024-03-09T14:05:06").tm_wday, 6);
  EXPECT_THROW(parse_clock("2024-13-09T14:05:06"), ConfigError);
  EXPECT_THROW(parse_clock("yesterday"), ConfigError);
}

}  // namespace
}  // namespace headway::text
