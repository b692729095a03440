// Engines "...+window_search" on the query graph of make_graphs.py, against NumPy's search in float64 behind the same
// query tensors; and banks, graphs and indices that do not fit. 77 = skipped.

#include <cmath>
#include <cstdlib>

#include "engine_support.hpp"
#include "no_deepbind.hpp"

namespace {

using namespace edgead;

std::string folder;
constexpr TensorShapes kSearched{1, 12, 17, 1, 24, 34, false};  // the map is twice as large as level 0

struct Target {
  Files files;
  TargetEntry entry;

  explicit Target(const std::string &engine) {
    const bool ir = engine.rfind("openvino", 0) == 0;
    const std::vector<std::string> graph =
        ir ? std::vector<std::string>{"query.xml", "query.bin"} : std::vector<std::string>{"query.onnx"};
    // The banks lie beside the graph and end in .bin, as weights do.
    std::vector<std::string> names;
    for (const std::string &name : graph) add(names, name);
    for (const char *name : {"level0.bin", "level1.bin"}) add(names, name);
    files.add("sub/head.json", "for Python");
    names.push_back("sub/head.json");
    entry = target_entry(engine, "fp32", names);
    entry.head = WindowSearch{7, 3, 5, EDGEAD_BANK_FP32, true,
                              {{12, 17, 3, "sub/level0.bin"}, {6, 9, 1, "sub/level1.bin"}}};
  }

  void add(std::vector<std::string> &names, const std::string &name) {
    names.push_back("sub/" + name);
    files.add(names.back(), read_whole(folder + "/" + name));
  }

  std::shared_ptr<Engine> open(const EngineOptions &options = {1, 1, false, "", "", {}}) const {
    return open_engine(files.lookup(), kSearched, entry, options);
  }
};

double most_difference(Request &request, std::size_t image, const std::string &images,
                       const std::vector<float> &expected) {
  char message[256] = "";
  std::memcpy(request.input(), images.data() + image * kSearched.input_bytes(), kSearched.input_bytes());
  CHECK_EQ(request.infer({message, sizeof message}), EDGEAD_OK);
  double most = 0.0;
  for (std::size_t i = 0; i < kSearched.map_count(); ++i) {
    const double shift = std::fabs(double{request.map()[i]} - double{expected[image * kSearched.map_count() + i]});
    most = shift <= most ? most : shift;  // NaN stays
  }
  return most;
}

void test_equals_numpy(const std::string &name) {
  const std::string images = read_whole(folder + "/images.u8");
  const std::vector<float> expected = Expected::floats(folder + "/searched.map");
  CHECK_EQ(expected.size(), kImages * kSearched.map_count());
  for (const std::uint64_t cpu_mask : {std::uint64_t{0}, ~std::uint64_t{0}}) {
    auto engine = Target(name).open({1, 1, false, "", "", {}, cpu_mask});
    CHECK(engine->version().find('.') != std::string::npos);
    const auto request = engine->create_request(), other = engine->create_request();
    engine.reset();  // a request keeps what it needs
    CHECK(request->score() == nullptr);
    for (std::size_t i = 0; i < 2 * kImages; ++i)
      CHECK(most_difference(i % 2 == 0 ? *request : *other, i % kImages, images, expected) < 2e-5);
  }
}

void test_refused(const std::string &name) {
  const auto refused = [&](edgead_status status, const std::vector<std::string> &words, auto change) {
    Target target(name);
    change(target);
    check_refused(status, words, [&] { target.open()->create_request(); });
  };
  refused(EDGEAD_ERR_ENGINE, {"'references' i32 [1,3]", "'references' i32 [1,4]", "export the MODEL again"},
          [](Target &t) { t.entry.head->nearest = 4; });
  refused(EDGEAD_ERR_ENGINE, {"'weight'"}, [](Target &t) { t.entry.head->weighted = false; });
  refused(EDGEAD_ERR_ENGINE, {"'query_1' f32 [1,5,6,9]", "'query_1' f32 [1,5,6,8]"},
          [](Target &t) { t.entry.head->levels[1].width = 8; });
  refused(EDGEAD_ERR_BUNDLE, {"sub/level0.bin has", "its shape asks for"},
          [](Target &t) { t.files.bytes["sub/level0.bin"].pop_back(); });
  refused(EDGEAD_ERR_BUNDLE, {"sub/level1.bin has values", "length 1"}, [](Target &t) {
    const float wrong = 2.0f;
    std::memcpy(t.files.bytes["sub/level1.bin"].data() + 4, &wrong, sizeof wrong);
  });
  refused(EDGEAD_ERR_UNSUPPORTED, {"has no engine", "+window_search"}, [](Target &t) { t.entry.head.reset(); });
  refused(EDGEAD_ERR_UNSUPPORTED, {"has no engine"}, [](Target &t) { t.entry.engine += "2"; });
}

// Indices that the bank has not: the graph gives 0 .. 6, the bank has 0 .. 2.
void test_index_outside(const std::string &name) {
  Target target(name);
  target.entry.head->references = 3;
  for (const char *bank : {"sub/level0.bin", "sub/level1.bin"}) {
    Bytes &bytes = target.files.bytes[bank];
    bytes.resize(bytes.size() / 7 * 3);
  }
  const auto request = target.open()->create_request();
  const std::string images = read_whole(folder + "/images.u8");
  std::size_t failed = 0;
  for (std::size_t i = 0; i < kImages; ++i) {
    char message[256] = "";
    std::memcpy(request->input(), images.data() + i * kSearched.input_bytes(), kSearched.input_bytes());
    if (request->infer({message, sizeof message}) == EDGEAD_OK) continue;
    ++failed;
    CHECK(std::strstr(message, "the bank has 0 .. 2") != nullptr);
  }
  CHECK(failed > 0);
}

void test_engine(const std::string &name) {
  test_equals_numpy(name);
  test_refused(name);
  test_index_outside(name);
}

}  // namespace

int main() {
  const char *given = std::getenv("EDGEAD_TEST_GRAPHS");
  folder = given != nullptr ? given : "";
  if (!std::ifstream(folder + "/searched.map").good()) {
    std::puts("skipped: EDGEAD_TEST_GRAPHS is not set, or has no searched.map (no onnx in Python)");
    return 77;
  }
  return run_checks([] {
    test_engine("openvino+window_search");
#if defined(EDGEAD_HAVE_ONNXRUNTIME)
    test_engine("onnxruntime+window_search");
#endif
  });
}
