// An engine's library that is missing, is none, or is of another version: RUNTIME_MISSING, and the message says
// which file and which version.

#include <cstdlib>

#include "engine_support.hpp"
#include "engines/library.hpp"

namespace {

using namespace edgead;

void open_openvino(const std::string &library) {
  Files files;
  files.add("model.xml", "<net/>");
  EngineOptions options;
  options.library = library;
  open_engine(files.lookup(), {1, 4, 6, 1, 2, 3, false}, target_entry("openvino", "fp32", {"model.xml"}), options);
}

void test_search_order() {
  const char variable[] = "EDGEAD_TEST_LIBRARY";
  ::unsetenv(variable);
  LibrarySearch search{"Thing", "", variable, {"libthing.so.7", "libthing.so.6"}, "Install Thing"};
  check_refused(EDGEAD_ERR_RUNTIME_MISSING,
                {"Thing", "Install Thing", "libthing.so.7", "libthing.so.6", "No such file"},
                [&] { Library::open(search); });
  search.names.push_back("libc.so.6");
  const Library found = Library::open(search);
  CHECK(found.symbol("strlen") != nullptr && found.symbol("no_such_function") == nullptr);
  CHECK(found.path("strlen").find("libc.so.6") != std::string::npos);
  // A path that somebody gave never falls back.
  ::setenv(variable, "/nowhere/libthing.so", 1);
  std::string message = check_refused(EDGEAD_ERR_RUNTIME_MISSING, {variable, "/nowhere/libthing.so"},
                                      [&] { Library::open(search); });
  CHECK(message.find("libc.so.6") == std::string::npos);
  search.path = "/elsewhere/libthing.so";
  message = check_refused(EDGEAD_ERR_RUNTIME_MISSING, {"options", "/elsewhere/libthing.so"},
                          [&] { Library::open(search); });
  CHECK(message.find("/nowhere") == std::string::npos);
  ::setenv(variable, "", 1);  // as if it were not set
  search.path.clear();
  Library::open(search);
}

void test_openvino() {
  ::unsetenv("EDGEAD_OPENVINO_LIBRARY");
  const auto refused = [](const std::string &path, const std::vector<std::string> &words) {
    check_refused(EDGEAD_ERR_RUNTIME_MISSING, words, [&] { open_openvino(path); });
  };
  refused("/nowhere/libopenvino_c.so", {"/nowhere/libopenvino_c.so", "No such file", "pip install openvino",
                                        "EDGEAD_OPENVINO_LIBRARY"});
  refused(__FILE__, {__FILE__, "ELF"});
  refused("/", {"/: "});
  refused(FAKE_OPENVINO_old, {FAKE_OPENVINO_old, "2023.3.0", "2024.0 or newer"});
  refused(FAKE_OPENVINO_partial, {FAKE_OPENVINO_partial, "ov_get_last_err_msg", "2024.0 or newer"});
  refused(FAKE_OPENVINO_stranger, {FAKE_OPENVINO_stranger, "ov_get_openvino_version", "2024.0 or newer"});
  ::setenv("EDGEAD_OPENVINO_LIBRARY", FAKE_OPENVINO_old, 1);
  refused("", {FAKE_OPENVINO_old, "2023.3.0"});
}

}  // namespace

int main() {
  return run_checks([] {
    test_search_order();
    test_openvino();
  });
}
