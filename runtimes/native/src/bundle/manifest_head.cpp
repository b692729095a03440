#include "bundle/manifest_head.hpp"

#include <algorithm>
#include <cstring>

#include "bank_search_plan.hpp"
#include "bundle/quote.hpp"
#include "error.hpp"
#include "window_search_plan.hpp"

namespace edgead {
namespace {

// `field` names a file of the target that is not the graph.
std::string read_file(const JsonField &field, const TargetEntry &entry) {
  const std::string &name = field.text();
  if (name == entry.main_file || std::find(entry.files.begin(), entry.files.end(), name) == entry.files.end())
    raise(EDGEAD_ERR_BUNDLE, "%s %s is not among the target's files", field.path().c_str(), in_quotes(name).c_str());
  return name;
}

void check_grid(const JsonField &field, const Manifest &m) {
  const std::vector<JsonField> grid = field.at("grid").items(2);
  const auto of_graph = m.graph_grid();
  if (grid[0].integer(1, kMostSearchSide) != of_graph[0] || grid[1].integer(1, kMostSearchSide) != of_graph[1])
    raise(EDGEAD_ERR_BUNDLE, "%s: grid is not that of graph, %ux%u", field.path().c_str(), of_graph[0], of_graph[1]);
}

SearchLevel read_level(const JsonField &field, const TargetEntry &entry) {
  SearchLevel level{field.at("height").integer(1, kMostSearchSide), field.at("width").integer(1, kMostSearchSide),
                    field.at("window").integer(1, kSearchWindow), read_file(field.at("bank_file"), entry)};
  if (level.window % 2 == 0)
    raise(EDGEAD_ERR_BUNDLE, "%s.window is %u, must be odd", field.path().c_str(), level.window);
  return level;
}

}  // namespace

bool has_head(const std::string &engine, const char *suffix) noexcept {
  const std::size_t size = std::strlen(suffix);
  return engine.size() > size && engine.compare(engine.size() - size, size, suffix) == 0;
}

WindowSearch read_window_search(const JsonField &field, const TargetEntry &entry, const Manifest &m,
                                const std::string &where) {
  static_cast<void>(field.at("kind").one_of({"window_search"}));
  WindowSearch head{};
  head.references = field.at("references").integer(1, kMostReferences);
  head.nearest = field.at("nearest").integer(1, head.references);
  head.dim = field.at("dim").integer(1, kMostSearchDim);
  const std::string &type = field.at("bank_type").one_of({"fp32", "fp16", "int8"});
  head.bank_type = type == "fp32" ? EDGEAD_BANK_FP32 : type == "fp16" ? EDGEAD_BANK_FP16 : EDGEAD_BANK_INT8;
  head.weighted = field.at("weighted").flag();
  for (const JsonField &level : field.at("levels").items()) head.levels.push_back(read_level(level, entry));
  if (head.levels.empty() || head.levels.size() > kMostSearchLevels)
    raise(EDGEAD_ERR_BUNDLE, "%s.levels has %zu levels, must have 1 to %u", field.path().c_str(), head.levels.size(),
          kMostSearchLevels);
  for (const SearchLevel &level : head.levels)
    if (bank_bytes(head, level) == 0)
      raise(EDGEAD_ERR_BUNDLE, "%s: the bank of %s is larger than 64 GiB", where.c_str(),
            in_quotes(level.bank_file).c_str());
  check_grid(field, m);
  if (m.graph.batch != 1 || m.post.channels != 1 || m.post.score_rule == EDGEAD_SCORE_GRAPH)
    raise(EDGEAD_ERR_BUNDLE, "%s: a window_search makes one map of one image and no image_score, the graph has a batch "
          "of %u, %u channels%s", where.c_str(), m.graph.batch, m.post.channels,
          m.post.score_rule == EDGEAD_SCORE_GRAPH ? " and the score rule 'graph'" : "");
  return head;
}

BankSearch read_bank_search(const JsonField &field, const TargetEntry &entry, const Manifest &m,
                            const std::string &where) {
  static_cast<void>(field.at("kind").one_of({"bank_search"}));
  BankSearch head{};
  head.vectors = field.at("vectors").integer(1, kMostBankVectors);
  head.dim = field.at("dim").integer(1, kMostBankDim);
  head.neighbours = field.at("neighbours").integer(0, kMostNeighbours);
  head.bank_file = read_file(field.at("bank_file"), entry);
  if (head.neighbours > 0) head.neighbours_file = read_file(field.at("neighbours_file"), entry);
  if (head.neighbours > head.vectors)
    raise(EDGEAD_ERR_BUNDLE, "%s: %u neighbours of %u vectors", field.path().c_str(), head.neighbours, head.vectors);
  if (bank_bytes(head) == 0)
    raise(EDGEAD_ERR_BUNDLE, "%s: the bank of %s is larger than 64 GiB", where.c_str(),
          in_quotes(head.bank_file).c_str());
  check_grid(field, m);
  if (const auto grid = m.graph_grid(); std::uint64_t{grid[0]} * grid[1] > kMostBankQueries)
    raise(EDGEAD_ERR_BUNDLE, "%s: a grid of %ux%u has more than %u cells", field.path().c_str(), grid[0], grid[1],
          kMostBankQueries);
  if (m.graph.batch != 1 || m.post.channels != 1 || m.graph.has_score != (head.neighbours > 0))
    raise(EDGEAD_ERR_BUNDLE, "%s: a bank_search makes one map of one image, and an image_score where it has "
          "neighbours; the graph has a batch of %u, %u channels and %s image_score, the head %u neighbours",
          where.c_str(), m.graph.batch, m.post.channels, m.graph.has_score ? "an" : "no", head.neighbours);
  return head;
}

std::uint64_t bank_bytes(const BankSearch &head) noexcept { return bank_search_bytes(head.vectors, head.dim); }

std::uint64_t neighbours_bytes(const BankSearch &head) noexcept {
  return std::uint64_t{head.vectors} * head.neighbours * sizeof(std::int32_t);
}

std::uint64_t bank_bytes(const WindowSearch &head, const SearchLevel &level) noexcept {
  return search_bank_bytes(head.references, head.dim, head.bank_type, level.height, level.width);
}

}  // namespace edgead
