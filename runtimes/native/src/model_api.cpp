// The C shell of models: versions of structs, arguments, strings. The work is in model.cpp.

#include "error.hpp"
#include "model.hpp"

namespace {

using edgead::ErrorSink;
using edgead::ThresholdValues;

edgead::LoadOptions load_options(const edgead_model_options &o) {
  edgead::LoadOptions options;
  options.engine.threads = o.threads;
  options.engine.streams = o.streams;
  options.engine.pin_cores = o.pin_cores != 0;
  if (o.engine_library != nullptr) options.engine.library = o.engine_library;
  if (o.cache_dir != nullptr) options.engine.cache_dir = o.cache_dir;
  if (o.target != nullptr) options.target = o.target;
  options.engine.cpu_mask = o.cpu_mask;
  options.without_engine = o.without_engine != 0;
  if (o.log != nullptr)
    options.engine.log = [callback = o.log, user = o.log_user_data](int level, const std::string &message) {
      callback(user, level, message.c_str());
    };
  return options;
}

edgead_status missing(const ErrorSink &sink, const char *what) noexcept {
  return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "%s is NULL", what);
}

// Copies a filled struct into the caller's, which may be an older, shorter version.
template <typename Struct>
edgead_status give(Struct *out, Struct found, const char *name, const ErrorSink &sink) noexcept {
  const std::uint32_t size = out->struct_size;
  if (size < sizeof(Struct))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "%s.struct_size is %u; call its _init function", name, size);
  found.struct_size = size;
  *out = found;
  return EDGEAD_OK;
}

}  // namespace

extern "C" {

edgead_status edgead_abi_check(uint32_t header_version, char *error_buf, size_t error_buf_size) {
  if (header_version == EDGEAD_ABI_VERSION) return EDGEAD_OK;
  return ErrorSink{error_buf, error_buf_size}.fail(
      EDGEAD_ERR_UNSUPPORTED, "the program was compiled for ABI %u of edgead.h, this libedgead (%s) has ABI %u; compile "
      "it with this library's header, or use the other library", header_version, edgead_version_string(),
      EDGEAD_ABI_VERSION);
}

uint64_t edgead_clock_ns(void) { return edgead::clock_ns(); }

void edgead_model_options_init(edgead_model_options *options, uint32_t struct_size) {
  edgead_model_options defaults{};
  defaults.streams = 1;
  defaults.cpu_mask = ~uint64_t{0};
  edgead::fill_defaults(options, struct_size, defaults);
}

edgead_status edgead_model_open(const char *path, const edgead_model_options *options, edgead_model **out_model,
                                char *error_buf, size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (path == nullptr || out_model == nullptr) return missing(sink, path == nullptr ? "path" : "out_model");
  edgead_model_options known;
  edgead_model_options_init(&known, sizeof known);
  if (options != nullptr &&
      !edgead::copy_sized(&known, sizeof known, options, options->struct_size, sizeof known))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "options.struct_size is %u; call edgead_model_options_init",
                     options->struct_size);
  if (known.streams == 0 || known.streams > 1024 || known.threads > 65'536)
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "streams is %u and threads %u; use 1 to 1024 and 0 to 65536",
                     known.streams, known.threads);
  return edgead::guard(sink, "edgead_model_open", [&] {
    auto handle = std::make_unique<edgead_model>();
    handle->model = std::make_shared<edgead::Model>(path, load_options(known), known.skip_self_test != 0);
    *out_model = handle.release();
  });
}

void edgead_model_close(edgead_model *model) {
  if (model == nullptr) return;
  edgead::guard(ErrorSink{nullptr, 0}, "edgead_model_close", [&] { model->model->keep_warm(0); });
  delete model;
}

void edgead_thresholds_init(edgead_thresholds *thresholds, uint32_t struct_size) {
  edgead::fill_defaults(thresholds, struct_size, edgead_thresholds{});
}

edgead_status edgead_model_get_thresholds(const edgead_model *model, edgead_thresholds *out_thresholds,
                                          char *error_buf, size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (model == nullptr || out_thresholds == nullptr) return missing(sink, "model or out_thresholds");
  return edgead::guard(sink, "edgead_model_get_thresholds", [&] {
    const ThresholdValues t = model->model->loaded()->thresholds->get();
    return give(out_thresholds, edgead_thresholds{0, 0, t.image, t.pixel, t.image_median, t.pixel_median},
                "out_thresholds", sink);
  });
}

