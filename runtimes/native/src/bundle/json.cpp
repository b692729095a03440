#include "bundle/json.hpp"

#include <algorithm>
#include <cinttypes>

#include "bundle/json_parser.hpp"
#include "bundle/quote.hpp"
#include "error.hpp"

namespace edgead {
namespace {

constexpr std::size_t SHOWN = 80;  // characters of a wrong value in a message

void show(const JsonValue &value, std::string &out) {
  if (out.size() > SHOWN) return;
  char number[40];
  if (std::holds_alternative<std::monostate>(value.data)) {
    out += "null";
  } else if (const bool *flag = std::get_if<bool>(&value.data)) {
    out += *flag ? "true" : "false";
  } else if (const std::int64_t *whole = std::get_if<std::int64_t>(&value.data)) {
    std::snprintf(number, sizeof number, "%" PRId64, *whole);
    out += number;
  } else if (const double *real = std::get_if<double>(&value.data)) {
    std::snprintf(number, sizeof number, "%.17g", *real);
    out += number;
    if (std::string_view(number).find_first_of(".en") == std::string_view::npos) out += ".0";
  } else if (const std::string *text = std::get_if<std::string>(&value.data)) {
    out += in_quotes(*text);
  } else if (const auto *array = std::get_if<std::unique_ptr<JsonValue::Array>>(&value.data)) {
    out += '[';
    for (const JsonValue &item : **array) {
      if (&item != &(*array)->front()) out += ", ";
      show(item, out);
      if (out.size() > SHOWN) return;
    }
    out += ']';
  } else {
    out += "{...}";
  }
}

std::string shown(const JsonValue &value) {
  std::string text;
  show(value, text);
  return text.size() > SHOWN ? text.substr(0, SHOWN - 3) + "..." : text;
}

}  // namespace

JsonValue parse_json(std::string_view text, const std::string &source, std::uint64_t limit) {
  if (text.size() > limit)
    raise(EDGEAD_ERR_BUNDLE, "%s has %zu bytes, more than the limit of %" PRIu64, source.c_str(), text.size(), limit);
  return JsonParser(source).parse(text);
}

void JsonField::wrong(const char *expected) const {
  raise(EDGEAD_ERR_BUNDLE, "%s is %s, must be %s", path_.c_str(), shown(*value_).c_str(), expected);
}

const JsonObject &JsonField::object() const {
  const auto *object = std::get_if<std::unique_ptr<JsonObject>>(&value_->data);
  if (object == nullptr) wrong("an object");
  return **object;
}

JsonField JsonField::at(const char *name) const {
  for (const auto &[key, value] : object().members)
    if (key == name) return {value, below(name), false};
  raise(EDGEAD_ERR_BUNDLE, "%s: the field '%s' is missing", path_.c_str(), name);
}

bool JsonField::has(const char *name) const {
  for (const auto &member : object().members)
    if (member.first == name) return true;
  return false;
}

std::optional<JsonField> JsonField::find(const char *name) const {
  for (const auto &[key, value] : object().members)
    if (key == name && !std::holds_alternative<std::monostate>(value.data)) return JsonField(value, below(name), false);
  return std::nullopt;
}

std::vector<JsonField> JsonField::items() const {
  const auto *array = std::get_if<std::unique_ptr<JsonValue::Array>>(&value_->data);
  if (array == nullptr) wrong("an array");
  std::vector<JsonField> fields;
  fields.reserve((*array)->size());
  for (std::size_t i = 0; i < (*array)->size(); ++i)
    fields.push_back({(**array)[i], path_ + "[" + std::to_string(i) + "]", false});
  return fields;
}

std::vector<JsonField> JsonField::items(std::size_t count) const {
  std::vector<JsonField> fields = items();
  if (fields.size() != count) wrong(("an array of " + std::to_string(count)).c_str());
  return fields;
}

std::vector<std::pair<std::string, JsonField>> JsonField::members() const {
  std::vector<std::pair<std::string, JsonField>> fields;
  for (const auto &[key, value] : object().members)
    fields.emplace_back(key, JsonField(value, below(printable(key)), false));
  return fields;
}

std::int64_t JsonField::integer() const {
  const std::int64_t *whole = std::get_if<std::int64_t>(&value_->data);
  if (whole == nullptr) wrong("an integer");
  return *whole;
}

std::uint32_t JsonField::integer(std::uint32_t least, std::uint32_t most) const {
  const std::int64_t whole = integer();
  if (whole < least || whole > most)
    raise(EDGEAD_ERR_BUNDLE, "%s %" PRId64 " is out of range (%u to %u)", path_.c_str(), whole, least, most);
  return static_cast<std::uint32_t>(whole);
}

double JsonField::number() const {
  if (const std::int64_t *whole = std::get_if<std::int64_t>(&value_->data)) return static_cast<double>(*whole);
  const double *real = std::get_if<double>(&value_->data);
  if (real == nullptr) wrong("a number");
  return *real;
}

bool JsonField::flag() const {
  const bool *flag = std::get_if<bool>(&value_->data);
  if (flag == nullptr) wrong("true or false");
  return *flag;
}

const std::string &JsonField::text() const {
  const std::string *text = std::get_if<std::string>(&value_->data);
  if (text == nullptr) wrong("a string");
  return *text;
}

const std::string &JsonField::one_of(std::initializer_list<const char *> known) const {
  const std::string *text = std::get_if<std::string>(&value_->data);
  if (text != nullptr && std::find(known.begin(), known.end(), *text) != known.end()) return *text;
  std::string expected = "one of ";
  for (const char *name : known) expected += (name == *known.begin() ? "" : ", ") + std::string(name);
  wrong(expected.c_str());
}

void check_schema(const JsonValue &root, std::int64_t known, const std::string &source) {
  const JsonValue *schema = nullptr;
  if (const auto *object = std::get_if<std::unique_ptr<JsonObject>>(&root.data))
    for (const auto &[key, value] : (*object)->members)
      if (key == "schema") schema = &value;
  const std::int64_t *number = schema == nullptr ? nullptr : std::get_if<std::int64_t>(&schema->data);
  if (number == nullptr || *number < 1)
    raise(EDGEAD_ERR_BUNDLE, "%s: schema is %s, must be an integer from 1; this is no edgead file", source.c_str(),
          schema == nullptr ? "missing" : shown(*schema).c_str());
  if (*number > known)
    raise(EDGEAD_ERR_BUNDLE,
          "%s: schema %" PRId64 " was made by a newer edgead; upgrade (this one reads up to %" PRId64 ")",
          source.c_str(), *number, known);
}

}  // namespace edgead
