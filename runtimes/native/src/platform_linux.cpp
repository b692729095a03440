// All that is Linux's own: shared libraries, and the entries of a folder.

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "bundle/folder.hpp"
#include "engines/library.hpp"
#include "error.hpp"

namespace edgead {
namespace {

struct Place {
  std::vector<std::string> files;
  std::string origin;  // whose choice this was, for the message
};

Place place(const LibrarySearch &search) {
  if (!search.path.empty()) return {{search.path}, "the path in the options"};
  const char *given = std::getenv(search.variable);
  if (given != nullptr && *given != '\0') return {{given}, std::string("the environment variable ") + search.variable};
  return {search.names, "the loader's search"};
}

// dlerror names the file first in nearly all messages; a list of files need not say each twice.
std::string reason(const std::string &file) {
  const char *text = ::dlerror();
  const std::string said = text != nullptr ? text : "unknown reason";
  return said.compare(0, file.size(), file) == 0 ? said : file + ": " + said;
}

}  // namespace

Library Library::open(const LibrarySearch &search) {
  const Place where = place(search);
  std::string reasons;
  for (const std::string &file : where.files) {
    // RTLD_NOW: a library that lacks something says so here and not in the middle of a frame.
    if (void *handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return Library(handle, file);
    reasons += (reasons.empty() ? "" : "; ") + reason(file);
  }
  // What to do comes first: the list is long, and the caller's buffer may not be.
  throw Error{EDGEAD_ERR_RUNTIME_MISSING, search.engine + "'s library cannot be opened: " + search.advice +
                                              ". Looked for, by " + where.origin + ": " + reasons};
}

void *Library::symbol(const char *name) const noexcept { return ::dlsym(handle_, name); }

void *Library::required(const char *name, const std::string &needs) const {
  if (void *found = symbol(name)) return found;
  throw Error{EDGEAD_ERR_RUNTIME_MISSING, asked_ + " has no function " + name + "; " + needs};
}

std::string Library::path(const char *symbol_name) const {
  Dl_info info;
  const void *address = symbol(symbol_name);
  if (address == nullptr || ::dladdr(address, &info) == 0 || info.dli_fname == nullptr) return asked_;
  return info.dli_fname;
}

std::vector<FolderEntry> list_folder(const std::string &path, std::size_t most, const std::string &source) {
  const auto failed = [&](int code) {
    raise(EDGEAD_ERR_BUNDLE, "%s cannot be read: %s", source.c_str(), std::strerror(code));
  };
  const auto close = [](DIR *folder) { ::closedir(folder); };
  const std::unique_ptr<DIR, decltype(close)> folder(::opendir(path.c_str()), close);
  if (!folder) failed(errno);
  std::vector<FolderEntry> entries;
  for (;;) {
    errno = 0;
    const dirent *entry = ::readdir(folder.get());
    if (entry == nullptr) {
      if (errno != 0) failed(errno);
      return entries;
    }
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    struct stat status;
    if (::fstatat(::dirfd(folder.get()), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) failed(errno);
    using Kind = FolderEntry::Kind;
    const Kind kind = S_ISREG(status.st_mode) ? Kind::file : S_ISDIR(status.st_mode) ? Kind::folder : Kind::other;
    entries.push_back({entry->d_name, kind, static_cast<std::uint64_t>(status.st_size)});
    if (entries.size() > most) return entries;
  }
}

}  // namespace edgead
