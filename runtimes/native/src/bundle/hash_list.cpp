#include "bundle/hash_list.hpp"

#include <algorithm>
#include <vector>

#include "bundle/quote.hpp"
#include "bundle/tree.hpp"
#include "error.hpp"

namespace edgead {
namespace {

constexpr std::size_t DIGITS = 64;

}  // namespace

bool is_hash_hex(std::string_view text) {
  return text.size() == DIGITS && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::map<std::string, std::string> parse_hash_list(const std::string &text, const std::string &source) {
  const std::string where = source + ": " + HASH_LIST_NAME;
  std::vector<std::string> names;
  std::map<std::string, std::string> hashes;
  std::size_t begin = 0, number = 1;
  for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1, ++number) {
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (line.size() < DIGITS + 3 || !is_hash_hex(line.substr(0, DIGITS)) || line.substr(DIGITS, 2) != "  ")
      raise(EDGEAD_ERR_BUNDLE, "%s is damaged in line %zu: %s", where.c_str(), number, in_quotes(line).c_str());
    names.emplace_back(line.substr(DIGITS + 2));
    hashes.emplace(names.back(), line.substr(0, DIGITS));
    if (names.size() > MAX_FILES) break;  // check_names says it
  }
  check_names(names, where);
  if (begin != text.size() || text.empty() || !std::is_sorted(names.begin(), names.end()))
    raise(EDGEAD_ERR_BUNDLE, "%s is damaged: cut off or not sorted", where.c_str());
  return hashes;
}

}  // namespace edgead
