#pragma once
// Bundles for tests and fuzzing: the files of the golden bundle, changed at will, with a hash list that fits, as a
// folder or as a zip.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "bundle/sha256.hpp"

using Files = std::map<std::string, std::string>;  // name -> content

inline Files read_folder(const std::filesystem::path &root) {
  Files files;
  for (const auto &entry : std::filesystem::recursive_directory_iterator(root)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream stream(entry.path(), std::ios::binary);
    files[entry.path().lexically_relative(root).generic_string()] =
        std::string(std::istreambuf_iterator<char>(stream), {});
  }
  return files;
}

inline Files golden_bundle() { return read_folder(EDGEAD_GOLDEN_BUNDLE); }

// Makes MANIFEST.sha256 anew.
inline Files rehashed(Files files) {
  files.erase("MANIFEST.sha256");
  std::string list;
  for (const auto &[name, content] : files)
    list += edgead::sha256_hex(content.data(), content.size()) + "  " + name + "\n";
  files["MANIFEST.sha256"] = list;
  return files;
}

inline void write_folder(const std::filesystem::path &root, const Files &files) {
  std::filesystem::remove_all(root);
  std::filesystem::create_directories(root);
  for (const auto &[name, content] : files) {
    std::filesystem::create_directories((root / name).parent_path());
    std::ofstream(root / name, std::ios::binary) << content;
  }
}

inline void write_file(const std::filesystem::path &path, const std::string &content) {
  std::ofstream(path, std::ios::binary) << content;
}

inline std::string u16le(std::size_t value) {
  return {static_cast<char>(value & 0xff), static_cast<char>(value >> 8 & 0xff)};
}
inline std::string u32le(std::size_t value) { return u16le(value & 0xffff) + u16le(value >> 16); }

// One entry of a zip; whatever is set wrongly is written wrongly.
struct ZipPart {
  std::string name, content;
  std::size_t flags = 0, method = 0, mode = 0100644;
  std::string local_name{};  // "" = name
  std::string extra{};       // of the local header
};

// CRCs are 0: a bundle's hashes say more.
inline std::string zip_parts(const std::vector<ZipPart> &parts) {
  std::string zip, directory;
  for (const ZipPart &part : parts) {
    const std::string &name = part.local_name.empty() ? part.name : part.local_name;
    const std::size_t begin = zip.size(), size = part.content.size();
    const std::string middle = u16le(part.flags) + u16le(part.method) + u32le(0x00210000) + u32le(0) + u32le(size) +
                               u32le(size);
    zip += "PK\3\4" + u16le(20) + middle + u16le(name.size()) + u16le(part.extra.size()) + name + part.extra;
    zip += part.content;
    directory += "PK\1\2" + u16le(0x0314) + u16le(20) + middle + u16le(part.name.size()) + u16le(0) + u16le(0) +
                 u16le(0) + u16le(0) + u32le(part.mode << 16) + u32le(begin) + part.name;
  }
  return zip + directory + "PK\5\6" + u16le(0) + u16le(0) + u16le(parts.size()) + u16le(parts.size()) +
         u32le(directory.size()) + u32le(zip.size()) + u16le(0);
}

inline std::vector<ZipPart> parts_of(const Files &files) {
  std::vector<ZipPart> parts;
  for (const auto &[name, content] : files) parts.push_back({name, content});
  return parts;
}

inline std::string zipped(const Files &files) { return zip_parts(parts_of(files)); }
