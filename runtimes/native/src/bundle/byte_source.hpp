#pragma once
// Bytes that are read by offset: a file, or memory (tests, fuzzing).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>

namespace edgead {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual std::uint64_t size() const = 0;
  // False where the bytes cannot be read, or are not there.
  virtual bool read(std::uint64_t offset, std::uint8_t *out, std::size_t size) = 0;
};

class FileSource : public ByteSource {
 public:
  FileSource(const std::filesystem::path &path, std::uint64_t size) : stream_(path, std::ios::binary), size_(size) {}

  std::uint64_t size() const override { return size_; }
  bool read(std::uint64_t offset, std::uint8_t *out, std::size_t size) override;

 private:
  std::ifstream stream_;
  std::uint64_t size_;
};

// The memory must outlive the object.
class MemorySource : public ByteSource {
 public:
  MemorySource(const std::uint8_t *data, std::size_t size) : data_(data), size_(size) {}

  std::uint64_t size() const override { return size_; }
  bool read(std::uint64_t offset, std::uint8_t *out, std::size_t size) override;

 private:
  const std::uint8_t *data_;
  std::size_t size_;
};

}  // namespace edgead
