// The head of engines "...+bank_search": another engine runs the graph up to the patch vectors, and the search over the
// bundle's bank makes the map of distances, and the score where it is weighted by neighbours.

#include <algorithm>
#include <thread>

#include "bank_search_plan.hpp"
#include "bundle/manifest_head.hpp"
#include "edgead/edgead.h"
#include "engines/backends.hpp"
#include "error.hpp"

namespace edgead {
namespace {

// What requests share: the engine of the query graph, and the bank, read in place.
struct Searched {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<const Bytes> bank, near;
  std::shared_ptr<BankIndex> index = std::make_shared<BankIndex>();
  std::uint32_t queries = 0, threads = 0;
};

// Out of memory is that; whatever else a search refuses came out of the bundle.
void throw_unless_ok(edgead_status status, const std::string &file, const char *message) {
  if (status == EDGEAD_ERR_OUT_OF_MEMORY) throw Error{status, message};
  if (status != EDGEAD_OK) throw Error{EDGEAD_ERR_BUNDLE, file + ": " + message + "; export the MODEL again"};
}

class BankRequest final : public Request {
 public:
  explicit BankRequest(std::shared_ptr<const Searched> searched) : searched_(std::move(searched)) {
    char message[512] = "";
    throw_unless_ok(plan_.prepare(searched_->index, searched_->queries, searched_->threads, {message, sizeof message}),
                    "the bank", message);
    inner_ = searched_->engine->create_request();
    if (!map_.allocate(searched_->queries)) throw std::bad_alloc();
    query_ = static_cast<const float *>(inner_->output(0));
  }

  std::uint8_t *input() noexcept override { return inner_->input(); }
  const void *output(std::size_t index) const noexcept override {
    if (index == 1 && searched_->index->neighbours() > 0) return &score_;
    return index == 0 ? map_.data() : nullptr;
  }

  edgead_status infer(const ErrorSink &error) noexcept override {
    const edgead_status status = inner_->infer(error);
    if (status != EDGEAD_OK) return status;
    plan_.run(query_, searched_->queries, nullptr, map_.data());
    if (searched_->index->neighbours() > 0) score_ = plan_.score();
    return EDGEAD_OK;
  }

 private:
  std::shared_ptr<const Searched> searched_;
  std::unique_ptr<Request> inner_;
  BankSearchPlan plan_;
  Buffer<float> map_;
  const float *query_ = nullptr;
  float score_ = 0.0f;
};

class BankEngine final : public Engine {
 public:
  explicit BankEngine(std::shared_ptr<const Searched> searched) : searched_(std::move(searched)) {}

  std::unique_ptr<Request> create_request() override { return std::make_unique<BankRequest>(searched_); }
  std::string version() const override { return searched_->engine->version(); }
  std::string library() const override { return searched_->engine->library(); }

 private:
  std::shared_ptr<const Searched> searched_;
};

std::shared_ptr<const Bytes> sized_file(const EngineSource &source, const std::string &name, std::uint64_t bytes) {
  std::shared_ptr<const Bytes> file = source.file(name);
  if (file->size() != bytes)
    throw Error{EDGEAD_ERR_BUNDLE, name + " has " + std::to_string(file->size()) + " bytes, its shape asks for " +
                                       std::to_string(bytes)};
  return file;
}

// Streams work side by side: each takes its share of the threads.
std::uint32_t threads_per_stream(const EngineOptions &options) noexcept {
  if (options.streams <= 1) return options.threads;
  const std::uint32_t all = options.threads != 0 ? options.threads : std::thread::hardware_concurrency();
  return std::max(1u, all / options.streams);
}

}  // namespace

std::shared_ptr<Engine> open_bank_search(const EngineSource &source, OpenEngine open) {
  const BankSearch &head = *source.target.bank;
  const auto searched = std::make_shared<Searched>();
  searched->queries = source.shapes.grid_height * source.shapes.grid_width;
  searched->threads = threads_per_stream(source.options);
  std::vector<std::string> files{head.bank_file};
  if (head.neighbours > 0) files.push_back(head.neighbours_file);
  const TargetEntry inner = query_target(source.target, files);
  const std::vector<OutputTensor> outputs{{"query", "f32", {1, searched->queries, head.dim}}};
  searched->engine = open({source.file, source.shapes, inner, source.options, outputs});
  searched->bank = sized_file(source, head.bank_file, bank_bytes(head));
  char message[512] = "";
  const ErrorSink sink{message, sizeof message};
  throw_unless_ok(searched->index->prepare(reinterpret_cast<const float *>(searched->bank->data()),
                                           searched->bank->size(), head.vectors, head.dim, source.options.cpu_mask,
                                           sink),
                  head.bank_file, message);
  if (head.neighbours > 0) {
    searched->near = sized_file(source, head.neighbours_file, neighbours_bytes(head));
    throw_unless_ok(searched->index->set_neighbours(reinterpret_cast<const std::int32_t *>(searched->near->data()),
                                                    searched->near->size(), head.neighbours, sink),
                    head.neighbours_file, message);
  }
  return std::make_shared<BankEngine>(searched);
}

}  // namespace edgead
