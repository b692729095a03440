#pragma once
// Checks for the test programs: CHECK(condition) and CHECK_EQ(a, b) report and count; end main with
// `return check_failures();`.

#include <cstdio>

inline int &check_failure_count() {
  static int count = 0;
  return count;
}

inline int check_failures() {
  if (check_failure_count() > 0) std::fprintf(stderr, "%d check(s) failed\n", check_failure_count());
  return check_failure_count() > 0 ? 1 : 0;
}

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      ++check_failure_count();                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);        \
    }                                                                                     \
  } while (0)

#define CHECK_EQ(left, right)                                                                         \
  do {                                                                                                \
    const long long check_left = static_cast<long long>(left);                                        \
    const long long check_right = static_cast<long long>(right);                                      \
    if (check_left != check_right) {                                                                  \
      ++check_failure_count();                                                                        \
      std::fprintf(stderr, "%s:%d: %s = %lld, but %s = %lld\n", __FILE__, __LINE__, #left, check_left, \
                   #right, check_right);                                                              \
    }                                                                                                 \
  } while (0)
