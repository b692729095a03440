#pragma once
// What a manifest says of the way from frame to result, and of the graph. Throws Error(BUNDLE).

#include "bundle/json.hpp"
#include "bundle/manifest.hpp"

namespace edgead {

Geometry read_geometry(const JsonField &field);
PostRecipe read_post(const JsonField &field);
OperatorMatrix read_matrix(const JsonField &field, std::uint32_t rows, std::uint32_t cols);
GraphEntry read_graph(const JsonField &field, const Geometry &geometry, const PostRecipe &post);

}  // namespace edgead
