// What each pre-tokenizer step does to the pieces of a document.
// Not for: reading it from JSON (pre_tokenizer_parse.cpp).
#include "headway/text/pre_tokenizer.h"

#include <algorithm>

#include "headway/text/byte_alphabet.h"

namespace headway::text {
namespace {

/// Appends the stretches whose characters satisfy `test`, each character a match of its own.
template <class Test>
void stretches_of(std::string_view text, Test test, std::vector<Stretch>& out) {
  std::uint32_t previous = 0;
  std::uint32_t at = 0;
  while (at < text.size()) {
    const DecodedPoint decoded = decode_point(text, at);
    if (test(decoded.point)) {
      if (previous < at) out.push_back({{previous, at}, false});
      out.push_back({{at, at + decoded.length}, true});
      previous = at + decoded.length;
    }
    at += decoded.length;
  }
  if (previous < at) out.push_back({{previous, at}, false});
}

/// Cuts every piece that is no added token: `find(text, stretches)` gives matches in order.
template <class Find>
void split_pieces(Document& document, SplitBehavior behavior, bool invert, Find find) {
  std::vector<Piece> pieces;
  pieces.reserve(document.pieces.size() + document.text.size() / 4);
  std::vector<Stretch> stretches;
  std::vector<Stretch> merged;
  for (const Piece& piece : document.pieces) {
    if (piece.token != kNoToken) {
      pieces.push_back(piece);
      continue;
    }
    stretches.clear();
    find(document.view(piece), stretches);
    if (invert) {
      for (Stretch& stretch : stretches) stretch.is_match = !stretch.is_match;
    }
    const std::vector<Stretch>* cut = &stretches;
    if (behavior != SplitBehavior::kIsolated && behavior != SplitBehavior::kRemoved) {
      merged.clear();
      merge_stretches(stretches, behavior, merged);
      cut = &merged;
    }
    for (const Stretch& stretch : *cut) {
      if (behavior == SplitBehavior::kRemoved && stretch.is_match) continue;
      if (stretch.span.size() == 0) continue;
      const std::uint32_t begin = piece.text.begin + stretch.span.begin;
      const std::uint32_t origin = stretch.span.begin == 0 && !document.aligned
                                       ? piece.origin
                                       : document.origin_begin(begin);
      pieces.push_back({{begin, piece.text.begin + stretch.span.end}, origin, kNoToken});
    }
  }
  document.pieces = std::move(pieces);
}

/// Puts `prefix` before every piece for which `wanted(piece, text)`.
template <class Wanted>
void prepend_to_pieces(Document& document, std::string_view prefix, Wanted wanted) {
  const auto any = [&](const Piece& piece) {
    return piece.token == kNoToken && wanted(piece, document.view(piece));
  };
  if (std::none_of(document.pieces.begin(), document.pieces.end(), any)) return;
  Rewriter rewriter(document);
  for (const Piece& piece : document.pieces) {
    if (!any(piece)) {
      rewriter.keep(piece);
      continue;
    }
    rewriter.begin(piece);
    rewriter.prepend(prefix);
    rewriter.copy(piece.text.size());
    rewriter.end();
  }
  rewriter.finish();
}

void apply(const SplitStep& step, Document& document) {
  split_pieces(document, step.behavior, step.invert,
               [&](std::string_view text, std::vector<Stretch>& out) {
                 if (step.scanner != nullptr) return step.scanner(text, out);
                 step.pattern.stretches(text, out);
               });
}

void apply(const ByteLevelStep& step, Document& document) {
  if (step.add_prefix_space) {
    prepend_to_pieces(document, " ",
                      [](const Piece&, std::string_view text) { return !text.starts_with(' '); });
  }
  if (step.use_regex) {
    static const SplitScanner scanner = find_scanner(kGpt2Pattern);
    split_pieces(document, SplitBehavior::kIsolated, false, scanner);
  }
  document.byte_level = true;
}

void replace_spaces(Document& document, std::string_view replacement) {
  const auto has_space = [&](const Piece& piece) {
    return piece.token == kNoToken && document.view(piece).find(' ') != std::string_view::npos;
  };
  if (std::none_of(document.pieces.begin(), document.pieces.end(), has_space)) return;
  Rewriter rewriter(document);
  for (const Piece& piece : document.pieces) {
    if (!has_space(piece)) {
      rewriter.keep(piece);
      continue;
    }
    rewriter.begin(piece);
    const std::string_view text = document.view(piece);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t space = std::min(text.find(' ', at), text.size());
      rewriter.copy(static_cast<std::uint32_t>(space - at));
      if (space < text.size()) {
        rewriter.skip_bytes(1);
        rewriter.insert(replacement);
      }
      at = space + 1;
    }
    rewriter.end();
  }
  rewriter.finish();
}

void apply(const MetaspaceStep& step, Document& document) {
  replace_spaces(document, step.replacement);
  if (step.prepend != PrependScheme::kNever) {
    prepend_to_pieces(document, step.replacement, [&](const Piece& piece, std::string_view text) {
      return !text.starts_with(step.replacement) &&
             (step.prepend == PrependScheme::kAlways || piece.origin == 0);
    });
  }
  if (!step.split) return;
  const Pattern pattern = Pattern::literal(step.replacement);
  split_pieces(
      document, SplitBehavior::kMergedWithNext, false,
      [&](std::string_view text, std::vector<Stretch>& out) { pattern.stretches(text, out); });
}

template <class Test>
void split_on(Document& document, SplitBehavior behavior, Test test) {
  split_pieces(document, behavior, false, [&](std::string_view text, std::vector<Stretch>& out) {
    stretches_of(text, test, out);
  });
}

void apply(const DigitsStep& step, Document& document) {
  split_on(document, step.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
           [&](char32_t point) { return numeric_characters().contains(point); });
}

void apply(const PunctuationStep& step, Document& document) {
  split_on(document, step.behavior,
           [](char32_t point) { return punctuation_characters().contains(point); });
}

void apply(const WhitespaceStep&, Document& document) {
  enum class Kind { kSpace, kWord, kOther };
  const auto kind_of = [](char32_t point) {
    if (word_characters().contains(point)) return Kind::kWord;
    return is_white_space(point) ? Kind::kSpace : Kind::kOther;
  };
  const auto find = [&](std::string_view text, std::vector<Stretch>& out) {
    for (std::uint32_t at = 0; at < text.size();) {
      const std::uint32_t begin = at;
      const Kind kind = kind_of(decode_point(text, at).point);
      while (at < text.size() && kind_of(decode_point(text, at).point) == kind) {
        at += decode_point(text, at).length;
      }
      out.push_back({{begin, at}, kind == Kind::kSpace});
    }
  };
  split_pieces(document, SplitBehavior::kRemoved, false, find);
}

void apply(const WhitespaceSplitStep&, Document& document) {
  split_on(document, SplitBehavior::kRemoved, is_white_space);
}

void apply(const BertStep&, Document& document) {
  split_on(document, SplitBehavior::kRemoved, is_white_space);
  split_on(document, SplitBehavior::kIsolated,
           [](char32_t point) { return punctuation_characters().contains(point); });
}

void apply(const CharDelimiterStep& step, Document& document) {
  split_on(document, SplitBehavior::kRemoved,
           [&](char32_t point) { return point == step.delimiter; });
}

void apply(const FixedLengthStep& step, Document& document) {
  const auto find = [&](std::string_view text, std::vector<Stretch>& out) {
    for (std::uint32_t at = 0; at < text.size();) {
      const std::uint32_t begin = at;
      for (std::uint32_t i = 0; i < step.length && at < text.size(); ++i) {
        at += decode_point(text, at).length;
      }
      out.push_back({{begin, at}, false});
    }
  };
  split_pieces(document, SplitBehavior::kIsolated, false, find);
}

}  // namespace

