#pragma once
// Bad input may be refused with EDGEAD_ERR_BUNDLE and a message, and end in no other way.

#include <cstdlib>

#include "error.hpp"

template <typename Body>
void may_refuse(Body &&body) {
  try {
    body();
  } catch (const edgead::Error &error) {
    if (error.status != EDGEAD_ERR_BUNDLE || error.message.empty()) std::abort();
  }
}
