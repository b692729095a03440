#pragma once
// An opened bundle: every hash checked, the manifest parsed and checked against edgead/bundle/FORMAT.md, and what a
// device needs held in memory, so that the files may go away afterwards.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bundle/manifest.hpp"

namespace edgead {

using Bytes = std::vector<std::uint8_t>;

class Tree;

// RGB pixels of a golden image: exactly the preprocessed image.
struct GoldenPixels {
  std::uint32_t width, height;
  Bytes rgb;  // height * width * 3
};

class Bundle {
 public:
  // A directory or a stored zip at `path` (UTF-8). Throws Error: NOT_FOUND, BUNDLE, OUT_OF_MEMORY.
  static std::shared_ptr<Bundle> open(const std::string &path);

  // A zip in memory, which is not needed afterwards; without a side-car. For tests and fuzzing.
  static std::shared_ptr<const Bundle> from_zip(const std::uint8_t *data, std::size_t size, const std::string &source);

  const std::string &source() const { return source_; }
  const std::string &digest() const { return digest_; }             // "sha256:<hex>" of MANIFEST.sha256
  const Manifest &manifest() const { return manifest_; }
  const std::string &manifest_text() const { return manifest_text_; }
  const std::string &hash_list_text() const { return hash_list_text_; }

  // The bytes of a file that a target, the operator or a golden image names. Throws Error(BUNDLE) for another name.
  const Bytes &file(const std::string &name) const { return *shared_file(name); }
  // The same, for who keeps them beyond forget_files.
  std::shared_ptr<const Bytes> shared_file(const std::string &name) const;
  // Lets go of all files, when engine and kernels have what they need: weights would lie in memory twice.
  void forget_files() noexcept { files_.clear(); }
  // Bands inside the columns, weights finite (checked at open).
  BandedMatrix operator_h() const { return matrix(manifest_.operator_h); }
  BandedMatrix operator_w() const { return matrix(manifest_.operator_w); }
  // A golden PNG, decoded; of the preprocessed image's size (checked at open). And a target's expected map.
  GoldenPixels golden_pixels(const GoldenImage &image) const;
  std::vector<float> golden_map(const GoldenExpectation &expected) const;

  // Thresholds of `target`: those of the side-car beside the bundle where it names the target, else its own. The
  // side-car is read at open. Throws Error(NOT_FOUND) where there is no such target; the message lists them.
  const ThresholdValues &thresholds(const std::string &target) const;
  const TargetEntry &entry(const std::string &target) const;  // throws likewise

 private:
  static std::shared_ptr<Bundle> load(const Tree &tree, const std::string &source);
  void check_content() const;
  BandedMatrix matrix(const OperatorMatrix &described) const;

  std::string source_, digest_, manifest_text_, hash_list_text_;
  Manifest manifest_;
  std::map<std::string, std::shared_ptr<const Bytes>> files_;
  std::map<std::string, ThresholdValues> site_;
};

}  // namespace edgead