void merge_stretches(const std::vector<Stretch>& stretches, SplitBehavior behavior,
                     std::vector<Stretch>& out) {
  bool previous = false;
  const auto join = [&](const Stretch& stretch) {
    if (behavior == SplitBehavior::kContiguous) return stretch.is_match == previous;
    return stretch.is_match && !previous;
  };
  const auto take = [&](const Stretch& stretch) {
    if (!out.empty() && join(stretch)) {
      if (behavior == SplitBehavior::kMergedWithNext) {
        out.back().span.begin = stretch.span.begin;
      } else {
        out.back().span.end = stretch.span.end;
      }
    } else {
      out.push_back({stretch.span, false});
    }
    previous = stretch.is_match;
  };
  if (behavior == SplitBehavior::kMergedWithNext) {
    std::for_each(stretches.rbegin(), stretches.rend(), take);
    std::reverse(out.begin(), out.end());
  } else {
    std::for_each(stretches.begin(), stretches.end(), take);
  }
}

void write_byte_alphabet(Document& document) {
  if (!document.byte_level) return;
  document.byte_level = false;
  Rewriter rewriter(document);
  for (const Piece& piece : document.pieces) {
    if (piece.token != kNoToken) {
      rewriter.keep(piece);
      continue;
    }
    rewriter.begin(piece);
    const std::string_view text = document.view(piece);
    for (std::size_t at = 0; at < text.size();) {
      const std::uint32_t length = decode_point(text, at).length;
      for (std::uint32_t i = 0; i < length; ++i) {
        rewriter.put(byte_to_character(static_cast<std::uint8_t>(text[at + i])), i > 0 ? 1 : 0);
      }
      at += length;
    }
    rewriter.end();
  }
  rewriter.finish();
}

void pre_tokenize(const std::vector<PreTokenizer>& steps, Document& document) {
  for (const PreTokenizer& step : steps) {
    write_byte_alphabet(document);
    std::visit([&](const auto& kind) { apply(kind, document); }, step);
  }
}

bool asks_for_origin(const std::vector<PreTokenizer>& steps) {
  return std::any_of(steps.begin(), steps.end(), [](const PreTokenizer& step) {
    const auto* metaspace = std::get_if<MetaspaceStep>(&step);
    return metaspace != nullptr && metaspace->prepend == PrependScheme::kFirst;
  });
}

}  // namespace headway::text
