// How fields.h sees types: which structs have a field list, which are optional, lists, maps,
// variants. Not for: values; see fields.h.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "headway/base/enum_table.h"
#include "headway/base/field_rule.h"

namespace headway {

/// The field list of S. By default S's own `template <class V> static void fields(V& v)`, which
/// calls `v.field("name", &S::member, "help", rule)` once per field. Specialise for a struct that
/// must not depend on this header.
template <class S>
struct FieldsOf {
  template <class V>
  static void visit(V& visitor) requires requires {
    S::fields(visitor);
  }
  { S::fields(visitor); }
};

/// Specialise with `static constexpr std::array<std::string_view, N> kNames`: the key under which
/// each alternative of a std::variant stands: {"attention": {…}}.
template <class V>
struct VariantNames;

namespace field_types {

struct NullVisitor {
  template <class S, class M>
  void field(std::string_view, M S::*, std::string_view, const Rule& = {}) {}
};

template <class T>
concept Enum = std::is_enum_v<T> && requires {
  EnumTable<T>::kEntries;
};

template <class T>
concept Aggregate = std::is_class_v<T> && requires(NullVisitor& v) {
  FieldsOf<T>::visit(v);
};

/// An aggregate that may be written as one scalar, which is then its field T::kShorthand.
template <class T>
concept WithShorthand = Aggregate<T> && requires {
  { T::kShorthand } -> std::convertible_to<std::string_view>;
};

template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <class T>
inline constexpr bool kIsVector = false;
template <class T>
inline constexpr bool kIsVector<std::vector<T>> = true;
template <class T>
inline constexpr bool kIsArray = false;
template <class T, size_t N>
inline constexpr bool kIsArray<std::array<T, N>> = true;
template <class T>
inline constexpr bool kIsMap = false;
template <class T>
inline constexpr bool kIsMap<std::map<std::string, T>> = true;
template <class T>
inline constexpr bool kIsVariant = false;
template <class... Ts>
inline constexpr bool kIsVariant<std::variant<Ts...>> = true;

}  // namespace field_types

/// "a mapping", "an integer >= 1", "a | b | none": what a field of type T with `rule` may hold.
template <class T>
std::string allowed_text(const Rule& rule) {
  namespace ft = field_types;
  const std::string range = range_text(rule);
  const auto with_range = [&](std::string kind) {
    return range.empty() ? kind : kind + " " + range;
  };
  if constexpr (std::is_same_v<T, bool>) {
    return "true | false";
  } else if constexpr (std::is_same_v<T, int64_t>) {
    if (!rule.divisor_of.empty()) return "a divisor of " + std::string(rule.divisor_of);
    return with_range("an integer");
  } else if constexpr (std::is_same_v<T, double>) {
    return with_range("a number");
  } else if constexpr (std::is_same_v<T, std::string>) {
    std::string names;
    for (const std::string_view name : rule.names) {
      names += (names.empty() ? "" : " | ") + std::string(name);
    }
    return names.empty() ? "text" : names;
  } else if constexpr (ft::Enum<T>) {
    return enum_allowed<T>();
  } else if constexpr (ft::kIsOptional<T>) {
    return allowed_text<typename T::value_type>(rule) + " | none";
  } else if constexpr (ft::kIsVector<T>) {
    return (rule.is_not_empty ? "a list that is not empty, each " : "a list, each ") +
           allowed_text<typename T::value_type>(rule);
  } else if constexpr (ft::kIsArray<T>) {
    return "a list of " + std::to_string(std::tuple_size_v<T>) + ", each " +
           allowed_text<typename T::value_type>(rule);
  } else if constexpr (ft::kIsMap<T>) {
    return "a mapping of names, each to " + allowed_text<typename T::mapped_type>(rule);
  } else if constexpr (ft::kIsVariant<T>) {
    std::string names;
    for (const std::string_view name : VariantNames<T>::kNames) {
      names += (names.empty() ? "" : " | ") + std::string(name);
    }
    return "a mapping with one key of " + names;
  } else {
    return "a mapping";
  }
}

}  // namespace headway
