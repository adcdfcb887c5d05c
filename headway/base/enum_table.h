// One table of names per enum: parsing, printing and error texts all read it.
// Not for: flags or open sets of names.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace headway {

template <class E>
struct EnumEntry {
  E value;
  std::string_view name;
};

/// Specialise with `static constexpr auto kEntries = std::to_array<EnumEntry<E>>({{E::kA, "a"},
/// …});`. The first entry of a value is its canonical name; later entries of the same value are
/// aliases. An optional `static constexpr std::string_view kUnknown` is added to the error for an
/// unknown name.
template <class E>
struct EnumTable;

template <class E>
constexpr std::string_view enum_name(E value) {
  for (const auto& entry : EnumTable<E>::kEntries) {
    if (entry.value == value) return entry.name;
  }
  return "?";
}

template <class E>
constexpr std::optional<E> enum_parse(std::string_view name) {
  for (const auto& entry : EnumTable<E>::kEntries) {
    if (entry.name == name) return entry.value;
  }
  return std::nullopt;
}

/// "a | b | c": what an error message lists as allowed.
template <class E>
std::string enum_allowed() {
  std::string text;
  for (const auto& entry : EnumTable<E>::kEntries) {
    if (!text.empty()) text += " | ";
    text += entry.name;
  }
  return text;
}

}  // namespace headway
