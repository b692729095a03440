#include "bundle/zip.hpp"

#include <algorithm>

#include "bundle/quote.hpp"
#include "bundle/tree.hpp"
#include "error.hpp"

namespace edgead {
namespace {

// PKWARE APPNOTE 4.3: sizes of the fixed parts, and what they begin with.
constexpr std::size_t END = 22, ENTRY = 46, LOCAL = 30, ZIP64_LOCATOR = 20;
constexpr std::uint32_t END_MAGIC = 0x06054b50, ENTRY_MAGIC = 0x02014b50, LOCAL_MAGIC = 0x04034b50;
constexpr std::uint32_t ZIP64_LOCATOR_MAGIC = 0x07064b50;
constexpr std::uint64_t MAX_ZIP_BYTES = 0x7fffffff;
constexpr std::size_t MAX_ENTRY = ENTRY + MAX_NAME + 128;  // with room for other tools' fields

constexpr std::uint32_t ENCRYPTED = 1 | 1 << 5 | 1 << 6 | 1 << 13;  // or patched, or with masked headers
constexpr std::uint32_t SIZES_FOLLOW = 1 << 3;                      // the local header has none
constexpr std::uint32_t KIND_MASK = 0170000, KIND_FILE = 0100000;   // of a Unix mode

std::uint32_t u16(const std::uint8_t *p) { return static_cast<std::uint32_t>(p[0] | p[1] << 8); }
std::uint32_t u32(const std::uint8_t *p) { return u16(p) | u16(p + 2) << 16; }

struct Found {
  ZipEntry entry;
  std::uint64_t begin, end;  // local header to last byte
};

class Reader {
 public:
  Reader(ByteSource &zip, const std::string &source) : zip_(zip), source_(source) {}

  std::vector<ZipEntry> list();

 private:
  void read_directory();
  std::size_t read_entry(std::size_t position);
  void check_places();
  [[noreturn]] void damaged(const char *what) const {
    raise(EDGEAD_ERR_BUNDLE, "%s is a damaged or unfinished zip: %s; copy it again", source_.c_str(), what);
  }
  [[noreturn]] void overlap() const {
    raise(EDGEAD_ERR_BUNDLE, "%s: its entries overlap; do not use this bundle", source_.c_str());
  }

