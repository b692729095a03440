// Memory over many frames: resident pages at a fifth of the way and at the end, of 200,000 runs with the null engine.

#include <cstdio>
#include <cstdlib>

#include "session_fixture.hpp"

namespace {

// From smaps_rollup; the kernel books pages in batches, so that a few tens of KiB come and go.
long resident_bytes() {
  std::FILE *file = std::fopen("/proc/self/smaps_rollup", "r");
  char line[256];
  long kilobytes = 0;
  while (file != nullptr && std::fgets(line, sizeof line, file) != nullptr)
    if (std::sscanf(line, "Rss: %ld kB", &kilobytes) == 1) break;
  if (file != nullptr) std::fclose(file);
  return kilobytes * 1024;
}

}  // namespace

int main() {
  const char *given = std::getenv("EDGEAD_TEST_FRAMES");
  const long frames = given != nullptr ? 20L * std::atol(given) : 200'000;
  const maker::Folder folder("edgead-soak");
  maker::make(folder.path() / "b.edgead");
  const Opened opened(folder.path() / "b.edgead");
  const OpenedSession session(opened.model);
  TestFrame frame(96, 64), other(100, 70);
  TestResult out(16 * 24);
  long start = 0;
  for (long i = 0; i < frames; ++i) {
    if (i == frames / 5) start = resident_bytes();
    if (out.run(session.session, (i & 7) != 0 ? frame.image : other.image) != EDGEAD_OK) ++check_failure_count();
  }
  const long grown = resident_bytes() - start;
  std::printf("%ld frames: resident memory grew by %ld bytes after the first fifth (%.4f per frame)\n", frames, grown,
              static_cast<double>(grown) / (0.8 * static_cast<double>(frames)));
  CHECK(start > 0);
  CHECK(grown < frames * 4);  // the smallest leak, one allocation a frame, would be frames * 4 / 5 * 32
  return check_failures();
}
