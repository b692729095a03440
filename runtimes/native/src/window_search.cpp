// The C shell of the windowed search: versions of structs, arguments, buffers. The work is in window_search_plan.cpp.

#include <new>

#include "edgead/edgead.h"
#include "status.hpp"
#include "window_search_plan.hpp"

struct edgead_window_search {
  edgead::WindowSearchPlan plan;
};

using edgead::ErrorSink;

extern "C" {

void edgead_window_search_options_init(edgead_window_search_options *options, uint32_t struct_size) {
  edgead_window_search_options defaults{};
  defaults.bank_type = EDGEAD_BANK_FP32;
  defaults.cpu_mask = ~std::uint64_t{0};
  edgead::fill_defaults(options, struct_size, defaults);
}

edgead_status edgead_window_search_create(const edgead_window_search_options *options,
                                          edgead_window_search **out_search, char *error_buf, size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (options == nullptr || out_search == nullptr)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "options or out_search is NULL");
  edgead_window_search_options full{};
  if (!edgead::copy_sized(&full, sizeof full, options, options->struct_size, sizeof full))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "options.struct_size is %u, at least %zu is needed",
                     options->struct_size, sizeof full);
  auto *created = new (std::nothrow) edgead_window_search;
  if (created == nullptr) return sink.fail(EDGEAD_ERR_OUT_OF_MEMORY, "no memory for a search");
  edgead_status status = created->plan.prepare(full, sink);
  for (std::uint32_t i = 0; status == EDGEAD_OK && i < full.levels_count; ++i)
    if (const char *problem =
            edgead::search_bank_problem(full.bank_type, full.levels[i].bank, full.levels[i].bank_bytes))
      status = sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "the bank of level %u %s", i, problem);
  if (status != EDGEAD_OK) {
    delete created;
    return status;
  }
  *out_search = created;
  return EDGEAD_OK;
}

edgead_status edgead_window_search_run(edgead_window_search *search, const float *const *queries,
                                       const int32_t *references, const float *weight, float *map, size_t map_capacity,
                                       char *error_buf, size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (search == nullptr || queries == nullptr || references == nullptr || map == nullptr)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "search, queries, references or map is NULL");
  edgead::WindowSearchPlan &plan = search->plan;
  for (std::size_t i = 0; i < plan.levels(); ++i)
    if (queries[i] == nullptr) return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "the query of level %zu is NULL", i);
  if ((weight != nullptr) != plan.weighted())
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, plan.weighted() ? "weight is NULL, the search was made weighted"
                                                                  : "a weight is given, the search was made without");
  const edgead_status status = edgead::check_buffer(map, map_capacity, plan.map_count(), "map", sink);
  return status == EDGEAD_OK ? plan.run(queries, references, weight, map, sink) : status;
}

void edgead_window_search_destroy(edgead_window_search *search) { delete search; }

}  // extern "C"
