#pragma once
// What the engine tests share: files in memory, and the Error that a call throws.

#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "check.hpp"
#include "engines/engine.hpp"
#include "error.hpp"

struct Files {
  std::map<std::string, edgead::Bytes> bytes;

  void add(const std::string &name, const std::string &content) {
    bytes[name] = edgead::Bytes(content.begin(), content.end());
  }

  edgead::FileLookup lookup() const {
    return [this](const std::string &name) -> const edgead::Bytes & {
      const auto found = bytes.find(name);
      if (found == bytes.end()) throw edgead::Error{EDGEAD_ERR_BUNDLE, "no file " + name};
      return found->second;
    };
  }
};

inline std::string read_whole(const std::string &path) {
  std::ifstream stream(path, std::ios::binary);
  CHECK(stream.good());
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

inline edgead::TargetEntry target_entry(const std::string &engine, const std::string &precision,
                                        const std::vector<std::string> &files, const std::string &device = "cpu") {
  edgead::TargetEntry entry{};
  entry.target = engine + ":" + precision;
  entry.engine = engine;
  entry.precision = precision;
  entry.device = device;
  entry.main_file = files.at(0);
  entry.files = files;
  return entry;
}

// The Error of `body`, which must throw one of `status` whose message holds every word.
template <typename Body>
std::string check_refused(edgead_status status, const std::vector<std::string> &words, Body &&body) {
  try {
    body();
  } catch (const edgead::Error &error) {
    CHECK_EQ(error.status, status);
    for (const std::string &word : words)
      if (error.message.find(word) == std::string::npos) {
        CHECK(!"the message says what it must");
        std::fprintf(stderr, "  '%s' is missing in: %s\n", word.c_str(), error.message.c_str());
      }
    return error.message;
  }
  CHECK(!"an Error is thrown");
  return "";
}
