// Any bytes as a bundle's zip. Mutations do not survive the hashes, so that the first byte chooses what is fuzzed:
// 0 the zip as it is; 1 the files of such a zip behind a fresh hash list; 2 and more: one file of the golden bundle
// is the rest of the input, with a fresh hash list (or as the hash list).

#include <cstdint>
#include <iterator>

#include "bundle/bundle.hpp"
#include "bundle/tree.hpp"
#include "bundle_files.hpp"
#include "refusal.hpp"

namespace {

void open_zip(const std::string &zip) {
  may_refuse([&] {
    const auto *bytes = reinterpret_cast<const std::uint8_t *>(zip.data());
    const auto bundle = edgead::Bundle::from_zip(bytes, zip.size(), "z");
    // What was opened can be used.
    for (const edgead::TargetEntry &entry : bundle->manifest().targets)
      for (const std::string &file : entry.files) bundle->file(file);
    bundle->operator_h();
    bundle->operator_w();
    for (const edgead::GoldenImage &image : bundle->manifest().golden) bundle->golden_map(image.expected.at(0));
  });
}

void open_tree(const std::string &zip) {
  Files files;
  may_refuse([&] {
    const auto *bytes = reinterpret_cast<const std::uint8_t *>(zip.data());
    const edgead::Tree tree =
        edgead::Tree::from_zip(std::make_unique<edgead::MemorySource>(bytes, zip.size()), "z");
    for (const auto &[name, size] : tree.sizes())
      tree.read(name, [&, key = name](const std::uint8_t *piece, std::size_t length) {
        files[key].append(piece, piece + length);
      });
  });
  open_zip(zipped(rehashed(files)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  static const Files golden = golden_bundle();
  if (size == 0) return 0;
  const std::string rest(data + 1, data + size);
  if (data[0] == 0) {
    open_zip(rest);
  } else if (data[0] == 1) {
    open_tree(rest);
  } else {
    Files files = golden;
    const auto changed = std::next(files.begin(), data[0] % static_cast<std::ptrdiff_t>(files.size()));
    changed->second = rest;
    open_zip(zipped(changed->first == "MANIFEST.sha256" ? files : rehashed(files)));
  }
  return 0;
}
