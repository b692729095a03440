#pragma once
// What a manifest says of the way from frame to result, and of the graph. Throws Error(BUNDLE).

#include "bundle/json.hpp"
#include "bundle/manifest.hpp"

namespace edgead {

Geometry read_geometry(const JsonField &field);
PostRecipe read_post(const JsonField &field);
OperatorMatrix read_matrix(const JsonField &field, std::uint32_t rows, std::uint32_t cols);
// The tiles of `geometry` on one common map, which is post.grid; `graph` says how large a tile's is. None without tiles.
std::optional<Tiling> read_tiling(const JsonField &graph, const Geometry &geometry, const PostRecipe &post);
// `m` has everything that comes before it.
GraphEntry read_graph(const JsonField &field, const Manifest &m);

}  // namespace edgead
