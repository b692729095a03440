#pragma once
// A target's `head`: what libedgead does behind an engine that stops at query tensors.

#include <cstdint>
#include <string>

#include "bundle/json.hpp"
#include "bundle/manifest.hpp"

namespace edgead {

// Whether an engine of this name has a windowed search behind it.
bool has_window_search(const std::string &engine) noexcept;

// Throws Error(BUNDLE); `where` stands in messages before the problem. Of `m`, graph and post have been read.
WindowSearch read_window_search(const JsonField &field, const TargetEntry &entry, const Manifest &m,
                                const std::string &where);

// Of the level's bank_file.
std::uint64_t bank_bytes(const WindowSearch &head, const SearchLevel &level) noexcept;

}  // namespace edgead
