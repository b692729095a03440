#pragma once
// JSON, strictly: what another language's reader might read differently is refused (edgead/bundle/_codec.py).

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace edgead {

struct JsonObject;

struct JsonValue {
  using Array = std::vector<JsonValue>;

  std::variant<std::monostate, bool, std::int64_t, double, std::string, std::unique_ptr<Array>,
               std::unique_ptr<JsonObject>>
      data;
};

struct JsonObject {
  std::vector<std::pair<std::string, JsonValue>> members;
};

// Throws Error(BUNDLE): more than `limit` bytes, no UTF-8 JSON, double keys, control characters, integers beyond
// +-(2^53 - 1), numbers beyond a double, nested deeper than 32 levels.
JsonValue parse_json(std::string_view text, const std::string &source, std::uint64_t limit);

// One value and where it stands, "source: a.b[2]". The typed getters throw Error(BUNDLE), which names the place,
// where the value is of another type. Both the value and `JsonValue`s below it must outlive the object.
class JsonField {
 public:
  JsonField(const JsonValue &root, const std::string &source) : value_(&root), path_(source), is_root_(true) {}

  const std::string &path() const { return path_; }
  bool is_null() const { return std::holds_alternative<std::monostate>(value_->data); }
  JsonField at(const char *name) const;  // required
  bool has(const char *name) const;
  std::optional<JsonField> find(const char *name) const;  // none where it is missing or null
  std::vector<JsonField> items() const;
  std::vector<JsonField> items(std::size_t count) const;
  std::vector<std::pair<std::string, JsonField>> members() const;
  std::int64_t integer() const;
  std::uint32_t integer(std::uint32_t least, std::uint32_t most) const;
  double number() const;  // integers too
  bool flag() const;
  const std::string &text() const;
  const std::string &one_of(std::initializer_list<const char *> known) const;
  [[noreturn]] void wrong(const char *expected) const;

 private:
  JsonField(const JsonValue &value, std::string path, bool is_root)
      : value_(&value), path_(std::move(path)), is_root_(is_root) {}
  const JsonObject &object() const;
  std::string below(const std::string &name) const { return path_ + (is_root_ ? ": " : ".") + name; }

  const JsonValue *value_;
  std::string path_;
  bool is_root_;
};

// Looks at `schema` before anything else, so that a later format gives the right advice. Throws Error(BUNDLE).
void check_schema(const JsonValue &root, std::int64_t known, const std::string &source);

}  // namespace edgead
