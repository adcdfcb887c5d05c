// Everything generated from one field list per aggregate: reading from and writing to JSON, docs,
// diff. Goals: one list per struct; every problem of a document reported at once, with its path and
// source. Non-goals: speed, polymorphism, versions. Cross-field rules beyond `divides` stay with
// the structs' owner.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "headway/base/field_types.h"
#include "headway/base/json.h"
#include "headway/base/problems.h"

namespace headway {

/// Reads `json` over the values already in `out` (an absent key keeps its default) and reports
/// every unknown key, missing key, wrong type and forbidden value to `problems`.
template <class T>
void read_fields(const Json& json, const std::string& path, T& out, Problems& problems);

/// The value as JSON, every field present, in list order; an unset optional is null.
template <class T>
Json write_fields(const T& value);

/// Applies the field rules to a value that was made in code.
template <class T>
void check_fields(const T& value, const std::string& path, Problems& problems) {
  T copy = value;
  read_fields(write_fields(value), path, copy, problems);
}

/// One line per field that differs: "train.steps: 300 -> 400".
template <class T>
std::vector<std::string> diff_fields(const T& before, const T& after) {
  return json_diff(write_fields(before), write_fields(after));
}

struct FieldDoc {
  std::string path;     // model.blocks.<name>.attention.window
  std::string allowed;  // an integer >= 1 | none
  std::string preset;   // default value as JSON, "required" without one
  std::string help;
};

/// Every leaf field of T in list order, below `path`.
template <class T>
std::vector<FieldDoc> field_docs(const std::string& path = "");

namespace field_io {

// Each reads one scalar and checks its range; false when it reported a problem.
bool read_scalar(const Json& json, const std::string& path, const Rule& rule, bool& out,
                 Problems& problems);
bool read_scalar(const Json& json, const std::string& path, const Rule& rule, int64_t& out,
                 Problems& problems);
bool read_scalar(const Json& json, const std::string& path, const Rule& rule, double& out,
                 Problems& problems);
bool read_scalar(const Json& json, const std::string& path, const Rule& rule, std::string& out,
                 Problems& problems);
void check_unknown_keys(const Json& json, const std::string& path,
                        const std::vector<std::string>& known, Problems& problems);
/// "text" naming the nearest of `names`, for an enum or a variant key that was not recognised.
void report_unknown_name(const std::string& path, const Json& got, const std::string& allowed,
                         const std::vector<std::string>& names, Problems& problems);

/// Integers of one object by name, and which of them must divide which.
struct DivisorRules {
  std::vector<std::pair<std::string, int64_t>> integers;
  std::vector<std::pair<std::string, std::string>> rules;  // name, name of what it must divide
  void check(const std::string& path, Problems& problems) const;
};

template <class T>
void read_value(const Json& json, const std::string& path, const Rule& rule, T& out,
                Problems& problems);

template <class S>
class ObjectReader {
 public:
  ObjectReader(const Json& json, const std::string& path, S& object, Problems& problems)
      : json_(json), path_(path), object_(object), problems_(problems) {}

  template <class M, class C>
  void field(std::string_view name, M C::*member, std::string_view /*help*/,
             const Rule& rule = {}) {
    known_.emplace_back(name);
    const std::string path = join_path(path_, name);
    const auto found = json_.find(std::string(name));
    if (found != json_.end()) {
      read_value(*found, path, rule, object_.*member, problems_);
    } else if (rule.is_required) {
      problems_.add(path, "missing; allowed " + allowed_text<M>(rule));
    }
    if constexpr (std::is_same_v<M, int64_t>) {
      divisors_.integers.emplace_back(name, object_.*member);
    } else if constexpr (std::is_same_v<M, std::optional<int64_t>>) {
      if (object_.*member) divisors_.integers.emplace_back(name, *(object_.*member));
    }
    if (!rule.divisor_of.empty()) divisors_.rules.emplace_back(name, rule.divisor_of);
  }

  void finish() const {
    check_unknown_keys(json_, path_, known_, problems_);
    divisors_.check(path_, problems_);
  }

