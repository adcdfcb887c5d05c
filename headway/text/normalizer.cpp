// What each normalizer step does to a document.
// Not for: reading it from JSON (normalizer_parse.cpp).
#include "headway/text/normalizer.h"

#include <algorithm>
#include <optional>

#include "headway/text/byte_alphabet.h"
#include "headway/text/unicode.h"

namespace headway::text {
namespace {

// Runs `change(rewriter, piece, text)` for every piece that is no added token.
template <class Change>
void rewrite(Document& document, Change change) {
  Rewriter rewriter(document);
  for (const Piece& piece : document.pieces) {
    if (piece.token != kNoToken) {
      rewriter.keep(piece);
      continue;
    }
    rewriter.begin(piece);
    change(rewriter, piece, document.view(piece));
    rewriter.end();
  }
  rewriter.finish();
}

template <class Test>
bool any_piece(const Document& document, Test test) {
  return std::any_of(document.pieces.begin(), document.pieces.end(), [&](const Piece& piece) {
    return piece.token == kNoToken && test(document.view(piece));
  });
}

template <class Test>
bool any_point(const Document& document, Test test) {
  return any_piece(document, [&](std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
      const DecodedPoint decoded = decode_point(text, at);
      if (test(decoded.point)) return true;
      at += decoded.length;
    }
    return false;
  });
}

// Maps every character to another, or (nullopt) removes it.
template <class Map>
void map_points(Document& document, Map map) {
  if (!any_point(document, [&](char32_t point) { return map(point) != point; })) return;
  rewrite(document, [&](Rewriter& out, const Piece&, std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
      const DecodedPoint decoded = decode_point(text, at);
      at += decoded.length;
      const std::optional<char32_t> mapped = map(decoded.point);
      if (mapped == decoded.point) {
        out.copy(decoded.length);
      } else if (mapped) {
        out.put(*mapped, 0);
      } else {
        out.skip(1);
      }
    }
  });
}

template <class Keep>
void filter_points(Document& document, Keep keep) {
  map_points(document, [&](char32_t point) {
    return keep(point) ? std::optional<char32_t>(point) : std::nullopt;
  });
}

void apply(const NormalFormNormalizer& step, Document& document) {
  const Normalisation& form = Normalisation::of(step.form);
  if (!any_piece(document, [&](std::string_view text) { return !form.is_surely_normal(text); })) {
    return;
  }
  rewrite(document, [&](Rewriter& out, const Piece&, std::string_view text) {
    std::vector<char32_t> run;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t begin = at;
      run.clear();
      do {
        const DecodedPoint decoded = decode_point(text, at);
        if (!run.empty() && form.is_stable(decoded.point)) break;
        run.push_back(decoded.point);
        at += decoded.length;
      } while (at < text.size());
      if (run.size() == 1 && form.is_stable(run[0])) {
        out.copy(static_cast<std::uint32_t>(at - begin));
        continue;
      }
      for (const NormalisedPoint& point : form.apply(run)) out.put(point.point, point.change);
    }
  });
}

void apply(const LowercaseNormalizer&, Document& document) {
  const auto changes = [](char32_t point) {
    const LowerCase lower = lower_case(point);
    return lower.first != point || lower.second != 0;
  };
  if (!any_point(document, changes)) return;
  rewrite(document, [&](Rewriter& out, const Piece&, std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
      const DecodedPoint decoded = decode_point(text, at);
      at += decoded.length;
      const LowerCase lower = lower_case(decoded.point);
      out.put(lower.first, 0);
      if (lower.second != 0) out.put(lower.second, 1);
    }
  });
}

void apply(const StripNormalizer& step, Document& document) {
  rewrite(document, [&](Rewriter& out, const Piece&, std::string_view text) {
    const std::vector<char32_t> points = utf8_to_points(text);
    std::size_t leading = 0;
    std::size_t trailing = 0;
    if (step.left) {
      while (leading < points.size() && is_white_space(points[leading])) ++leading;
    }
    if (step.right) {
      while (trailing < points.size() && is_white_space(points[points.size() - 1 - trailing])) {
        ++trailing;
      }
    }
    const std::size_t end = points.size() - trailing;
    out.skip(static_cast<std::uint32_t>(leading));
    for (std::size_t i = leading; i < end; ++i) out.put(points[i], 0);
  });
}

void apply(const StripAccentsNormalizer&, Document& document) {
  const PointSet& accents = accent_characters();
  filter_points(document, [&](char32_t point) { return !accents.contains(point); });
}

