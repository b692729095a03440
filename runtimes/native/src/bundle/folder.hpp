#pragma once
// What lies in a folder. std::filesystem would do, but libstdc++ ends the program where its iterator gets no memory.

#include <cstdint>
#include <string>
#include <vector>

namespace edgead {

struct FolderEntry {
  enum class Kind { file, folder, other };  // other: a link, a device, a socket
  std::string name;                         // UTF-8
  Kind kind;
  std::uint64_t size;  // bytes, of a file
};

// The entries of the folder at `path` (UTF-8), links not followed, in no order; one more than `most` where there are
// more. Throws Error(BUNDLE), which names `source`.
std::vector<FolderEntry> list_folder(const std::string &path, std::size_t most, const std::string &source);

}  // namespace edgead
