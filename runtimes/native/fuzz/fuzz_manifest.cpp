// Any text as manifest.json, and as a side-car.

#include <cstdint>
#include <string>

#include "bundle/manifest.hpp"
#include "bundle/sidecar.hpp"
#include "refusal.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  const std::string text(reinterpret_cast<const char *>(data), size);
  may_refuse([&] { edgead::parse_manifest(text, "m"); });
  may_refuse([&] { edgead::parse_sidecar(text, "s", "sha256:" + std::string(64, '0')); });
  return 0;
}
