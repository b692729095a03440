// Limits and names first (Tree), then every hash, and only then the manifest.

#include "bundle/bundle.hpp"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstring>
#include <set>
#include <stdexcept>

#include "bundle/hash_list.hpp"
#include "bundle/manifest_head.hpp"
#include "bundle/png.hpp"
#include "bundle/sha256.hpp"
#include "bundle/sidecar.hpp"
#include "bundle/tree.hpp"
#include "error.hpp"

namespace edgead {
namespace {

std::uint32_t little_endian(const std::uint8_t *p) {
  return static_cast<std::uint32_t>(p[0]) | static_cast<std::uint32_t>(p[1]) << 8 |
         static_cast<std::uint32_t>(p[2]) << 16 | static_cast<std::uint32_t>(p[3]) << 24;
}

template <typename Number>
std::vector<Number> numbers(const Bytes &bytes) {
  static_assert(sizeof(Number) == 4);
  std::vector<Number> values(bytes.size() / 4);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint32_t bits = little_endian(bytes.data() + 4 * i);
    std::memcpy(&values[i], &bits, sizeof bits);
  }
  return values;
}

// The bytes are those that were hashed: the file is read once.
template <typename Held>
Held read_hashed(const Tree &tree, const std::string &name, std::string *hash) {
  Sha256 sha;
  Held held;
  held.reserve(static_cast<std::size_t>(tree.sizes().at(name)));
  tree.read(name, [&](const std::uint8_t *data, std::size_t size) {
    sha.update(data, size);
    held.insert(held.end(), data, data + size);
  });
  *hash = sha.hex();
  return held;
}

std::string hash_file(const Tree &tree, const std::string &name) {
  Sha256 sha;
  tree.read(name, [&](const std::uint8_t *data, std::size_t size) { sha.update(data, size); });
  return sha.hex();
}

// At most five of `names`.
std::string some(const std::vector<std::string> &names) {
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < 5; ++i) text += (i > 0 ? ", " : "") + names[i];
  return text;
}

void check_complete(const Tree &tree, const std::map<std::string, std::string> &hashes, const std::string &source) {
  std::vector<std::string> missing, extra;
  for (const auto &[name, hash] : hashes)
    if (name == HASH_LIST_NAME || tree.sizes().count(name) == 0) missing.push_back(name);
  for (const auto &[name, size] : tree.sizes())
    if (name != HASH_LIST_NAME && hashes.count(name) == 0) extra.push_back(name);
  if (!missing.empty())
    raise(EDGEAD_ERR_BUNDLE, "%s: %s missing; copy the bundle again", source.c_str(), some(missing).c_str());
  if (!extra.empty())
    raise(EDGEAD_ERR_BUNDLE, "%s: %s not in %s; remove what does not belong there", source.c_str(),
          some(extra).c_str(), HASH_LIST_NAME);
}

void check_file_sizes(const Manifest &m, const Tree &tree, const std::string &source) {
  std::vector<std::string> missing;
  for (const std::string &name : m.files)
    if (tree.sizes().count(name) == 0) missing.push_back(name);
  if (!missing.empty())
    raise(EDGEAD_ERR_BUNDLE, "%s: %s names %s, which the bundle lacks", source.c_str(), MANIFEST_NAME,
          some(missing).c_str());
  const auto check = [&](const std::string &name, std::uint64_t wanted) {
    if (const std::uint64_t size = tree.sizes().at(name); size != wanted)
      raise(EDGEAD_ERR_BUNDLE, "%s: %s has %" PRIu64 " bytes, its shape asks for %" PRIu64, source.c_str(),
            name.c_str(), size, wanted);
  };
  for (const OperatorMatrix *matrix : {&m.operator_h, &m.operator_w}) {
    check(matrix->start_file, std::uint64_t{4} * matrix->rows);
    check(matrix->weights_file, std::uint64_t{4} * matrix->rows * matrix->band);
  }
  for (const TargetEntry &entry : m.targets) {
    if (entry.bank) {
      check(entry.bank->bank_file, bank_bytes(*entry.bank));
      if (entry.bank->neighbours > 0) check(entry.bank->neighbours_file, neighbours_bytes(*entry.bank));
    }
    if (!entry.head) continue;
    for (const SearchLevel &level : entry.head->levels) check(level.bank_file, bank_bytes(*entry.head, level));
  }
  for (const GoldenImage &image : m.golden)
    for (const GoldenExpectation &expected : image.expected)
      check(expected.map_file, std::uint64_t{4} * m.post.output_height * m.post.output_width);
}

// What a device needs: reports stay outside, and graph.onnx with its data, which may be large, where no target reads it.
std::set<std::string> device_files(const Manifest &m) {
  std::set<std::string> names{m.operator_h.start_file, m.operator_h.weights_file, m.operator_w.start_file,
                              m.operator_w.weights_file};
  for (const TargetEntry &entry : m.targets) names.insert(entry.files.begin(), entry.files.end());
  for (const GoldenImage &image : m.golden) {
    names.insert(image.file);
    for (const GoldenExpectation &expected : image.expected) names.insert(expected.map_file);
  }
  return names;
}

}  // namespace

