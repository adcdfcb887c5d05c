// Alignment bookkeeping shared by all stages.
// Not for: what the stages do.
#include "headway/text/document.h"

#include <utility>

namespace headway::text {

void Document::reset(std::string_view original, bool with_offsets) {
  text = original;
  pieces.clear();
  storage.clear();
  alignment.clear();
  changed = aligned = byte_level = false;
  keep_alignment = with_offsets;
  if (!original.empty()) {
    pieces.push_back({{0, static_cast<std::uint32_t>(original.size())}, 0, kNoToken});
  }
}

Span Document::origin_of(std::uint32_t position) const {
  if (aligned) return alignment[position];
  if (changed) return {};
  std::uint32_t begin = position;
  while ((static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return {begin, begin + decode_point(text, begin).length};
}

std::uint32_t Document::origin_begin(std::uint32_t position) const {
  if (aligned) return alignment[position].begin;
  return changed ? (position == 0 ? 0 : 1) : position;
}

Rewriter::Rewriter(Document& document) : document_(document) {
  text_.reserve(document.text.size() + document.text.size() / 2);
  if (document.keep_alignment) alignment_.reserve(text_.capacity());
  pieces_.reserve(document.pieces.size());
}

void Rewriter::begin(const Piece& piece) {
  piece_ = piece;
  at_ = piece.text.begin;
  start_ = static_cast<std::uint32_t>(text_.size());
}

Span Rewriter::aligned_before() const {
  if (at_ == piece_.text.begin) return {piece_.origin, piece_.origin};
  return document_.origin_of(at_ - 1);
}

void Rewriter::write(char32_t point, Span span) {
  append_point(text_, point);
  if (document_.keep_alignment) alignment_.resize(text_.size(), span);
}

void Rewriter::skip(std::uint32_t count) {
  for (; count > 0 && at_ < piece_.text.end; --count) {
    at_ += decode_point(document_.text, at_).length;
  }
}

void Rewriter::put(char32_t point, int change) {
  Span span;
  const bool more = at_ < piece_.text.end;
  if (document_.keep_alignment) {
    span = change > 0 || !more ? aligned_before() : document_.origin_of(at_);
  }
  write(point, span);
  if (change <= 0) skip(1 + static_cast<std::uint32_t>(-change));
}

void Rewriter::copy(std::uint32_t bytes) {
  text_.append(document_.text, at_, bytes);
  if (document_.keep_alignment) {
    if (document_.aligned) {
      const auto first = document_.alignment.begin() + at_;
      alignment_.insert(alignment_.end(), first, first + bytes);
    } else {
      for (std::uint32_t i = 0; i < bytes;) {
        const std::uint32_t length = decode_point(document_.text, at_ + i).length;
        alignment_.insert(alignment_.end(), length, Span{at_ + i, at_ + i + length});
        i += length;
      }
    }
  }
  at_ += bytes;
}

void Rewriter::insert(std::string_view content) {
  if (document_.keep_alignment) {
    alignment_.resize(alignment_.size() + content.size(), aligned_before());
  }
  text_ += content;
}

void Rewriter::prepend(std::string_view content) {
  if (document_.keep_alignment) {
    alignment_.resize(alignment_.size() + content.size(), document_.origin_of(at_));
  }
  text_ += content;
}

void Rewriter::end() {
  const auto size = static_cast<std::uint32_t>(text_.size());
  if (size == start_) return;
  piece_.text = {start_, size};
  pieces_.push_back(piece_);
}

void Rewriter::keep(const Piece& piece) {
  begin(piece);
  copy(piece.text.size());
  end();
}

void Rewriter::finish() {
  document_.storage = std::move(text_);
  document_.text = document_.storage;
  document_.alignment = std::move(alignment_);
  document_.aligned = document_.keep_alignment;
  document_.changed = true;
  document_.pieces = std::move(pieces_);
}

}  // namespace headway::text
