#pragma once
// Memory that a plan owns: 64-byte aligned, zeroed, taken once at create. Not for kernel files.

#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

namespace edgead {

template <typename T>
class Buffer {
 public:
  Buffer() noexcept = default;
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  ~Buffer() { ::operator delete(data_, std::align_val_t{64}); }

  // False where there is no memory; n = 0 is one element.
  [[nodiscard]] bool allocate(std::size_t n) noexcept {
    const std::size_t bytes = (n > 0 ? n : 1) * sizeof(T);
    void *fresh = ::operator new(bytes, std::align_val_t{64}, std::nothrow);
    if (fresh == nullptr) return false;
    std::memset(fresh, 0, bytes);
    ::operator delete(std::exchange(data_, static_cast<T *>(fresh)), std::align_val_t{64});
    return true;
  }

  T *data() noexcept { return data_; }
  const T *data() const noexcept { return data_; }
  T &operator[](std::size_t i) noexcept { return data_[i]; }
  const T &operator[](std::size_t i) const noexcept { return data_[i]; }

 private:
  static_assert(std::is_trivial_v<T>, "only zeroed, never constructed");
  T *data_ = nullptr;
};

}  // namespace edgead