std::shared_ptr<Bundle> Bundle::open(const std::string &path) {
  try {
    const std::shared_ptr<Bundle> bundle = load(Tree::open(path), path);
    bundle->site_ = read_sidecar(path, bundle->digest_);
    return bundle;
  } catch (const std::bad_alloc &) {
    raise(EDGEAD_ERR_OUT_OF_MEMORY, "no memory to open %s", path.c_str());
  } catch (const std::length_error &) {
    raise(EDGEAD_ERR_OUT_OF_MEMORY, "no memory to open %s", path.c_str());
  } catch (const std::exception &error) {  // a path that is no UTF-8, for instance
    raise(EDGEAD_ERR_BUNDLE, "%s cannot be opened: %s", path.c_str(), error.what());
  }
}

std::shared_ptr<const Bundle> Bundle::from_zip(const std::uint8_t *data, std::size_t size, const std::string &source) {
  return load(Tree::from_zip(std::make_unique<MemorySource>(data, size), source), source);
}

std::shared_ptr<Bundle> Bundle::load(const Tree &tree, const std::string &source) {
  for (const char *name : {HASH_LIST_NAME, MANIFEST_NAME})
    if (tree.sizes().count(name) == 0)
      raise(EDGEAD_ERR_BUNDLE, "%s is not a finished edgead bundle: it has no %s", source.c_str(), name);
  const auto bundle = std::make_shared<Bundle>();
  Bundle &b = *bundle;
  b.source_ = source;
  std::string hash;
  b.hash_list_text_ = read_hashed<std::string>(tree, HASH_LIST_NAME, &hash);
  b.digest_ = "sha256:" + hash;
  const std::map<std::string, std::string> hashes = parse_hash_list(b.hash_list_text_, source);
  check_complete(tree, hashes, source);
  for (const auto &[name, expected] : hashes) {
    if (name == MANIFEST_NAME) {
      b.manifest_text_ = read_hashed<std::string>(tree, name, &hash);
    } else {
      hash = hash_file(tree, name);
    }
    if (hash != expected)
      raise(EDGEAD_ERR_BUNDLE, "%s: %s is damaged, its hash is not the one in %s; copy it again", source.c_str(),
            name.c_str(), HASH_LIST_NAME);
  }
  b.manifest_ = parse_manifest(b.manifest_text_, source + "/" + MANIFEST_NAME);
  check_file_sizes(b.manifest_, tree, source);
  for (const std::string &name : device_files(b.manifest_)) {
    b.files_[name] = std::make_shared<const Bytes>(read_hashed<Bytes>(tree, name, &hash));
    if (hash != hashes.at(name))  // the bundle is not ours alone
      raise(EDGEAD_ERR_BUNDLE, "%s: %s changed while the bundle was opened; open it again", source.c_str(),
            name.c_str());
  }
  b.check_content();
  return bundle;
}

void Bundle::check_content() const {
  for (const OperatorMatrix *described : {&manifest_.operator_h, &manifest_.operator_w}) {
    const BandedMatrix read = matrix(*described);
    const auto last = static_cast<std::int32_t>(read.cols - read.band);
    if (!std::all_of(read.start.begin(), read.start.end(), [&](std::int32_t s) { return s >= 0 && s <= last; }) ||
        !std::all_of(read.weights.begin(), read.weights.end(), [](float weight) { return std::isfinite(weight); }))
      raise(EDGEAD_ERR_BUNDLE, "%s: %s leaves the columns, or its weights are not finite", source_.c_str(),
            described->start_file.c_str());
  }
  for (const GoldenImage &image : manifest_.golden) static_cast<void>(golden_pixels(image));
}

std::shared_ptr<const Bytes> Bundle::shared_file(const std::string &name) const {
  const auto found = files_.find(name);
  if (found == files_.end()) raise(EDGEAD_ERR_BUNDLE, "%s has no file '%s'", source_.c_str(), name.c_str());
  return found->second;
}

BandedMatrix Bundle::matrix(const OperatorMatrix &described) const {
  return {described.rows, described.cols, described.band, numbers<std::int32_t>(file(described.start_file)),
          numbers<float>(file(described.weights_file))};
}

GoldenPixels Bundle::golden_pixels(const GoldenImage &image) const {
  const auto size = manifest_.image_size();
  return {size[1], size[0], decode_png(file(image.file), size[1], size[0], source_ + "/" + image.file)};
}

std::vector<float> Bundle::golden_map(const GoldenExpectation &expected) const {
  return numbers<float>(file(expected.map_file));
}

const TargetEntry &Bundle::entry(const std::string &target) const {
  std::string there;
  for (const TargetEntry &entry : manifest_.targets) {
    if (entry.target == target) return entry;
    there += (there.empty() ? "" : ", ") + entry.target;
  }
  raise(EDGEAD_ERR_NOT_FOUND, "%s has no target %s; there is %s", source_.c_str(), target.c_str(), there.c_str());
}

const ThresholdValues &Bundle::thresholds(const std::string &target) const {
  const TargetEntry &own = entry(target);
  const auto site = site_.find(target);
  return site == site_.end() ? own.thresholds : site->second;
}

}  // namespace edgead
