// What may lie in a bundle's tree: every refusal of FORMAT.md's section "Tree", as a folder and as a zip.

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "bundle/bundle.hpp"
#include "bundle/hash_list.hpp"
#include "bundle/tree.hpp"
#include "bundle_files.hpp"
#include "check.hpp"
#include "refused.hpp"

namespace fs = std::filesystem;
using edgead::Bundle;

namespace {

const fs::path folder = fs::path(EDGEAD_SCRATCH) / "folder.edgead";

void refused_folder(const Files &files, const std::string &message) {
  write_folder(folder, files);
  REFUSED(Bundle::open(folder.u8string()), EDGEAD_ERR_BUNDLE, message);
}

void refused_zip(const std::string &zip, const std::string &message) {
  REFUSED(Bundle::from_zip(reinterpret_cast<const std::uint8_t *>(zip.data()), zip.size(), "z"), EDGEAD_ERR_BUNDLE,
          message);
}

void refused_both(const Files &files, const std::string &message) {
  refused_folder(files, message);
  refused_zip(zipped(files), message);
}

void check_names() {
  const std::string sound[] = {"a", "A_b/c.d+e-f", "_x", "0", "a/b/c/d/e/f/g/h", std::string(200, 'x')};
  for (const std::string &name : sound) CHECK(edgead::name_problem(name) == nullptr);
  const std::string unsafe[] = {"../evil", "golden/../../evil", "/etc/evil", "C:/evil", "C:evil",  "a\\..\\evil",
                                "./evil",  "a//b",              "",          ".hidden", "\xc3\xa9", "a/",
                                "../",     "-o",                "a b",       "dot.",    "a./b",    "new\nline",
                                "a/b/c/d/e/f/g/h/i", "..",      std::string(201, 'x'), std::string("nul\0byte", 8)};
  for (const std::string &name : unsafe) {
    CHECK(edgead::name_problem(name) != nullptr);
    std::vector<ZipPart> parts = parts_of(golden_bundle());
    parts.push_back({name, "evil"});
    refused_zip(zip_parts(parts), "do not use this bundle");
  }
  for (const char *name : {"a b", "back\\slash", "c:", "-rf", "dot.", "\xc3\xbcn\xc3\xaf", "new\nline", "\xff",
                           "a/b/c/d/e/f/g/h/i", ".hidden/x"}) {
    Files files = golden_bundle();
    files[name] = "x";
    refused_folder(files, "do not use this bundle");
  }
  Files files = golden_bundle();
  files["GRAPH.onnx"] = "x";
  refused_both(rehashed(files), "are the same file on some systems");
  std::vector<ZipPart> parts = parts_of(golden_bundle());
  parts.push_back({"graph.onnx", "other"});
  refused_zip(zip_parts(parts), "'graph.onnx' and 'graph.onnx' are the same file");
  parts.back() = {"graph.onnx/x", ""};
  refused_zip(zip_parts(parts), "'graph.onnx' is both a file and the folder of 'graph.onnx/x'");
}

void check_hashes() {
  const Files sound = golden_bundle();
  for (const auto &[name, content] : sound) {
    Files files = sound;
    files[name][content.size() / 2] = static_cast<char>(files[name][content.size() / 2] ^ 0x10);
    refused_both(files, name == "MANIFEST.sha256" ? "" : name + " is damaged");
    files[name] = content.substr(0, content.size() - 1);
    refused_both(files, name);
    files.erase(name);
    const bool needed = name == "MANIFEST.sha256" || name == "manifest.json";
    refused_both(files, needed ? "it has no " + name : name + " missing");
  }
  for (const char *name : {"Thumbs.db", "targets/model.xml", "golden/extra.png"}) {
    Files files = sound;
    files[name] = "x";
    refused_both(files, std::string(name) + " not in MANIFEST.sha256");
  }
  // Hashes come before the manifest: a damaged one is not parsed.
  Files files = sound;
  files["manifest.json"] = "{";
  refused_both(files, "manifest.json is damaged");
  refused_both(rehashed(files), "manifest.json is not valid JSON");
  // A list that lists itself.
  files = sound;
  files["MANIFEST.sha256"] = std::string(64, '0') + "  MANIFEST.sha256\n" + files["MANIFEST.sha256"];
  refused_both(files, "MANIFEST.sha256 missing");
  const std::string zeros(64, '0');
  for (const std::string &list :
       {std::string("\n"), std::string("x"), zeros + "  a", zeros + " *a\n", zeros + "  a\r\n", zeros + "  ../a\n",
        zeros + "  b\n" + zeros + "  a\n", zeros + "  a\n" + zeros + "  a\n", std::string(64, 'A') + "  a\n",
        std::string(), zeros + "  \n", zeros.substr(1) + "  a\n", zeros + "  \xc3\xa9\n", zeros + "  a\n\n"})
    REFUSED(edgead::parse_hash_list(list, "x"), EDGEAD_ERR_BUNDLE, "MANIFEST.sha256");
  const auto parsed = edgead::parse_hash_list(zeros + "  B\n" + zeros + "  a\n", "x");
  CHECK_EQ(parsed.size(), 2);
}

void check_limits() {
  const struct {
    const char *name;
    std::uintmax_t size;
  } large[] = {{"manifest.json", (16 << 20) + 1}, {"MANIFEST.sha256", (4 << 20) + 1}};
  for (const auto &[name, size] : large) {
    write_folder(folder, golden_bundle());
    fs::resize_file(folder / name, size);
    REFUSED(Bundle::open(folder.u8string()), EDGEAD_ERR_BUNDLE, std::string(name) + " has");
    Files files = golden_bundle();
    files[name].resize(size);
    refused_zip(zipped(files), "more than the limit of");
  }
  // Sparse files of 40 GiB each are refused unread.
  write_folder(folder, golden_bundle());
  for (const char *name : {"a", "b"}) {
    write_file(folder / name, "");
    fs::resize_file(folder / name, std::uintmax_t{40} << 30);
  }
  REFUSED(Bundle::open(folder.u8string()), EDGEAD_ERR_BUNDLE, "bytes in all, more than the limit of 68719476736");
  Files files = golden_bundle();
  for (int i = 0; i <= 10000; ++i) files["many/f" + std::to_string(i)] = "";
  refused_zip(zipped(files), "more than 10,000 files");  // so many files take a folder long to make
  // So many folders take a disk long.
  const bool has_memory = fs::is_directory("/dev/shm");
  const fs::path many = has_memory ? fs::path("/dev/shm") / ("edgead_many_" + std::to_string(getpid())) : folder;
  write_folder(many, golden_bundle());
  for (int i = 0; i < 20001; ++i) fs::create_directory(many / ("d" + std::to_string(i)));
  REFUSED(Bundle::open(many.u8string()), EDGEAD_ERR_BUNDLE, "more than 10,000 files");
  fs::remove_all(many);
}

void check_links() {
  const std::function<void()> makes[] = {
      [] {
        fs::rename(folder / "graph.onnx", folder.parent_path() / "outside");
        fs::create_symlink(folder.parent_path() / "outside", folder / "graph.onnx");
      },
      [] {
        fs::remove_all(folder.parent_path() / "post");
        fs::rename(folder / "post", folder.parent_path() / "post");
        fs::create_directory_symlink(folder.parent_path() / "post", folder / "post");
      },
      [] {
        fs::remove(folder / "graph.onnx");
        CHECK_EQ(mkfifo((folder / "graph.onnx").c_str(), 0600), 0);
      },
      [] { fs::create_symlink("nowhere", folder / "reports" / "link"); },
  };
  for (const auto &make : makes) {
    write_folder(folder, golden_bundle());
    make();
    REFUSED(Bundle::open(folder.u8string()), EDGEAD_ERR_BUNDLE, "is a link or a special file");
  }
}

}  // namespace

int main() {
  check_names();
  check_hashes();
  check_limits();
  check_links();
  fs::remove_all(EDGEAD_SCRATCH);
  return check_failures();
}
