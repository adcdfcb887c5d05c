// The exact texts of the patterns that have a scanner of their own.
// Not for: the scanners (split_scanner.cpp).
#include "headway/text/split_scanner_rules.h"

namespace headway::text {
namespace {

// clang-format off
const KnownPattern kKnown[] = {
    {"gpt2",
     "'s|'t|'re|'ve|'m|'ll|'d| \?\\p{L}+| \?\\p{N}+| \?[^\\s\\p{L}\\p{N}]+|\\s+(\?!\\S)|\\"
     "s+",
     scanners::kGpt2},
    {"qwen2",
     "(\?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]\?\\p{L}+|\\p{N}| \?[^\\s\\p{L}\\"
     "p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(\?!\\S)|\\s+",
     scanners::kQwen2},
    {"llama3",
     "(\?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]\?\\p{L}+|\\p{N}{1,3}| \?[^\\s\\p"
     "{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(\?!\\S)|\\s+",
     scanners::kLlama3},
    {"qwen3.5",
     "(\?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]\?[\\p{L}\\p{M}]+|\\p{N}| \?[^\\s"
     "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(\?!\\S)|\\s+",
     scanners::kQwen35},
    {"cl100k",
     "'(\?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]\?+\\p{L}++|\\p{N}{1,3}+| \?[^\\s\\p{L}"
     "\\p{N}]++[\\r\\n]*+|\\s++$|\\s*[\\r\\n]|\\s+(\?!\\S)|\\s",
     scanners::kCl100k},
    {"o200k",
     "[^\\r\\n\\p{L}\\p{N}]\?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\"
     "p{M}]+(\?i:'s|'t|'re|'ve|'m|'ll|'d)\?|[^\\r\\n\\p{L}\\p{N}]\?[\\p{Lu}\\p{Lt}\\p{Lm}"
     "\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(\?i:'s|'t|'re|'ve|'m|'ll|'d)\?|\\p{N}{"
     "1,3}| \?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(\?!\\S)|\\s+",
     scanners::kO200k},
    {"tekken",
     "[^\\r\\n\\p{L}\\p{N}]\?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\"
     "p{M}]+|[^\\r\\n\\p{L}\\p{N}]\?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\"
     "p{Lo}\\p{M}]*|\\p{N}| \?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(\?!\\S)|\\s"
     "+",
     scanners::kTekken},
    {"kimi",
     "[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]\?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
     "*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+(\?i:'s|'t|'re|'ve|'m|'ll|'d)\?|[^\\r\\n"
     "\\p{L}\\p{N}]\?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+[\\p{Ll}\\p{Lm}\\p{"
     "Lo}\\p{M}&&[^\\p{Han}]]*(\?i:'s|'t|'re|'ve|'m|'ll|'d)\?|\\p{N}{1,3}| \?[^\\s\\p{L}\\"
     "p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(\?!\\S)|\\s+",
     scanners::kKimi},
    {"deepseek digits",
     "\\p{N}{1,3}",
     scanners::kThreeDigits},
    {"deepseek cjk",
     "[\xE4\xB8\x80""-\xE9\xBE\xA5""\xE3\x81\x80""-\xE3\x82\x9F""\xE3\x82\xA0""-"
     "\xE3\x83\xBF""]+",
     scanners::kCjk},
    {"deepseek",
     "[!\"#$%&'()*+,\\-./:;<=>\?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]\?["
     "\\p{L}\\p{M}]+| \?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(\?!\\S)|\\s+",
     scanners::kDeepseek},
    {"deepseek escaped",
     "[!\"#$%&'()*+,\\-./:;<=>\?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]\?"
     "[\\p{L}\\p{M}]+| \?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(\?!\\S)|\\s+",
     scanners::kDeepseek},
};
// clang-format on

}  // namespace

const std::string_view kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

std::span<const KnownPattern> known_patterns() { return kKnown; }

SplitScanner find_scanner(std::string_view pattern) {
  for (const KnownPattern& known : kKnown) {
    if (known.pattern == pattern) return known.scanner;
  }
  return nullptr;
}

}  // namespace headway::text
