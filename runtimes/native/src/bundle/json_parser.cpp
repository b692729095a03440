// The only file that sees nlohmann/json: its lexer and its (iterative) parser call the handler below. It must never
// abort, so its assertions throw.

#include "bundle/json_parser.hpp"

#include "error.hpp"

namespace edgead {
namespace {

[[noreturn]] void json_assertion_failed(const char *what) {
  raise(EDGEAD_ERR_INTERNAL, "internal error in the JSON parser (%s), please report it", what);
}

}  // namespace
}  // namespace edgead

#define JSON_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::edgead::json_assertion_failed(#condition))  // NOLINT
#include <nlohmann/json.hpp>

#include <algorithm>

#include "bundle/quote.hpp"

namespace edgead {
namespace {

constexpr std::int64_t MAX_INTEGER = (std::int64_t{1} << 53) - 1;  // what a double holds exactly
constexpr std::size_t MAX_NESTING = 32;

// C0 without tab and newline, DEL, and C1 (in UTF-8: C2 80 .. C2 9F).
bool has_control_characters(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte < 0x20 && byte != '\t' && byte != '\n') || byte == 0x7f) return true;
    if (byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) return true;
  }
  return false;
}

class Handler {
 public:
  explicit Handler(const std::string &source) : source_(source) {}

  bool null() { return add(std::monostate{}); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(std::int64_t value) { return integer(value, value < -MAX_INTEGER || value > MAX_INTEGER); }
  bool number_unsigned(std::uint64_t value) {
    return integer(static_cast<std::int64_t>(value), value > static_cast<std::uint64_t>(MAX_INTEGER));
  }
  bool number_float(double value, const std::string &text) {
    // An integer beyond 64 bits comes as a float.
    if (text.find_first_of(".eE") == std::string::npos) return integer(0, true);
    return add(value);
  }
  bool string(std::string &text) {
    check_text(text);
    return add(std::move(text));
  }
  bool binary(std::vector<std::uint8_t> &) { return false; }  // not in JSON
  bool start_object(std::size_t) {
    return open(std::make_unique<JsonObject>());
  }
  bool key(std::string &name) {
    check_depth();
    check_text(name);
    top_object()->members.emplace_back();
    top_object()->members.back().first = std::move(name);
    return true;
  }
  bool end_object() {
    std::vector<std::string_view> keys;
    for (const auto &member : top_object()->members) keys.emplace_back(member.first);
    std::sort(keys.begin(), keys.end());
    if (const auto twice = std::adjacent_find(keys.begin(), keys.end()); twice != keys.end())
      raise(EDGEAD_ERR_BUNDLE, "%s is not valid JSON: the key %s stands twice", source_.c_str(),
            in_quotes(*twice).c_str());
    open_.pop_back();
    return true;
  }
  bool start_array(std::size_t) {
    return open(std::make_unique<JsonValue::Array>());
  }
  bool end_array() {
    open_.pop_back();
    return true;
  }
  bool parse_error(std::size_t, const std::string &, const nlohmann::detail::exception &error) {
    const std::string_view text = error.what();
    const std::size_t prefix = text.find("] ");  // [json.exception.parse_error.101]
    raise(EDGEAD_ERR_BUNDLE, "%s is not valid JSON: %s", source_.c_str(),
          printable(prefix == std::string_view::npos ? text : text.substr(prefix + 2)).c_str());
  }

  JsonValue root;

 private:
  std::unique_ptr<JsonObject> &top_object() { return std::get<std::unique_ptr<JsonObject>>(open_.back()->data); }
  void check_depth() const {
    if (open_.size() > MAX_NESTING)
      raise(EDGEAD_ERR_BUNDLE, "%s is nested deeper than %zu levels", source_.c_str(), MAX_NESTING);
  }
  void check_text(const std::string &text) const {
    if (has_control_characters(text))
      raise(EDGEAD_ERR_BUNDLE, "%s: %s has control characters", source_.c_str(), in_quotes(text).c_str());
  }
  bool integer(std::int64_t value, bool too_large) {
    if (too_large) raise(EDGEAD_ERR_BUNDLE, "%s: an integer is larger than 2^53 - 1", source_.c_str());
    return add(value);
  }
  template <typename Data>
  bool add(Data &&data) {
    place().data = std::forward<Data>(data);
    return true;
  }
  template <typename Data>
  bool open(Data &&data) {
    JsonValue &value = place();
    value.data = std::forward<Data>(data);
    open_.push_back(&value);
    return true;
  }
  // Where the next value stands; the reference holds while it is the last of its container.
  JsonValue &place() {
    check_depth();
    if (open_.empty()) return root;
    if (auto *array = std::get_if<std::unique_ptr<JsonValue::Array>>(&open_.back()->data))
      return (*array)->emplace_back();
    return top_object()->members.back().second;
  }

  const std::string &source_;
  std::vector<JsonValue *> open_;  // the containers around what comes next
};

}  // namespace

JsonValue JsonParser::parse(std::string_view text) const {
  // nlohmann skips a byte order mark and takes a NUL for the end; other readers do not.
  if (text.find('\0') != std::string_view::npos)
    raise(EDGEAD_ERR_BUNDLE, "%s is not valid JSON: it has a NUL byte", source_.c_str());
  if (text.substr(0, 3) == "\xef\xbb\xbf")
    raise(EDGEAD_ERR_BUNDLE, "%s is not valid JSON: it begins with a byte order mark", source_.c_str());
  Handler handler(source_);
  try {
    if (nlohmann::json::sax_parse(text.begin(), text.end(), &handler)) return std::move(handler.root);
  } catch (const nlohmann::json::exception &error) {
    raise(EDGEAD_ERR_BUNDLE, "%s is not valid JSON: %s", source_.c_str(), printable(error.what()).c_str());
  }
  raise(EDGEAD_ERR_BUNDLE, "%s is not valid JSON", source_.c_str());
}

}  // namespace edgead
