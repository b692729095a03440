#pragma once
// MANIFEST.sha256: the hash of every other file, as sha256sum writes it.

#include <map>
#include <string>
#include <string_view>

namespace edgead {

// Name -> 64 hex digits. Throws Error(BUNDLE): a malformed line, an unsafe name, names not sorted or not unique.
std::map<std::string, std::string> parse_hash_list(const std::string &text, const std::string &source);
// 64 lower-case hex digits.
bool is_hash_hex(std::string_view text);

}  // namespace edgead