void apply(const ReplaceNormalizer& step, Document& document) {
  std::vector<Stretch> stretches;
  const auto has_match = [&](std::string_view text) {
    if (!step.pattern.is_regex()) return text.find(step.pattern.source()) != std::string_view::npos;
    stretches.clear();
    step.pattern.stretches(text, stretches);
    return std::any_of(stretches.begin(), stretches.end(),
                       [](const Stretch& stretch) { return stretch.is_match; });
  };
  if (!any_piece(document, has_match)) return;
  rewrite(document, [&](Rewriter& out, const Piece&, std::string_view text) {
    stretches.clear();
    step.pattern.stretches(text, stretches);
    for (const Stretch& stretch : stretches) {
      if (!stretch.is_match) {
        out.copy(stretch.span.size());
        continue;
      }
      out.skip_bytes(stretch.span.size());
      out.insert(step.content);
    }
  });
}

void apply(const PrependNormalizer& step, Document& document) {
  rewrite(document, [&](Rewriter& out, const Piece& piece, std::string_view) {
    out.prepend(step.content);
    out.copy(piece.text.size());
  });
}

void apply(const ByteLevelNormalizer&, Document& document) {
  rewrite(document, [&](Rewriter& out, const Piece&, std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
      const std::uint32_t length = decode_point(text, at).length;
      for (std::uint32_t i = 0; i < length; ++i) {
        out.put(byte_to_character(static_cast<std::uint8_t>(text[at + i])), i > 0 ? 1 : 0);
      }
      at += length;
    }
  });
}

std::optional<char32_t> nmt_point(char32_t point) {
  const bool removed = (point >= 0x01 && point <= 0x08) || point == 0x0B ||
                       (point >= 0x0E && point <= 0x1F) || point == 0x7F || point == 0x8F ||
                       point == 0x9F;
  if (removed) return std::nullopt;
  const bool space = point == 0x09 || point == 0x0A || point == 0x0C || point == 0x0D ||
                     point == 0x1680 || (point >= 0x200B && point <= 0x200F) || point == 0x2028 ||
                     point == 0x2029 || point == 0x2581 || point == 0xFEFF || point == 0xFFFD;
  return space ? U' ' : point;
}

void apply(const NmtNormalizer&, Document& document) { map_points(document, nmt_point); }

bool is_chinese(char32_t point) {
  return (point >= 0x4E00 && point <= 0x9FFF) || (point >= 0x3400 && point <= 0x4DBF) ||
         (point >= 0x20000 && point <= 0x2A6DF) || (point >= 0x2A700 && point <= 0x2B81F) ||
         (point >= 0x2B920 && point <= 0x2CEAF) || (point >= 0xF900 && point <= 0xFAFF) ||
         (point >= 0x2F800 && point <= 0x2FA1F);
}

void apply(const BertNormalizer& step, Document& document) {
  if (step.clean_text) {
    const PointSet& control = bert_control_characters();
    map_points(document, [&](char32_t point) -> std::optional<char32_t> {
      if (control.contains(point)) return std::nullopt;
      return is_white_space(point) ? U' ' : point;
    });
  }
  if (step.pad_chinese && any_point(document, is_chinese)) {
    rewrite(document, [&](Rewriter& out, const Piece&, std::string_view text) {
      for (const char32_t point : utf8_to_points(text)) {
        if (is_chinese(point)) {
          out.put(U' ', 0);
          out.put(point, 1);
          out.put(U' ', 1);
        } else {
          out.put(point, 0);
        }
      }
    });
  }
  if (step.strip_accents) {
    apply(NormalFormNormalizer{NormalForm::kNfd}, document);
    const PointSet& accents = bert_accent_characters();
    filter_points(document, [&](char32_t point) { return !accents.contains(point); });
  }
  if (step.lowercase) apply(LowercaseNormalizer{}, document);
}

}  // namespace

void normalize(const std::vector<Normalizer>& steps, Document& document) {
  for (const Normalizer& step : steps) {
    std::visit([&](const auto& kind) { apply(kind, document); }, step);
  }
}

std::string normalized(const std::vector<Normalizer>& steps, std::string_view text) {
  Document document;
  document.reset(text, false);
  normalize(steps, document);
  std::string out;
  for (const Piece& piece : document.pieces) out += document.view(piece);
  return out;
}

}  // namespace headway::text
