#pragma once
// OpenVINO's library, loaded: the table of functions, and what goes with every call of them.

#include <memory>
#include <string>

#include "engines/openvino_c.hpp"

namespace edgead::openvino {

template <typename T>
using Handle = std::unique_ptr<T, void (*)(T *)>;

struct Api {
  Functions call;
  std::string version, path;

  // Throws Error(RUNTIME_MISSING). `library`: a path, or empty.
  explicit Api(const std::string &library);

  // Throws Error(ENGINE), "<what>: <OpenVINO's own message>", unless the status is OK.
  void check(Status status, const std::string &what) const;

  // What `make` puts into its argument, to be freed by `release`.
  template <typename T, typename Make>
  Handle<T> take(void (*release)(T *), const std::string &what, Make &&make) const {
    T *made = nullptr;
    check(make(&made), what);
    return Handle<T>(made, release);
  }

  Handle<const char> last_message() const { return {call.ov_get_last_err_msg(), call.ov_free}; }
};

// ov_element_type_e of this library. Its values differ between releases (U8 is 17 in 2024.6 and 16 in 2026.4), so the
// library is asked: it reads a graph with one input of each type.
struct ElementTypes {
  ElementType u8 = 0, f32 = 0, i32 = 0;

  ElementTypes(const Api &api, const ov_core *core);
  std::string name(ElementType type) const;
};

}  // namespace edgead::openvino
