#pragma once
// What the engine tests share: files in memory, and the Error that a call throws.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engines/engine.hpp"
#include "error.hpp"

struct Files {
  std::map<std::string, edgead::Bytes> bytes;

  void add(const std::string &name, const std::string &content) {
    bytes[name] = edgead::Bytes(content.begin(), content.end());
  }

  edgead::FileLookup lookup() const {
    return [this](const std::string &name) {
      const auto found = bytes.find(name);
      if (found == bytes.end()) throw edgead::Error{EDGEAD_ERR_BUNDLE, "no file " + name};
      return std::make_shared<const edgead::Bytes>(found->second);
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

// What make_graphs.py writes: images, and each engine's answers to them.
constexpr std::size_t kImages = 3;
constexpr edgead::TensorShapes kShapes{1, 12, 17, 2, 12, 17, true};

struct Expected {
  std::string images;
  std::vector<float> maps, scores;

  // stem: a folder and the engine's name, such as ".../openvino_fp32".
  explicit Expected(const std::string &stem)
      : images(read_whole(stem.substr(0, stem.rfind('/')) + "/images.u8")),
        maps(floats(stem + ".map")),
        scores(floats(stem + ".score")) {
    CHECK_EQ(images.size(), kImages * kShapes.input_bytes());
    CHECK_EQ(maps.size(), kImages * kShapes.map_count());
    CHECK_EQ(scores.size(), kImages);
  }

  static std::vector<float> floats(const std::string &path) {
    const std::string raw = read_whole(path);
    std::vector<float> values(raw.size() / sizeof(float));
    std::memcpy(values.data(), raw.data(), values.size() * sizeof(float));
    return values;
  }

  // How many values of one run differ from Python's.
  std::size_t differences(edgead::Request &request, std::size_t image) const {
    char message[256] = "";
    std::memcpy(request.input(), images.data() + image * kShapes.input_bytes(), kShapes.input_bytes());
    if (request.infer({message, sizeof message}) != EDGEAD_OK) {
      std::fprintf(stderr, "%s\n", message);
      return SIZE_MAX;
    }
    std::size_t count = request.score()[0] != scores[image];
    for (std::size_t i = 0; i < kShapes.map_count(); ++i)
      count += request.map()[i] != maps[image * kShapes.map_count() + i];
    return count;
  }
};

// Four threads with a request each on one engine.
inline void check_threads(edgead::Engine &engine, const std::string &stem) {
  const Expected expected(stem);
  std::size_t wrong[4] = {};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      const auto request = engine.create_request();
      for (std::size_t i = 0; i < 200; ++i) wrong[t] += expected.differences(*request, (i + t) % kImages) != 0;
    });
  for (std::thread &thread : threads) thread.join();
  for (const std::size_t count : wrong) CHECK_EQ(count, 0);
}

// main's exit status; an Error that no check expects is a failure and says so.
template <typename Body>
int run_checks(Body &&body) {
  try {
    body();
  } catch (const edgead::Error &error) {
    CHECK(!"no Error is thrown");
    std::fprintf(stderr, "  %s\n", error.message.c_str());
  }
  return check_failures();
}
