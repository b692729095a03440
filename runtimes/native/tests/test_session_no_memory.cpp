// The allocator fails at the n-th call, for every n until open, session and run succeed: each failure is a status,
// nothing is thrown, and what was built is torn down again.

#include <cstdlib>
#include <new>

// GCC sees through these replacements and takes free for the wrong partner of new.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

#include "session_fixture.hpp"

namespace {

long until_failure = -1;  // negative: never

bool fails() { return until_failure >= 0 && until_failure-- == 0; }

}  // namespace

void *operator new(std::size_t size) {
  void *data = fails() ? nullptr : std::malloc(size > 0 ? size : 1);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}
void *operator new(std::size_t size, const std::nothrow_t &) noexcept {
  return fails() ? nullptr : std::malloc(size > 0 ? size : 1);
}
void *operator new(std::size_t size, std::align_val_t alignment) {
  void *data = nullptr;
  if (fails() || posix_memalign(&data, static_cast<std::size_t>(alignment), size) != 0) throw std::bad_alloc();
  return data;
}
void *operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t &) noexcept {
  void *data = nullptr;
  return fails() || posix_memalign(&data, static_cast<std::size_t>(alignment), size) != 0 ? nullptr : data;
}
void operator delete(void *data) noexcept { std::free(data); }
void operator delete(void *data, std::size_t) noexcept { std::free(data); }
void operator delete(void *data, std::align_val_t) noexcept { std::free(data); }
void operator delete(void *data, std::size_t, std::align_val_t) noexcept { std::free(data); }

namespace {

// The whole way with the allocator failing at call n; true where it never got so far.
bool attempt(const char *path, const edgead_image &image, edgead_result &result, long n) {
  char message[512] = "";
  edgead_model *model = nullptr;
  edgead_session *session = nullptr;
  until_failure = n;
  edgead_status status = edgead_model_open(path, nullptr, &model, message, sizeof message);
  if (status == EDGEAD_OK) status = edgead_session_create(model, nullptr, &session, message, sizeof message);
  if (status == EDGEAD_OK) status = edgead_session_run(session, &image, &result, message, sizeof message);
  if (status == EDGEAD_OK) status = edgead_model_reload(model, path, message, sizeof message);
  if (status == EDGEAD_OK) status = edgead_session_run(session, &image, &result, message, sizeof message);
  const bool reached = until_failure < 0;
  until_failure = -1;
  edgead_session_destroy(session);
  edgead_model_close(model);
  if (!reached) {
    CHECK_EQ(status, EDGEAD_OK);
    return true;
  }
  if (status != EDGEAD_ERR_OUT_OF_MEMORY) {
    std::fprintf(stderr, "allocation %ld failed: status %d, %s\n", n, status, message);
    ++check_failure_count();
  }
  return false;
}

}  // namespace

int main() {
  const maker::Folder folder("edgead-memory");
  maker::make(folder.path() / "b.edgead");
  const std::string path = (folder.path() / "b.edgead").string();
  TestFrame frame(64, 64);
  TestResult out(64 * 64);
  out.result.resolution = EDGEAD_RESOLUTION_FRAME;
  long n = 0;
  while (n < 100'000 && !attempt(path.c_str(), frame.image, out.result, n)) ++n;
  std::printf("%ld allocations, each failed once\n", n);
  CHECK(n > 100 && n < 100'000);
  return check_failures();
}
