#pragma once
// REFUSED(expression, status, part): the expression throws that Error, and `part` stands in its message.

#include <cstdio>
#include <string>

#include "check.hpp"
#include "error.hpp"

template <typename Body>
void check_refused(const char *file, int line, Body &&body, edgead_status status, const std::string &part) {
  try {
    body();
    std::fprintf(stderr, "%s:%d: not refused; expected: %s\n", file, line, part.c_str());
  } catch (const edgead::Error &error) {
    if (error.status == status && error.message.find(part) != std::string::npos) return;
    std::fprintf(stderr, "%s:%d: status %d, \"%s\"; expected %d and: %s\n", file, line, error.status,
                 error.message.c_str(), status, part.c_str());
  }
  ++check_failure_count();
}

#define REFUSED(expression, status, part) \
  check_refused(__FILE__, __LINE__, [&] { static_cast<void>(expression); }, status, part)