 private:
  const Json& json_;
  const std::string& path_;
  S& object_;
  Problems& problems_;
  std::vector<std::string> known_;
  DivisorRules divisors_;
};

template <class T>
void read_aggregate(const Json& json, const std::string& path, T& out, Problems& problems) {
  if constexpr (field_types::WithShorthand<T>) {
    if (json.is_string() || json.is_number() || json.is_boolean()) {
      const Json expanded = {{std::string(T::kShorthand), json}};
      read_aggregate(expanded, path, out, problems);
      return;
    }
  }
  static const Json kEmpty = Json::object();
  if (!json.is_object() && !json.is_null()) {
    problems.add_value(path, json_summary(json), "a mapping");
    return;
  }
  ObjectReader<T> reader(json.is_null() ? kEmpty : json, path, out, problems);
  FieldsOf<T>::visit(reader);
  reader.finish();
}

template <class T>
void read_enum(const Json& json, const std::string& path, T& out, Problems& problems) {
  if (json.is_string()) {
    if (const auto value = enum_parse<T>(json.template get_ref<const std::string&>())) {
      out = *value;
      return;
    }
  }
  std::vector<std::string> names;
  for (const auto& entry : EnumTable<T>::kEntries) names.emplace_back(entry.name);
  std::string allowed = enum_allowed<T>();
  if constexpr (requires { EnumTable<T>::kUnknown; }) {
    allowed += "; " + std::string(EnumTable<T>::kUnknown);
  }
  report_unknown_name(path, json, allowed, names, problems);
}

template <class V, size_t I = 0>
void read_variant(const Json& json, const std::string& path, V& out, Problems& problems) {
  constexpr auto& kNames = VariantNames<V>::kNames;
  static_assert(kNames.size() == std::variant_size_v<V>);
  if constexpr (I == std::variant_size_v<V>) {
    std::vector<std::string> names(kNames.begin(), kNames.end());
    report_unknown_name(path, json, allowed_text<V>({}), names, problems);
  } else {
    const std::string name(kNames[I]);
    if (json.is_object() && json.size() == 1 && json.contains(name)) {
      std::variant_alternative_t<I, V> value{};
      read_value(json.at(name), join_path(path, name), Rule{}, value, problems);
      out = std::move(value);
    } else {
      read_variant<V, I + 1>(json, path, out, problems);
    }
  }
}

template <class T>
void read_list(const Json& json, const std::string& path, const Rule& rule, T& out,
               Problems& problems) {
  using Element = typename T::value_type;
  // One name where a list of names is expected is that one name.
  if (std::is_same_v<Element, std::string> && json.is_string()) {
    return read_list(Json::array({json}), path, rule, out, problems);
  }
  if constexpr (field_types::kIsArray<T>) {
    if (!json.is_array() || json.size() != out.size()) {
      return problems.add_value(path, json_summary(json), allowed_text<T>(rule));
    }
  } else {
    if (!json.is_array() || (rule.is_not_empty && json.empty())) {
      return problems.add_value(path, json_summary(json), allowed_text<T>(rule));
    }
    out.assign(json.size(), Element{});
  }
  Rule element_rule = rule;
  element_rule.is_not_empty = false;
  for (size_t i = 0; i < json.size(); ++i) {
    read_value(json[i], index_path(path, i), element_rule, out[i], problems);
  }
}

template <class T>
void read_map(const Json& json, const std::string& path, const Rule& rule, T& out,
              Problems& problems) {
  if (!json.is_object() || (rule.is_not_empty && json.empty())) {
    return problems.add_value(path, json_summary(json), allowed_text<T>(rule));
  }
  out.clear();
  for (const auto& [key, value] : json.items()) {
    read_value(value, join_path(path, key), rule, out[key], problems);
  }
}

/// Whether the word `none` clears an optional of T; not where it is a value of its own.
template <class T>
constexpr bool none_is_unset() {
  if constexpr (field_types::Enum<T>) {
    return !enum_parse<T>("none").has_value();
  } else {
    return !std::is_same_v<T, std::string>;
  }
}

template <class T>
void read_value(const Json& json, const std::string& path, const Rule& rule, T& out,
                Problems& problems) {
  namespace ft = field_types;
  if constexpr (std::is_same_v<T, Json>) {
    out = json;
  } else if constexpr (ft::kIsOptional<T>) {
    using Value = typename T::value_type;
    const bool none = json.is_string() && json == "none" && none_is_unset<Value>();
    if (json.is_null() || none) {
      out.reset();
    } else {
      if (!out) out.emplace();
      read_value(json, path, rule, *out, problems);
    }
  } else if constexpr (ft::Enum<T>) {
    read_enum(json, path, out, problems);
  } else if constexpr (ft::kIsVector<T> || ft::kIsArray<T>) {
    read_list(json, path, rule, out, problems);
  } else if constexpr (ft::kIsMap<T>) {
    read_map(json, path, rule, out, problems);
  } else if constexpr (ft::kIsVariant<T>) {
    read_variant(json, path, out, problems);
  } else if constexpr (ft::Aggregate<T>) {
    read_aggregate(json, path, out, problems);
  } else {
    read_scalar(json, path, rule, out, problems);
  }
}

}  // namespace field_io

template <class T>
void read_fields(const Json& json, const std::string& path, T& out, Problems& problems) {
  field_io::read_value(json, path, Rule{}, out, problems);
}

}  // namespace headway

#include "headway/base/fields_write.h"  // IWYU pragma: export
