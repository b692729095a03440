#include "bundle/manifest_head.hpp"

#include <algorithm>
#include <cstring>

#include "bundle/quote.hpp"
#include "error.hpp"
#include "window_search_plan.hpp"

namespace edgead {
namespace {

SearchLevel read_level(const JsonField &field, const TargetEntry &entry) {
  SearchLevel level{field.at("height").integer(1, kMostSearchSide), field.at("width").integer(1, kMostSearchSide),
                    field.at("window").integer(1, kSearchWindow), field.at("bank_file").text()};
  if (level.window % 2 == 0)
    raise(EDGEAD_ERR_BUNDLE, "%s.window is %u, must be odd", field.path().c_str(), level.window);
  if (level.bank_file == entry.main_file ||
      std::find(entry.files.begin(), entry.files.end(), level.bank_file) == entry.files.end())
    raise(EDGEAD_ERR_BUNDLE, "%s.bank_file %s is not among the target's files", field.path().c_str(),
          in_quotes(level.bank_file).c_str());
  return level;
}

}  // namespace

bool has_window_search(const std::string &engine) noexcept {
  const std::size_t size = std::strlen(WINDOW_SEARCH_SUFFIX);
  return engine.size() > size && engine.compare(engine.size() - size, size, WINDOW_SEARCH_SUFFIX) == 0;
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
  const std::vector<JsonField> grid = field.at("grid").items(2);
  if (grid[0].integer(1, kMostSearchSide) != m.post.grid_height ||
      grid[1].integer(1, kMostSearchSide) != m.post.grid_width)
    raise(EDGEAD_ERR_BUNDLE, "%s: grid is not post.grid, %ux%u", field.path().c_str(), m.post.grid_height,
          m.post.grid_width);
  if (m.graph.batch != 1 || m.post.channels != 1 || m.post.score_rule == EDGEAD_SCORE_GRAPH)
    raise(EDGEAD_ERR_BUNDLE, "%s: a window_search makes one map of one image and no image_score, the graph has a batch "
          "of %u, %u channels%s", where.c_str(), m.graph.batch, m.post.channels,
          m.post.score_rule == EDGEAD_SCORE_GRAPH ? " and the score rule 'graph'" : "");
  return head;
}

std::uint64_t bank_bytes(const WindowSearch &head, const SearchLevel &level) noexcept {
  return search_bank_bytes(head.references, head.dim, head.bank_type, level.height, level.width);
}

}  // namespace edgead
