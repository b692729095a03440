// The head of engines "...+window_search": another engine runs the graph up to the query tensors, and the search over
// the bundle's bank makes the map.

#include "bundle/manifest_head.hpp"
#include "edgead/edgead.h"
#include "engines/backends.hpp"
#include "error.hpp"
#include "window_search_plan.hpp"

namespace edgead {
namespace {

// What requests share: the engine of the query graph, and the banks, read in place.
struct Searched {
  std::shared_ptr<Engine> engine;
  WindowSearch head;
  std::vector<std::shared_ptr<const Bytes>> banks;
  std::uint32_t map_height = 0, map_width = 0;
  std::uint64_t cpu_mask = 0;

  void prepare(WindowSearchPlan &plan) const {
    std::vector<edgead_search_level> levels;
    for (std::size_t i = 0; i < banks.size(); ++i) {
      const SearchLevel &level = head.levels[i];
      levels.push_back({level.height, level.width, level.window, 0, banks[i]->data(), banks[i]->size()});
    }
    edgead_window_search_options options;
    edgead_window_search_options_init(&options, sizeof options);
    options.references = head.references;
    options.nearest = head.nearest;
    options.dim = head.dim;
    options.bank_type = head.bank_type;
    options.weighted = head.weighted;
    options.levels_count = static_cast<std::uint32_t>(levels.size());
    options.map_height = map_height;
    options.map_width = map_width;
    options.levels = levels.data();
    options.cpu_mask = cpu_mask;
    char message[512] = "";
    const edgead_status status = plan.prepare(options, {message, sizeof message});
    if (status == EDGEAD_ERR_OUT_OF_MEMORY) throw Error{status, message};
    if (status != EDGEAD_OK) throw Error{EDGEAD_ERR_BUNDLE, message};
  }
};

class SearchRequest final : public Request {
 public:
  explicit SearchRequest(std::shared_ptr<const Searched> searched) : searched_(std::move(searched)) {
    searched_->prepare(plan_);
    inner_ = searched_->engine->create_request();
    if (!map_.allocate(plan_.map_count())) throw std::bad_alloc();
    const std::size_t levels = searched_->head.levels.size();
    for (std::size_t i = 0; i < levels; ++i) queries_.push_back(static_cast<const float *>(inner_->output(i)));
    references_ = static_cast<const std::int32_t *>(inner_->output(levels));
    weight_ = static_cast<const float *>(inner_->output(levels + 1));  // NULL where there is none
  }

  std::uint8_t *input() noexcept override { return inner_->input(); }
  const void *output(std::size_t index) const noexcept override { return index == 0 ? map_.data() : nullptr; }

  edgead_status infer(const ErrorSink &error) noexcept override {
    const edgead_status status = inner_->infer(error);
    return status == EDGEAD_OK ? plan_.run(queries_.data(), references_, weight_, map_.data(), error) : status;
  }

 private:
  std::shared_ptr<const Searched> searched_;
  std::unique_ptr<Request> inner_;
  WindowSearchPlan plan_;
  Buffer<float> map_;
  std::vector<const float *> queries_;
  const std::int32_t *references_ = nullptr;
  const float *weight_ = nullptr;
};

class SearchEngine final : public Engine {
 public:
  explicit SearchEngine(std::shared_ptr<const Searched> searched) : searched_(std::move(searched)) {}

  std::unique_ptr<Request> create_request() override { return std::make_unique<SearchRequest>(searched_); }
  std::string version() const override { return searched_->engine->version(); }
  std::string library() const override { return searched_->engine->library(); }

 private:
  std::shared_ptr<const Searched> searched_;
};

// The outputs of the query graph, in the order that SearchRequest reads them.
std::vector<OutputTensor> query_outputs(const WindowSearch &head) {
  std::vector<OutputTensor> outputs;
  for (std::size_t i = 0; i < head.levels.size(); ++i)
    outputs.push_back({"query_" + std::to_string(i), "f32",
                       {1, head.dim, head.levels[i].height, head.levels[i].width}});
  outputs.push_back({"references", "i32", {1, head.nearest}});
  if (head.weighted) outputs.push_back({"weight", "f32", {1, 1, head.levels[0].height, head.levels[0].width}});
  return outputs;
}

}  // namespace

std::shared_ptr<Engine> open_window_search(const EngineSource &source, OpenEngine open) {
  const TargetEntry &target = source.target;
  const auto searched = std::make_shared<Searched>();
  searched->head = *target.head;
  searched->map_height = source.shapes.grid_height;
  searched->map_width = source.shapes.grid_width;
  searched->cpu_mask = source.options.cpu_mask;
  std::vector<std::string> files;
  for (const SearchLevel &level : target.head->levels) files.push_back(level.bank_file);
  const TargetEntry inner = query_target(target, files);
  const std::vector<OutputTensor> outputs = query_outputs(*target.head);
  searched->engine = open({source.file, source.shapes, inner, source.options, outputs});
  for (const SearchLevel &level : target.head->levels) {
    searched->banks.push_back(source.file(level.bank_file));
    const Bytes &bank = *searched->banks.back();
    if (bank.size() != bank_bytes(*target.head, level))
      throw Error{EDGEAD_ERR_BUNDLE, level.bank_file + " has " + std::to_string(bank.size()) +
                                         " bytes, its shape asks for " +
                                         std::to_string(bank_bytes(*target.head, level))};
    if (const char *problem = search_bank_problem(target.head->bank_type, bank.data(), bank.size()))
      throw Error{EDGEAD_ERR_BUNDLE, level.bank_file + " " + problem + "; export the MODEL again"};
  }
  return std::make_shared<SearchEngine>(searched);
}

}  // namespace edgead
