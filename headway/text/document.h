// A text on its way through the stages of a tokenizer: what it reads now, in which pieces, and
// where every byte of it came from. Not for: deciding how to change or cut it (normalizer.h,
// pre_tokenizer.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "headway/text/unicode.h"

namespace headway::text {

/// Half-open range of bytes.
struct Span {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  std::uint32_t size() const { return end - begin; }
  bool operator==(const Span&) const = default;
};

constexpr std::uint32_t kNoToken = 0xFFFFFFFFu;

/// A part of Document::text that the model sees on its own, or an added token.
struct Piece {
  Span text;
  std::uint32_t origin = 0;  // first byte in the original
  std::uint32_t token = kNoToken;
};

/// Every byte of `text` stands for a range of bytes of the original, whole characters: its
/// alignment. As long as no stage has changed anything, text is the original and no alignment is
/// stored. `text` is well-formed UTF-8 at every moment.
struct Document {
  std::string_view text;
  std::vector<Piece> pieces;
  std::string storage;          // holds text once a stage has changed it
  std::vector<Span> alignment;  // one per byte of text, if `aligned`
  bool changed = false;         // text is not the original
  bool aligned = false;         // alignment is kept
  bool keep_alignment = true;   // false: nobody will ask for offsets
  bool byte_level = false;      // every byte of text stands for its character of byte_alphabet.h

  void reset(std::string_view original, bool with_offsets);
  std::string_view view(const Piece& piece) const {
    return text.substr(piece.text.begin, piece.text.size());
  }
  /// Where the byte at `position` came from.
  Span origin_of(std::uint32_t position) const;
  /// The first original byte of the text that begins at `position`.
  std::uint32_t origin_begin(std::uint32_t position) const;
};

/// Builds the next text of a document piece by piece, and its alignment by the rule of the
/// reference library: a character either replaces one (and takes its alignment), or is new (and
/// takes that of the byte before), or replaces one and swallows some that follow.
class Rewriter {
 public:
  explicit Rewriter(Document& document);

  /// Starts on `piece`. Every piece is begun and ended once, in order.
  void begin(const Piece& piece);
  /// Passes over the next `count` characters, which are removed.
  void skip(std::uint32_t count);
  void skip_bytes(std::uint32_t bytes) { at_ += bytes; }
  /// `change` > 0: a new character; 0: replaces the next one; -n: and swallows n more.
  void put(char32_t point, int change);
  /// The next `bytes` (whole characters) stay as they are.
  void copy(std::uint32_t bytes);
  /// A new character in place of removed ones: aligned with the last byte removed, or if nothing
  /// was removed with the last byte written.
  void insert(std::string_view content);
  /// Writes `content` before the piece's first character, aligned with it. The piece is not empty.
  void prepend(std::string_view content);
  /// Ends the piece; empty ones are dropped.
  void end();
  /// Copies a piece that is an added token.
  void keep(const Piece& piece);
  /// Hands the result to the document.
  void finish();

  std::uint32_t position() const { return at_; }

 private:
  Span aligned_before() const;
  void write(char32_t point, Span span);

  Document& document_;
  std::string text_;
  std::vector<Span> alignment_;
  std::vector<Piece> pieces_;
  Piece piece_;
  std::uint32_t at_ = 0;     // next byte of the old text
  std::uint32_t start_ = 0;  // of the piece in the new text
};

}  // namespace headway::text
