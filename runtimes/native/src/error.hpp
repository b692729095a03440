#pragma once
// Failures of the slow paths (opening, planning): thrown inside, turned into status and message by the C shell.
// Hot paths return a status through ErrorSink instead.

#include <new>
#include <string>
#include <utility>

#include "edgead/edgead.h"
#include "status.hpp"

namespace edgead {

struct Error {
  edgead_status status;
  std::string message;
};

// Throws an Error with a message in printf style: what happened, the offending value, what to do.
[[noreturn, gnu::format(printf, 2, 3)]] void raise(edgead_status status, const char *format, ...);

// One exported function: runs `body`, which returns nothing or a status, and lets no exception out.
template <typename Body>
edgead_status guard(const ErrorSink &sink, const char *function, Body &&body) noexcept {
  try {
    if constexpr (std::is_void_v<decltype(body())>) {
      body();
      return EDGEAD_OK;
    } else {
      return body();
    }
  } catch (const Error &error) {
    return sink.fail(error.status, "%s", error.message.c_str());
  } catch (const std::bad_alloc &) {
    return sink.fail(EDGEAD_ERR_OUT_OF_MEMORY, "%s: out of memory", function);
  } catch (...) {
    return sink.fail(EDGEAD_ERR_INTERNAL, "internal error in %s, please report it", function);
  }
}

}  // namespace edgead
