// The writing half of fields.h: values to JSON, and the listing of every field for docs and help.
// Not to be included directly.
#pragma once

#include "headway/base/fields.h"

namespace headway {
namespace field_io {

template <class T>
Json write_value(const T& value);

template <class S>
struct ObjectWriter {
  const S& object;
  Json json = Json::object();

  template <class M, class C>
  void field(std::string_view name, M C::*member, std::string_view /*help*/, const Rule& = {}) {
    json[std::string(name)] = write_value(object.*member);
  }
};

template <class T>
Json write_value(const T& value) {
  namespace ft = field_types;
  if constexpr (ft::kIsOptional<T>) {
    return value ? write_value(*value) : Json(nullptr);
  } else if constexpr (ft::Enum<T>) {
    return Json(std::string(enum_name(value)));
  } else if constexpr (ft::kIsVector<T> || ft::kIsArray<T>) {
    Json list = Json::array();
    for (const auto& element : value) list.push_back(write_value(element));
    return list;
  } else if constexpr (ft::kIsMap<T>) {
    Json map = Json::object();
    for (const auto& [key, element] : value) map[key] = write_value(element);
    return map;
  } else if constexpr (ft::kIsVariant<T>) {
    const std::string name(VariantNames<T>::kNames[value.index()]);
    return std::visit([&](const auto& held) { return Json{{name, write_value(held)}}; }, value);
  } else if constexpr (ft::Aggregate<T>) {
    ObjectWriter<T> writer{value};
    FieldsOf<T>::visit(writer);
    return std::move(writer.json);
  } else {
    return Json(value);
  }
}

template <class T>
void list_docs(const T& preset, FieldDoc doc, const Rule& rule, std::vector<FieldDoc>& docs);

template <class S>
struct DocLister {
  const std::string& path;
  const S& preset;
  std::vector<FieldDoc>& docs;

  template <class M, class C>
  void field(std::string_view name, M C::*member, std::string_view help, const Rule& rule = {}) {
    FieldDoc doc;
    doc.path = join_path(path, name);
    doc.help = help;
    list_docs(preset.*member, std::move(doc), rule, docs);
  }
};

template <class T>
void list_docs(const T& preset, FieldDoc doc, const Rule& rule, std::vector<FieldDoc>& docs) {
  namespace ft = field_types;
  if constexpr (ft::Aggregate<T>) {
    DocLister<T> lister{doc.path, preset, docs};
    FieldsOf<T>::visit(lister);
    return;
  } else if constexpr (ft::kIsMap<T>) {
    if constexpr (ft::Aggregate<typename T::mapped_type>) {
      doc.path += ".<name>";
      return list_docs(typename T::mapped_type{}, std::move(doc), rule, docs);
    }
  } else if constexpr (ft::kIsOptional<T>) {
    if constexpr (ft::Aggregate<typename T::value_type>) {
      return list_docs(preset.value_or(typename T::value_type{}), std::move(doc), rule, docs);
    }
  }
  doc.allowed = allowed_text<T>(rule);
  doc.preset = rule.is_required ? "required" : write_value(preset).dump();
  docs.push_back(std::move(doc));
}

}  // namespace field_io

template <class T>
Json write_fields(const T& value) {
  return field_io::write_value(value);
}

template <class T>
std::vector<FieldDoc> field_docs(const std::string& path) {
  std::vector<FieldDoc> docs;
  field_io::list_docs(T{}, FieldDoc{path, {}, {}, {}}, Rule{}, docs);
  return docs;
}

}  // namespace headway
