#pragma once
// The directory of a bundle's zip: stored, without zip64, comment, prefix or encryption. Nothing is extracted.

#include <cstdint>
#include <string>
#include <vector>

#include "bundle/byte_source.hpp"

namespace edgead {

struct ZipEntry {
  std::string name;
  std::uint64_t size, offset;  // of the file's bytes
};

// Every file (no folders); names, limits and places are checked. Throws Error(BUNDLE).
std::vector<ZipEntry> list_zip(ByteSource &zip, const std::string &source);

}  // namespace edgead
