#include "bundle/tree.hpp"

#include <algorithm>
#include <cinttypes>
#include <system_error>

#include "bundle/folder.hpp"
#include "bundle/quote.hpp"
#include "bundle/zip.hpp"
#include "error.hpp"

namespace edgead {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t CHUNK = 256 << 10;

// Not <cctype>: those functions follow the locale.
bool letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

bool part_is_plain(std::string_view part) {
  if (part.empty() || part.back() == '.' || !(letter_or_digit(part[0]) || part[0] == '_')) return false;
  return std::all_of(part.begin(), part.end(), [](char c) {
    return letter_or_digit(c) || c == '.' || c == '_' || c == '+' || c == '-';
  });
}

// Names are ASCII once they were checked.
std::string lower(std::string name) {
  for (char &c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return name;
}

[[noreturn]] void unreadable(const std::string &source, const std::error_code &error) {
  raise(EDGEAD_ERR_BUNDLE, "%s cannot be read: %s", source.c_str(), error.message().c_str());
}

}  // namespace

const char *name_problem(std::string_view name) {
  if (name.size() > MAX_NAME || std::count(name.begin(), name.end(), '/') >= static_cast<std::ptrdiff_t>(MAX_DEPTH))
    return "is longer than 200 characters or deeper than 8 parts";
  for (std::size_t begin = 0;;) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    if (!part_is_plain(name.substr(begin, end - begin)))
      return "is not a plain relative name (letters, digits and . _ + - between slashes)";
    if (end == name.size()) return nullptr;
    begin = end + 1;
  }
}

void check_names(const std::vector<std::string> &names, const std::string &source) {
  if (names.size() > MAX_FILES) raise(EDGEAD_ERR_BUNDLE, "%s: more than 10,000 files", source.c_str());
  std::map<std::string, std::string> seen;
  for (const std::string &name : names) {
    if (const char *problem = name_problem(name))
      raise(EDGEAD_ERR_BUNDLE, "%s: the name %s %s; do not use this bundle", source.c_str(), in_quotes(name).c_str(),
            problem);
    const auto [place, fresh] = seen.emplace(lower(name), name);
    if (!fresh)
      raise(EDGEAD_ERR_BUNDLE, "%s: '%s' and '%s' are the same file on some systems", source.c_str(), name.c_str(),
            place->second.c_str());
  }
  for (const auto &[key, name] : seen)
    for (std::size_t slash = key.find('/'); slash != std::string::npos; slash = key.find('/', slash + 1))
      if (const auto folder = seen.find(key.substr(0, slash)); folder != seen.end())
        raise(EDGEAD_ERR_BUNDLE, "%s: '%s' is both a file and the folder of '%s'", source.c_str(),
              folder->second.c_str(), name.c_str());
}

void check_size(const std::string &name, std::uint64_t size, const std::string &source) {
  const std::uint64_t limit = name == MANIFEST_NAME    ? MAX_MANIFEST_BYTES
                              : name == HASH_LIST_NAME ? MAX_HASH_LIST_BYTES
                                                       : MAX_TOTAL_BYTES;
  if (size > limit)
    raise(EDGEAD_ERR_BUNDLE, "%s: %s has %" PRIu64 " bytes, more than the limit of %" PRIu64, source.c_str(),
          printable(name).c_str(), size, limit);
}

Tree Tree::open(const std::string &path) {
  Tree tree(path);
  tree.root_ = fs::u8path(path);
  std::error_code error;
  const fs::file_status status = fs::status(tree.root_, error);
  if (status.type() == fs::file_type::not_found)
    raise(EDGEAD_ERR_NOT_FOUND, "there is no bundle at %s", path.c_str());
  if (status.type() == fs::file_type::none) unreadable(path, error);
  if (fs::is_directory(status)) {
    tree.list_directory();
    return tree;
  }
  if (!fs::is_regular_file(status)) raise(EDGEAD_ERR_BUNDLE, "%s is neither a folder nor a file", path.c_str());
  const std::uintmax_t size = fs::file_size(tree.root_, error);
  if (error) unreadable(path, error);
  return from_zip(std::make_unique<FileSource>(tree.root_, size), path);
}

Tree Tree::from_zip(std::unique_ptr<ByteSource> zip, const std::string &source) {
  Tree tree(source);
  tree.zip_ = std::move(zip);
  for (ZipEntry &entry : list_zip(*tree.zip_, source)) {
    tree.sizes_.emplace(entry.name, entry.size);
    tree.offsets_.emplace(std::move(entry.name), entry.offset);
  }
  return tree;
}

void Tree::list_directory() {
  std::vector<std::string> pending{""}, names;
  std::size_t found = 0;
  std::uint64_t total = 0;
  while (!pending.empty()) {
    const std::string folder = std::move(pending.back());
    pending.pop_back();
    for (const FolderEntry &entry : list_folder((root_ / fs::u8path(folder)).u8string(), 2 * MAX_FILES, source_)) {
      if (++found > 2 * MAX_FILES) raise(EDGEAD_ERR_BUNDLE, "%s: more than 10,000 files", source_.c_str());
      const std::string name = (folder.empty() ? "" : folder + "/") + entry.name;
      if (entry.kind == FolderEntry::Kind::file) {
        check_size(name, entry.size, source_);
        total += entry.size;  // at most 20,000 * 64 GiB: no overflow
        sizes_.emplace(name, entry.size);
        names.push_back(name);
      } else if (entry.kind == FolderEntry::Kind::other) {
        raise(EDGEAD_ERR_BUNDLE, "%s: %s is a link or a special file; a bundle has only files", source_.c_str(),
              in_quotes(name).c_str());
      } else if (const char *problem = name_problem(name)) {
        raise(EDGEAD_ERR_BUNDLE, "%s: the folder %s %s; do not use this bundle", source_.c_str(), in_quotes(name).c_str(),
              problem);
      } else {
        pending.push_back(name);
      }
    }
  }
  check_names(names, source_);
  if (total > MAX_TOTAL_BYTES)
    raise(EDGEAD_ERR_BUNDLE, "%s: %" PRIu64 " bytes in all, more than the limit of %" PRIu64, source_.c_str(), total,
          MAX_TOTAL_BYTES);
}

void Tree::read(const std::string &name,
                const std::function<void(const std::uint8_t *, std::size_t)> &take) const {
  const std::uint64_t size = sizes_.at(name);
  std::unique_ptr<ByteSource> file;
  if (!zip_) file = std::make_unique<FileSource>(root_ / name, size);
  ByteSource &source = zip_ ? *zip_ : *file;
  const std::uint64_t begin = zip_ ? offsets_.at(name) : 0;
  std::vector<std::uint8_t> chunk(static_cast<std::size_t>(std::min<std::uint64_t>(size, CHUNK)));
  for (std::uint64_t done = 0;;) {
    const std::size_t now = static_cast<std::size_t>(std::min<std::uint64_t>(size - done, CHUNK));
    if (!source.read(begin + done, chunk.data(), now))
      raise(EDGEAD_ERR_BUNDLE, "%s: %s cannot be read; copy the bundle again", source_.c_str(), name.c_str());
    take(chunk.data(), now);
    done += now;
    if (done == size) return;
  }
}

}  // namespace edgead
