// JSON that readers could take differently is refused.

#include <cmath>

#include "bundle/json.hpp"
#include "check.hpp"
#include "refused.hpp"

using edgead::JsonField;
using edgead::parse_json;

namespace {

edgead::JsonValue parse(const std::string &text) { return parse_json(text, "m", 1 << 20); }

void refused(const std::string &text, const std::string &message) {
  REFUSED(parse(text), EDGEAD_ERR_BUNDLE, message);
}

std::string repeated(const std::string &text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

void check_refusals() {
  const std::string invalid[] = {
      "",          "\xff{}",        "\xef\xbb\xbf{}",  "{\"schema\": 1",       "[1,]",            "{\"a\":1,}",
      "[1] x",     "[01]",          "[+1]",            "[.5]",                 "[1.]",            "[0x1]",
      "[NaN]",     "[Infinity]",    "[-Infinity]",     "[nan]",                "[1e999]",         "[-1e999]",
      "['a']",     "{a: 1}",        "// c\n[]",        "[\"\\x\"]",            "[\"\\ud800\"]",   "[\"\\udc00\"]",
      "[\"\xff\"]", "[\"\xc0\x80\"]", "[\"\xed\xa0\x80\"]", "[\"\xf4\x90\x80\x80\"]", "[\"\n\"]",  "[\"\t\"]",
      "\f[]",      "[\"a",          "-",               "[1e]",                 std::string("[\0]", 3),
      std::string("[]\0", 3)};
  for (const std::string &text : invalid) refused(text, "m is not valid JSON");
  for (const char *text : {"[\"\\u0000\"]", "[\"\\r\"]", "[\"\\u001b\"]", "[\"\x7f\"]", "[\"\\u007f\"]",
                           "[\"\xc2\x80\"]", "[\"\\u009f\"]", "{\"\\u0007\": 1}", "[\"a\\b\"]"})
    refused(text, "has control characters");
  for (const char *text : {"[9007199254740992]", "[-9007199254740992]", "[99999999999999999999999]",
                           "[-99999999999999999999999]", "[18446744073709551615]"})
    refused(text, "an integer is larger than 2^53 - 1");
  refused("[" + std::string(5000, '9') + "]", "m ");
  refused("{\"a\": 1, \"a\": 1}", "the key 'a' stands twice");
  refused("{\"a\": 1, \"\\u0061\": 1}", "the key 'a' stands twice");
  refused("[{\"b\": 1, \"a\": {}, \"b\": 2}]", "the key 'b' stands twice");
  refused(std::string((1 << 20) + 1, ' '), "m has 1048577 bytes, more than the limit of 1048576");
  refused(repeated("[", 100000), "is nested deeper than 32 levels");
  refused(repeated("[", 33) + "1" + repeated("]", 33), "is nested deeper than 32 levels");
  refused(repeated("{\"a\":", 33) + "1" + repeated("}", 33), "is nested deeper than 32 levels");
  CHECK(std::holds_alternative<std::unique_ptr<edgead::JsonValue::Array>>(
      parse(repeated("[", 32) + "1" + repeated("]", 32)).data));
}

void check_values() {
  const edgead::JsonValue value = parse(R"({"i": -9007199254740991, "z": -0, "r": 0.1, "e": 1E2, "t": "a\t\n\u00a0é",
    "l": [1, [2.5, true]], "n": null, "tiny": 1e-999})");
  const JsonField root(value, "m");
  CHECK(root.at("i").integer() == -9007199254740991);
  CHECK(root.at("i").number() == -9007199254740991.0);
  CHECK_EQ(root.at("z").integer(), 0);
  CHECK(root.at("r").number() == 0.1);
  CHECK(root.at("e").number() == 100);
  CHECK(root.at("tiny").number() == 0);
  CHECK(root.at("t").text() == "a\t\n\xc2\xa0\xc3\xa9");
  CHECK(root.at("n").is_null());
  CHECK_EQ(root.at("l").items().size(), 2);
  CHECK_EQ(root.members().size(), 8);
  REFUSED(root.at("e").integer(), EDGEAD_ERR_BUNDLE, "m: e is 100.0, must be an integer");
  REFUSED(root.at("r").text(), EDGEAD_ERR_BUNDLE, "m: r is 0.1");
  REFUSED(root.at("l").items()[1].items()[1].number(), EDGEAD_ERR_BUNDLE, "m: l[1][1] is true, must be a number");
  REFUSED(root.at("l").integer(), EDGEAD_ERR_BUNDLE, "m: l is [1, [2.5, true]], must be an integer");
  REFUSED(root.at("l").items(3), EDGEAD_ERR_BUNDLE, "must be an array of 3");
  REFUSED(root.at("l").at("x"), EDGEAD_ERR_BUNDLE, "m: l is [1, [2.5, true]], must be an object");
  REFUSED(root.at("x"), EDGEAD_ERR_BUNDLE, "m: the field 'x' is missing");
  REFUSED(root.at("t").one_of({"b", "c"}), EDGEAD_ERR_BUNDLE,
          "m: t is 'a\\x09\\x0a\\xc2\\xa0\\xc3\\xa9', must be one of b, c");
}

void check_schemas() {
  for (const char *text : {"[]", "1", "{}", "{\"schema\": true}", "{\"schema\": 1.0}", "{\"schema\": \"1\"}",
                           "{\"schema\": 0}", "{\"schema\": null}", "{\"schema\": -1}"}) {
    const edgead::JsonValue value = parse(text);
    REFUSED(edgead::check_schema(value, 1, "m"), EDGEAD_ERR_BUNDLE,
            "must be an integer from 1; this is no edgead file");
  }
  const edgead::JsonValue newer = parse("{\"schema\": 99}");
  REFUSED(edgead::check_schema(newer, 1, "m"), EDGEAD_ERR_BUNDLE, "m: schema 99 was made by a newer edgead; upgrade");
}

}  // namespace

int main() {
  check_refusals();
  check_values();
  check_schemas();
  return check_failures();
}
