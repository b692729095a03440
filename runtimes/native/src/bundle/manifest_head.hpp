#pragma once
// A target's `head`: what libedgead does behind an engine that stops at query tensors.

#include <cstdint>
#include <string>

#include "bundle/json.hpp"
#include "bundle/manifest.hpp"

namespace edgead {

// Whether an engine's name ends with a head's suffix, such as WINDOW_SEARCH_SUFFIX.
bool has_head(const std::string &engine, const char *suffix) noexcept;

// Throws Error(BUNDLE); `where` stands in messages before the problem. Of `m`, graph and post have been read.
WindowSearch read_window_search(const JsonField &field, const TargetEntry &entry, const Manifest &m,
                                const std::string &where);
BankSearch read_bank_search(const JsonField &field, const TargetEntry &entry, const Manifest &m,
                            const std::string &where);

// Of the level's bank_file.
std::uint64_t bank_bytes(const WindowSearch &head, const SearchLevel &level) noexcept;
// Of bank_file and neighbours_file.
std::uint64_t bank_bytes(const BankSearch &head) noexcept;
std::uint64_t neighbours_bytes(const BankSearch &head) noexcept;

}  // namespace edgead
