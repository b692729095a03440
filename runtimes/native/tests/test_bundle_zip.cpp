// The zip form: what its bytes may be.

#include "bundle/bundle.hpp"
#include "bundle_files.hpp"
#include "check.hpp"
#include "refused.hpp"

using edgead::Bundle;

namespace {

std::shared_ptr<const Bundle> open_zip(const std::string &zip) {
  return Bundle::from_zip(reinterpret_cast<const std::uint8_t *>(zip.data()), zip.size(), "z");
}

void refused(const std::string &zip, const std::string &message) {
  REFUSED(open_zip(zip), EDGEAD_ERR_BUNDLE, message);
}

// `value` in place of what stands at `position`.
std::string put(std::string zip, std::size_t position, const std::string &value) {
  return zip.replace(position, value.size(), value);
}

void check_other_tools() {
  std::vector<ZipPart> parts = parts_of(golden_bundle());
  ZipPart folder{"golden/", ""};
  folder.mode = 040755;
  parts.insert(parts.begin() + 3, folder);
  parts[0].extra = std::string("\x55\x54\x05\x00\x01\0\0\0\0", 9);  // a time, as Info-ZIP writes it
  parts[1].mode = 0;                                               // made on Windows
  CHECK(open_zip(zip_parts(parts))->digest() == open_zip(zipped(golden_bundle()))->digest());
  parts[3].name = "../";
  refused(zip_parts(parts), "do not use this bundle");
  parts[3] = {"golden/", "x"};
  refused(zip_parts(parts), "do not use this bundle");
}

void check_damage(const std::string &zip) {
  for (std::size_t length = 0; length < zip.size(); length += length + 30 < zip.size() ? 211 : 1)
    refused(zip.substr(0, length), "");
  // A flipped byte is refused or changes nothing.
  const auto sound = open_zip(zip);
  int kept = 0;
  for (std::size_t position = 0; position < zip.size(); position += 3) {
    std::string flipped = zip;
    flipped[position] = static_cast<char>(flipped[position] ^ 0x10);
    try {
      const auto bundle = open_zip(flipped);
      CHECK(bundle->digest() == sound->digest());
      for (const char *name : {"graph.onnx", "golden/good.png"}) CHECK(bundle->file(name) == sound->file(name));
      ++kept;
    } catch (const edgead::Error &error) {
      CHECK_EQ(error.status, EDGEAD_ERR_BUNDLE);
    }
  }
  CHECK(kept < 200);  // dates, CRCs, versions
}

void check_end(const std::string &zip) {
  const std::size_t end = zip.size() - 22;
  refused("", "neither a folder nor a zip");
  refused("PK\3\4", "is cut off, larger than 2 GiB or no plain zip");
  refused(zip + "x", "is cut off, larger than 2 GiB or no plain zip");
  refused(put(zip, zip.size() - 2, std::string("\1\0", 2)) + "x", "is cut off, larger than 2 GiB or no plain zip");
  refused(put(zip, zip.size() - 2, std::string("\1\0", 2)), "zip64, comment or prefix");
  refused("PK\3\4prefix" + zip.substr(4), "zip64, comment or prefix");
  refused(put(zip, end + 10, "\xff\xff"), "more than 10,000 files");
  refused(zip.substr(0, end) + "PK\6\7" + std::string(16, '\0') + zip.substr(end), "zip64, comment or prefix");
  refused(put(zip, end + 12, "\xff\xff\xff\xff"), "zip64, comment or prefix");
  refused(put(zip, end + 16, "\xff\xff\xff\xff"), "zip64, comment or prefix");
  refused(put(zip, end + 4, u16le(1)), "several parts");
  const std::size_t count = golden_bundle().size();
  refused(put(zip, end + 8, u16le(count + 1) + u16le(count + 1)), "its directory is damaged");
  refused(put(zip, end + 8, u16le(count - 1) + u16le(count - 1)), "its directory is damaged");
}

void check_entries(const std::string &zip) {
  const std::size_t entry = zip.find("PK\1\2");
  refused(put(zip, entry + 8, u16le(1)), "is encrypted");
  refused(put(zip, entry + 10, u16le(8)), "is compressed; a bundle's zip must be stored");
  refused(put(zip, entry + 20, u32le(1)), "is compressed; a bundle's zip must be stored");
  refused(put(zip, entry + 20, std::string(8, '\xff')), "");
  refused(put(zip, entry + 20, u32le(0x7fffffff) + u32le(0x7fffffff)), "");
  refused(put(zip, entry + 28, u16le(0xffff)), "its directory is damaged");
  refused(put(zip, entry + 30, u16le(0xffff)), "its directory is damaged");
  refused(put(zip, entry + 32, u16le(0xffff)), "its directory is damaged");
  refused(put(zip, entry + 42, u32le(0xffffffff)), "an entry lies outside");
  refused(put(zip, entry + 42, u32le(entry - 10)), "an entry lies outside");
  refused(put(zip, entry + 42, u32le(1)), "an entry's header differs from the directory");
  refused(put(zip, 8, u16le(8)), "an entry's header differs from the directory");
  refused(put(zip, 6, u16le(1)), "an entry's header differs from the directory");
  refused(put(zip, 22, u32le(1)), "an entry's header differs from the directory");
  refused(put(zip, 28, u16le(0xffff)), "");
  for (const std::size_t mode : {0120777U, 0010644U, 0020644U, 0040755U}) {
    std::vector<ZipPart> parts = parts_of(golden_bundle());
    parts[4].mode = mode;
    refused(zip_parts(parts), "is encrypted, a link or a special file");
  }
  std::vector<ZipPart> parts = parts_of(golden_bundle());
  parts[4].local_name = std::string(parts[4].name.size(), 'x');
  refused(zip_parts(parts), "an entry's header differs from the directory");
}

void check_overlap() {
  // An entry inside of another one's bytes, with a header of its own.
  const Files files = golden_bundle();
  std::vector<ZipPart> parts = parts_of(files);
  const std::string inner = zip_parts({{"inner", "1234"}});
  parts.push_back({"outer", inner.substr(0, inner.find("PK\1\2"))});
  parts.push_back({"inner", "1234"});
  const std::string zip = zip_parts(parts);
  refused(zip, "not in MANIFEST.sha256");  // sound but for the list
  const std::size_t last = zip.rfind("PK\1\2");
  refused(put(zip, last + 42, u32le(zip.find("PK\3\4", zip.find("outer")))), "its entries overlap");
  // Bytes before the first entry, which another program could read.
  const std::size_t second = zip.find("PK\3\4", 4), directory = zip.find("PK\1\2");
  std::string begun = zip.substr(0, directory) + zip.substr(zip.find("PK\1\2", directory + 4));
  const std::size_t end = begun.size() - 22, count = parts.size() - 1;
  begun = put(begun, end + 8, u16le(count) + u16le(count) + u32le(end - directory));
  CHECK(second > 4);
  refused(begun, "it does not begin with an entry");
}

}  // namespace

int main() {
  const std::string zip = zipped(golden_bundle());
  CHECK(open_zip(zip)->digest().size() == 71);
  check_other_tools();
  check_damage(zip);
  check_end(zip);
  check_entries(zip);
  check_overlap();
  return check_failures();
}
