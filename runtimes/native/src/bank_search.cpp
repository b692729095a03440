// The C shell of the bank search: versions of structs, arguments, buffers. The work is in bank_search_plan.cpp.

#include <memory>
#include <new>

#include "bank_search_plan.hpp"
#include "edgead/edgead.h"
#include "status.hpp"

struct edgead_bank_search {
  edgead::BankSearchPlan plan;
};

using edgead::ErrorSink;

extern "C" {

void edgead_bank_search_options_init(edgead_bank_search_options *options, uint32_t struct_size) {
  edgead_bank_search_options defaults{};
  defaults.queries = 1;
  defaults.cpu_mask = ~std::uint64_t{0};
  edgead::fill_defaults(options, struct_size, defaults);
}

edgead_status edgead_bank_search_create(const edgead_bank_search_options *options, edgead_bank_search **out_search,
                                        char *error_buf, size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (options == nullptr || out_search == nullptr)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "options or out_search is NULL");
  edgead_bank_search_options full{};
  if (!edgead::copy_sized(&full, sizeof full, options, options->struct_size, sizeof full))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "options.struct_size is %u, at least %zu is needed",
                     options->struct_size, sizeof full);
  try {
    auto created = std::make_unique<edgead_bank_search>();
    const auto index = std::make_shared<edgead::BankIndex>();
    edgead_status status =
        index->prepare(full.bank, full.bank_bytes, full.vectors, full.dim, full.cpu_mask, sink);
    if (status == EDGEAD_OK) status = index->set_neighbours(full.near, full.near_bytes, full.neighbours, sink);
    if (status == EDGEAD_OK) status = created->plan.prepare(index, full.queries, full.threads, sink);
    if (status == EDGEAD_OK) *out_search = created.release();
    return status;
  } catch (const std::bad_alloc &) {
    return sink.fail(EDGEAD_ERR_OUT_OF_MEMORY, "no memory for a search");
  }
}

edgead_status edgead_bank_search_run(edgead_bank_search *search, const float *queries, uint32_t count,
                                     int32_t *indices, float *distances, size_t capacity, float *score,
                                     char *error_buf, size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (search == nullptr || queries == nullptr || distances == nullptr)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "search, queries or distances is NULL");
  if (count > search->plan.queries())
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "%u queries, the search was made for %zu", count,
                     search->plan.queries());
  if (score != nullptr && (search->plan.index().neighbours() == 0 || count == 0))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "a score is wanted of %u queries, the search was made with %zu "
                     "neighbours; it takes at least one of each", count, search->plan.index().neighbours());
  const edgead_status status = edgead::check_buffer(distances, capacity, count, "distances", sink);
  if (status == EDGEAD_OK) {
    search->plan.run(queries, count, indices, distances);
    if (score != nullptr) *score = search->plan.score();
  }
  return status;
}

void edgead_bank_search_destroy(edgead_bank_search *search) { delete search; }

}  // extern "C"
