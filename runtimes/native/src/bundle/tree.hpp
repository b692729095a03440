#pragma once
// The files of a bundle, a directory or a stored zip: limits and names are checked before anything is read.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bundle/byte_source.hpp"

namespace edgead {

constexpr const char *MANIFEST_NAME = "manifest.json";
constexpr const char *HASH_LIST_NAME = "MANIFEST.sha256";

constexpr std::size_t MAX_FILES = 10000;
constexpr std::size_t MAX_NAME = 200;
constexpr std::size_t MAX_DEPTH = 8;
constexpr std::uint64_t MAX_TOTAL_BYTES = std::uint64_t{64} << 30;
constexpr std::uint64_t MAX_MANIFEST_BYTES = 16 << 20;
constexpr std::uint64_t MAX_HASH_LIST_BYTES = 4 << 20;

// Why `name` may not stand in a bundle, or nullptr.
const char *name_problem(std::string_view name);
// Checks names one by one and against each other. Throws Error(BUNDLE).
void check_names(const std::vector<std::string> &names, const std::string &source);
// Throws Error(BUNDLE) where the file `name` may not be so large.
void check_size(const std::string &name, std::uint64_t size, const std::string &source);

class Tree {
 public:
  // What lies at `path` (UTF-8). Throws Error: NOT_FOUND, BUNDLE.
  static Tree open(const std::string &path);
  // A zip from anywhere; `source` names it in messages.
  static Tree from_zip(std::unique_ptr<ByteSource> zip, const std::string &source);

  const std::map<std::string, std::uint64_t> &sizes() const { return sizes_; }
  // Hands the bytes of a file that is in `sizes` to `take`, in pieces. Throws Error(BUNDLE) where the file cannot be
  // read as it was listed.
  void read(const std::string &name, const std::function<void(const std::uint8_t *, std::size_t)> &take) const;

 private:
  explicit Tree(std::string source) : source_(std::move(source)) {}

  void list_directory();

  std::string source_;
  std::map<std::string, std::uint64_t> sizes_;
  std::filesystem::path root_;                    // of a directory
  std::unique_ptr<ByteSource> zip_;               // or a zip
  std::map<std::string, std::uint64_t> offsets_;  // in the zip
};

}  // namespace edgead