  ByteSource &zip_;
  const std::string &source_;
  std::vector<std::uint8_t> directory_;
  std::uint64_t directory_begin_ = 0;
  std::uint32_t count_ = 0;
  std::vector<Found> files_, folders_;
};

void Reader::read_directory() {
  std::uint8_t magic[4], end[END];
  const std::uint64_t size = zip_.size();
  if (!zip_.read(0, magic, sizeof magic) || u32(magic) != LOCAL_MAGIC)
    raise(EDGEAD_ERR_BUNDLE, "%s is not an edgead bundle: neither a folder nor a zip", source_.c_str());
  if (size < END || size > MAX_ZIP_BYTES || !zip_.read(size - END, end, END) || u32(end) != END_MAGIC)
    raise(EDGEAD_ERR_BUNDLE, "%s is cut off, larger than 2 GiB or no plain zip; copy it again", source_.c_str());
  const std::uint64_t length = u32(end + 12);
  directory_begin_ = u32(end + 16);
  count_ = u16(end + 10);
  std::uint8_t locator[4];
  const bool zip64 = size >= END + ZIP64_LOCATOR && zip_.read(size - END - ZIP64_LOCATOR, locator, sizeof locator) &&
                     u32(locator) == ZIP64_LOCATOR_MAGIC;
  if (zip64 || u16(end + 20) != 0 || directory_begin_ + length + END != size)
    raise(EDGEAD_ERR_BUNDLE, "%s has data that a bundle's zip may not have (zip64, comment or prefix)",
          source_.c_str());
  if (count_ > 2 * MAX_FILES || length > 2 * MAX_FILES * MAX_ENTRY)
    raise(EDGEAD_ERR_BUNDLE, "%s: more than 10,000 files", source_.c_str());
  if (u16(end + 4) != 0 || u16(end + 6) != 0 || u16(end + 8) != count_) damaged("it has several parts");
  directory_.resize(static_cast<std::size_t>(length));
  if (!zip_.read(directory_begin_, directory_.data(), directory_.size())) damaged("its directory cannot be read");
}

// Returns where the next entry begins.
std::size_t Reader::read_entry(std::size_t position) {
  const std::size_t left = directory_.size() - position;
  const std::uint8_t *p = directory_.data() + position;
  if (left < ENTRY || u32(p) != ENTRY_MAGIC) damaged("its directory is damaged");
  const std::uint32_t flags = u16(p + 8), method = u16(p + 10), packed = u32(p + 20), size = u32(p + 24);
  const std::size_t length = u16(p + 28), whole = ENTRY + length + u16(p + 30) + u16(p + 32);
  if (whole > left) damaged("its directory is damaged");
  std::string name(p + ENTRY, p + ENTRY + length);
  const std::uint32_t kind = u32(p + 38) >> 16 & KIND_MASK;
  const std::uint64_t begin = u32(p + 42);
  // Folder entries, which other tools write, carry nothing; their names are checked as files' are.
  const bool folder = !name.empty() && name.back() == '/' && size == 0 && packed == 0;
  if (const char *problem = name_problem(folder ? std::string_view(name).substr(0, length - 1) : name))
    raise(EDGEAD_ERR_BUNDLE, "%s: the name %s %s; do not use this bundle", source_.c_str(), in_quotes(name).c_str(),
          problem);
  if (!folder && (method != 0 || packed != size))
    raise(EDGEAD_ERR_BUNDLE, "%s: '%s' is compressed; a bundle's zip must be stored", source_.c_str(), name.c_str());
  if (!folder && ((flags & ENCRYPTED) != 0 || (kind != 0 && kind != KIND_FILE)))
    raise(EDGEAD_ERR_BUNDLE, "%s: '%s' is encrypted, a link or a special file", source_.c_str(), name.c_str());
  check_size(name, size, source_);

  std::vector<std::uint8_t> local(LOCAL + length);
  if (begin > directory_begin_ || directory_begin_ - begin < local.size()) damaged("an entry lies outside");
  if (!zip_.read(begin, local.data(), local.size()) || u32(local.data()) != LOCAL_MAGIC ||
      u16(local.data() + 26) != length || !std::equal(name.begin(), name.end(), local.begin() + LOCAL))
    damaged("an entry's header differs from the directory");
  const std::uint8_t *h = local.data();
  if (!folder && (u16(h + 8) != 0 || (u16(h + 6) & ENCRYPTED) != 0 ||
                  ((u16(h + 6) & SIZES_FOLLOW) == 0 && (u32(h + 18) != size || u32(h + 22) != size))))
    damaged("an entry's header differs from the directory");
  const std::uint64_t data = begin + local.size() + u16(h + 28);
  if (data > directory_begin_ || size > directory_begin_ - data) damaged("an entry lies outside");
  (folder ? folders_ : files_).push_back({{std::move(name), size, data}, begin, data + size});
  return position + whole;
}

void Reader::check_places() {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> places;
  for (const std::vector<Found> *group : {&files_, &folders_})
    for (const Found &found : *group) places.emplace_back(found.begin, found.end);
  std::sort(places.begin(), places.end());
  if (places.empty() || places.front().first != 0) damaged("it does not begin with an entry");
  for (std::size_t i = 1; i < places.size(); ++i)
    if (places[i].first < places[i - 1].second) overlap();
}

std::vector<ZipEntry> Reader::list() {
  read_directory();
  std::size_t position = 0;
  for (std::uint32_t i = 0; i < count_; ++i) position = read_entry(position);
  if (position != directory_.size()) damaged("its directory is damaged");
  std::vector<std::string> names;
  for (const Found &found : files_) names.push_back(found.entry.name);
  check_names(names, source_);
  check_places();
  std::vector<ZipEntry> entries;
  for (Found &found : files_) entries.push_back(std::move(found.entry));
  return entries;
}

}  // namespace

std::vector<ZipEntry> list_zip(ByteSource &zip, const std::string &source) { return Reader(zip, source).list(); }

}  // namespace edgead