edgead_status edgead_model_set_thresholds(edgead_model *model, const edgead_thresholds *thresholds, char *error_buf,
                                          size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (model == nullptr || thresholds == nullptr) return missing(sink, "model or thresholds");
  edgead_thresholds known{};
  if (!edgead::copy_sized(&known, sizeof known, thresholds, thresholds->struct_size, sizeof known))
    return sink.fail(EDGEAD_ERR_INVALID_ARGUMENT, "thresholds.struct_size is %u; call edgead_thresholds_init",
                     thresholds->struct_size);
  return edgead::guard(sink, "edgead_model_set_thresholds", [&] {
    const ThresholdValues values{known.image, known.pixel, known.image_median, known.pixel_median};
    const std::string problem = edgead::thresholds_problem(values);
    if (!problem.empty()) edgead::raise(EDGEAD_ERR_INVALID_ARGUMENT, "%s", problem.c_str());
    model->model->loaded()->thresholds->set(values);
  });
}

void edgead_model_info_init(edgead_model_info *info, uint32_t struct_size) {
  edgead_model_info defaults{};
  defaults.digest = defaults.detector = defaults.created_by = defaults.target = "";
  defaults.engine_version = defaults.engine_library = defaults.manifest_json = defaults.file_hashes = "";
  edgead::fill_defaults(info, struct_size, defaults);
}

edgead_status edgead_model_inspect(const edgead_model *model, edgead_model_info *out_info, char *error_buf,
                                   size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (model == nullptr || out_info == nullptr) return missing(sink, "model or out_info");
  return edgead::guard(sink, "edgead_model_inspect", [&] {
    const auto loaded = model->model->loaded();
    const edgead::Manifest &manifest = loaded->manifest();
    edgead_model_info info{};
    info.schema = manifest.schema;
    info.input_width = loaded->shapes.width;
    info.input_height = loaded->shapes.height;
    info.map_width = manifest.post.output_width;
    info.map_height = manifest.post.output_height;
    if (manifest.geometry.roi) {
      info.has_roi = 1;
      info.roi_x = manifest.geometry.roi->x;
      info.roi_y = manifest.geometry.roi->y;
      info.roi_width = manifest.geometry.roi->width;
      info.roi_height = manifest.geometry.roi->height;
    }
    info.targets_count = static_cast<uint32_t>(manifest.targets.size());
    info.self_test = loaded->self_test.load(std::memory_order_acquire);
    info.generation = loaded->generation;
    info.digest = loaded->bundle->digest().c_str();
    info.detector = manifest.detector.c_str();
    info.created_by = manifest.created_by.c_str();
    info.target = loaded->target != nullptr ? loaded->target->target.c_str() : "";
    info.engine_version = loaded->engine_version.c_str();
    info.engine_library = loaded->engine_library.c_str();
    info.manifest_json = loaded->bundle->manifest_text().c_str();
    info.file_hashes = loaded->bundle->hash_list_text().c_str();
    return give(out_info, info, "out_info", sink);
  });
}

const char *edgead_model_target(const edgead_model *model, uint32_t index) {
  if (model == nullptr) return nullptr;
  const char *name = nullptr;
  edgead::guard(ErrorSink{nullptr, 0}, "edgead_model_target", [&] {
    const auto loaded = model->model->loaded();
    const auto &targets = loaded->manifest().targets;
    if (index < targets.size()) name = targets[index].target.c_str();
  });
  return name;
}

void edgead_self_test_result_init(edgead_self_test_result *result, uint32_t struct_size) {
  edgead::fill_defaults(result, struct_size, edgead_self_test_result{});
}

edgead_status edgead_model_self_test(edgead_model *model, edgead_self_test_result *out_result, char *error_buf,
                                     size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (model == nullptr || out_result == nullptr) return missing(sink, "model or out_result");
  return edgead::guard(sink, "edgead_model_self_test", [&] {
    const auto loaded = model->model->loaded();
    if (!loaded->engine)
      edgead::raise(EDGEAD_ERR_INVALID_ARGUMENT, "the model was opened without_engine: nothing to test");
    return give(out_result, edgead::self_test(loaded), "out_result", sink);
  });
}

edgead_status edgead_model_keep_warm(edgead_model *model, uint64_t interval_ns, char *error_buf,
                                     size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (model == nullptr) return missing(sink, "model");
  return edgead::guard(sink, "edgead_model_keep_warm", [&] { model->model->keep_warm(interval_ns); });
}

edgead_status edgead_model_reload(edgead_model *model, const char *path, char *error_buf, size_t error_buf_size) {
  const ErrorSink sink{error_buf, error_buf_size};
  if (model == nullptr || path == nullptr) return missing(sink, "model or path");
  return edgead::guard(sink, "edgead_model_reload", [&] { model->model->reload(path); });
}

}  // extern "C"
