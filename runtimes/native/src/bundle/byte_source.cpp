#include "bundle/byte_source.hpp"

#include <algorithm>

namespace edgead {

bool FileSource::read(std::uint64_t offset, std::uint8_t *out, std::size_t size) {
  if (offset > size_ || size > size_ - offset) return false;
  if (size == 0) return stream_.is_open();
  stream_.clear();
  stream_.seekg(static_cast<std::streamoff>(offset));
  stream_.read(reinterpret_cast<char *>(out), static_cast<std::streamsize>(size));
  return stream_.good();
}

bool MemorySource::read(std::uint64_t offset, std::uint8_t *out, std::size_t size) {
  if (offset > size_ || size > size_ - offset) return false;
  std::copy_n(data_ + offset, size, out);
  return true;
}

}  // namespace edgead
