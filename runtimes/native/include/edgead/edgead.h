/* edgead.h - C ABI of libedgead: camera pixels in, decisions out.
 *
 * Conventions
 *   Ownership  every edgead_*_create (edgead_model_open) has one edgead_*_destroy (edgead_model_close); both take
 *              NULL. Buffers belong to the caller; the library keeps no pointer to them after a call returns.
 *              Tables and strings named in an options struct are copied.
 *   Errors     fallible calls return edgead_status; out-parameters are written only on EDGEAD_OK (one exception:
 *              edgead_result.decision). A sentence for a person goes to error_buf (may be NULL), cut to
 *              error_buf_size, always terminated. No exception, abort or exit leaves the library.
 *   Threads    an edgead_model may be used by many threads at once. Any other object by one thread at a time;
 *              distinct objects are independent. A session that is called while a call is under way says
 *              EDGEAD_ERR_INVALID_STATE.
 *   Hot path   the *_run functions allocate nothing, take no lock, print nothing, do no input or output, and read
 *              no byte outside the stated buffers; the engine's own library does as it pleases, and a bank search
 *              wakes threads of its own and waits for them. A session's first
 *              frame of a new size or format is planned (edgead_session_prepare does it ahead of time).
 *   Versions   structs begin with struct_size = sizeof(the struct as the caller compiled it); fields are only
 *              ever added at the end. edgead_abi_version() rises only by an incompatible change.
 *
 * Use: edgead_model_open(bundle) once; edgead_session_create once per worker thread; edgead_session_prepare for
 * the camera's frame size; edgead_session_run per frame; destroy the sessions, close the model. Structs are filled
 * by their edgead_*_init function before fields are set.
 */
#ifndef EDGEAD_H
#define EDGEAD_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#  if defined(EDGEAD_BUILDING_LIBRARY)
#    define EDGEAD_API __declspec(dllexport)
#  else
#    define EDGEAD_API __declspec(dllimport)
#  endif
#else
#  define EDGEAD_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define EDGEAD_ABI_VERSION 1u

/* Fixed width: an enum has no fixed ABI size. Values are never reused. */
typedef int32_t edgead_status;
#define EDGEAD_OK 0
#define EDGEAD_ERR_INVALID_ARGUMENT 1 /* the caller's programming error: NULL, zero size, unknown value */
#define EDGEAD_ERR_INVALID_IMAGE 2    /* the frame does not fit the options: size, stride, ROI, pixel format */
#define EDGEAD_ERR_BUFFER_TOO_SMALL 3 /* the message states the needed size */
#define EDGEAD_ERR_UNSUPPORTED 4      /* well formed, but this build or CPU cannot do it */
#define EDGEAD_ERR_OUT_OF_MEMORY 5    /* never in the hot path */
#define EDGEAD_ERR_INTERNAL 6         /* a bug in the library */
#define EDGEAD_ERR_NOT_FOUND 7        /* no such bundle, or no such target in it */
#define EDGEAD_ERR_BUNDLE 8           /* the bundle is damaged, unsafe or of another schema */
#define EDGEAD_ERR_RUNTIME_MISSING 9  /* the engine's library is not here, or is of another version */
#define EDGEAD_ERR_ENGINE 10          /* the engine refuses the graph or the precision, or failed on a frame */
#define EDGEAD_ERR_SELF_TEST 11       /* the golden images do not give on this machine what they gave at export */
#define EDGEAD_ERR_INVALID_STATE 12   /* the caller's: a session used by two threads at once */

/* Pixel formats, named as GenICam's PFNC. MONO10/12/16: unpacked little-endian uint16, value >> (bits - 8)
 * becomes 8 bit before resampling (255 for values that have more bits). Alpha is dropped. Bayer: OpenCV's
 * bilinear demosaic of the whole frame; an ROI sees the pixels around it. */
#define EDGEAD_PIXEL_MONO8 1u
#define EDGEAD_PIXEL_MONO10 2u
#define EDGEAD_PIXEL_MONO12 3u
#define EDGEAD_PIXEL_MONO16 4u
#define EDGEAD_PIXEL_RGB8 5u
#define EDGEAD_PIXEL_BGR8 6u
#define EDGEAD_PIXEL_RGBA8 7u
#define EDGEAD_PIXEL_BGRA8 8u
#define EDGEAD_PIXEL_BAYER_RG8 9u
#define EDGEAD_PIXEL_BAYER_GR8 10u
#define EDGEAD_PIXEL_BAYER_GB8 11u
#define EDGEAD_PIXEL_BAYER_BG8 12u

/* Pillow: release 13. Older ones always filter horizontally first, 13 filters vertically first where
 * rows dropped > 2 * columns dropped; there the two differ by one step in places. */
#define EDGEAD_RESAMPLER_PILLOW_BILINEAR 1u /* bit-exact with Pillow's antialiased BILINEAR */
#define EDGEAD_RESAMPLER_OPENCV_LINEAR 2u   /* bit-exact with OpenCV's INTER_LINEAR */

/* Bits of cpu_mask: instruction sets that a kernel may use. ~0 = whatever the CPU has. */
#define EDGEAD_CPU_AVX2 ((uint64_t)1)   /* with FMA, F16C and BMI: x86-64-v3 */
#define EDGEAD_CPU_AVX512 ((uint64_t)2) /* F, BW, CD, DQ, VL: x86-64-v4 */
#define EDGEAD_CPU_NEON ((uint64_t)4)
#define EDGEAD_CPU_VNNI ((uint64_t)8) /* AVX512_VNNI, beside EDGEAD_CPU_AVX512 */

EDGEAD_API uint32_t edgead_abi_version(void);
EDGEAD_API const char *edgead_version_string(void);           /* static, e.g. "0.1.0" */
EDGEAD_API const char *edgead_status_string(edgead_status s); /* static, never NULL */
/* OK where this library serves a caller that was compiled with header_version = EDGEAD_ABI_VERSION of its header;
 * else EDGEAD_ERR_UNSUPPORTED, and the message names both. Call it first. */
EDGEAD_API edgead_status edgead_abi_check(uint32_t header_version, char *error_buf, size_t error_buf_size);
/* The clock of all times here: monotonic, nanoseconds (CLOCK_MONOTONIC on Linux). */
EDGEAD_API uint64_t edgead_clock_ns(void);
/* Instruction sets of this CPU that this build has kernels for, as EDGEAD_CPU_* bits. The environment variable
 * EDGEAD_FORCE_KERNEL (scalar, avx2, avx512, neon), read once, caps it: for tests. */
EDGEAD_API uint64_t edgead_cpu_features(void);
/* Name of the kernel level that cpu_mask selects here: "scalar", "avx2", "avx512" or "neon". Static. */
EDGEAD_API const char *edgead_kernel_name(uint64_t cpu_mask);

/* A view of the caller's pixels. ROI: roi_width = roi_height = 0 means the whole frame. */
typedef struct edgead_image {
  uint32_t struct_size;
  uint32_t pixel_format; /* EDGEAD_PIXEL_* */
  const void *data;
  uint32_t width;  /* pixels */
  uint32_t height; /* pixels */
  size_t row_stride_bytes;
  uint32_t roi_x, roi_y, roi_width, roi_height; /* pixels; Bayer: the phase follows the frame, not the ROI */
  uint64_t trigger_timestamp_ns; /* carried to the result; see edgead_session_options.deadline_clock */
  uint64_t part_id;              /* carried to the result */
} edgead_image;

EDGEAD_API void edgead_image_init(edgead_image *image, uint32_t struct_size);

/* ---- Preprocess: ROI -> resample to (resize_height, resize_width) -> output window, as uint8 RGB HWC. ---- */

typedef struct edgead_preprocessor edgead_preprocessor;

typedef struct edgead_preprocess_options {
  uint32_t struct_size;
  uint32_t resampler;    /* EDGEAD_RESAMPLER_* */
  uint32_t pixel_format; /* of the frames to come */
  uint32_t source_width, source_height; /* of the ROI (of the frame where there is none), pixels */
  uint32_t resize_width, resize_height;
  uint32_t window_x, window_y, window_width, window_height; /* inside the resized image; 0,0,0,0 = all of it */
  uint64_t cpu_mask;                                        /* default ~0 */
} edgead_preprocess_options;

EDGEAD_API void edgead_preprocess_options_init(edgead_preprocess_options *options, uint32_t struct_size);
EDGEAD_API edgead_status edgead_preprocessor_create(const edgead_preprocess_options *options,
                                                    edgead_preprocessor **out_preprocessor, char *error_buf,
                                                    size_t error_buf_size);
/* dst: window_height rows of window_width RGB triples, row stride >= 3 * window_width bytes, must not overlap
 * the frame. dst_capacity in bytes. Only the window is computed. */
EDGEAD_API edgead_status edgead_preprocessor_run(edgead_preprocessor *preprocessor, const edgead_image *image,
                                                 uint8_t *dst, size_t dst_row_stride_bytes, size_t dst_capacity,
                                                 char *error_buf, size_t error_buf_size);
EDGEAD_API void edgead_preprocessor_destroy(edgead_preprocessor *preprocessor);

/* ---- Postprocess: raw channels -> map, score, mask, heatmap, regions, in one pass. ---- */

typedef struct edgead_postprocessor edgead_postprocessor;

#define EDGEAD_GAMMA_BEFORE 0u /* gamma is added to the combined grid, before the operator */
#define EDGEAD_GAMMA_AFTER 1u  /* gamma is added to the operator's output */

#define EDGEAD_SCORE_MAX_GRID 1u   /* maximum of the combined grid (gamma included) before the operator */
#define EDGEAD_SCORE_MAX 2u        /* maximum of the map */
#define EDGEAD_SCORE_TOP_K_SUM 3u  /* sum of the top_k largest map values */
#define EDGEAD_SCORE_TOP_K_MEAN 4u /* their mean */
#define EDGEAD_SCORE_GRAPH 5u      /* graph_score of the run call, unchanged */

/* A banded matrix (rows x cols): row r holds `band` weights for columns start[r] .. start[r] + band - 1, all
 * inside 0 .. cols - 1. */
typedef struct edgead_banded {
  uint32_t rows, cols, band;
  const int32_t *start;  /* rows */
  const float *weights;  /* rows * band */
} edgead_banded;

/* map = M_h * (sum_k alpha[k] * raw[k] + gamma) * M_w^T */
typedef struct edgead_postprocess_options {
  uint32_t struct_size;
  uint32_t channels;                /* K >= 1 */
  uint32_t grid_height, grid_width; /* of each raw channel */
  const float *alpha;               /* K; NULL = all 1 */
  float gamma;
  uint32_t gamma_stage;        /* EDGEAD_GAMMA_* */
  edgead_banded operator_h;    /* rows = map height, cols = grid_height */
  edgead_banded operator_w;    /* rows = map width,  cols = grid_width */
  uint32_t score_rule;         /* EDGEAD_SCORE_* */
  uint32_t top_k;              /* for the top_k rules, 1 .. map height * map width */
  uint64_t cpu_mask;           /* default ~0 */
} edgead_postprocess_options;

EDGEAD_API void edgead_postprocess_options_init(edgead_postprocess_options *options, uint32_t struct_size);
EDGEAD_API edgead_status edgead_postprocessor_create(const edgead_postprocess_options *options,
                                                     edgead_postprocessor **out_postprocessor, char *error_buf,
                                                     size_t error_buf_size);

/* An 8-connected area of map values >= pixel_threshold. */
typedef struct edgead_region {
  uint32_t x, y, width, height; /* box, map pixels */
  uint32_t area;                /* map pixels at or above the threshold */
  float peak;                   /* highest raw map value inside */
} edgead_region;

typedef struct edgead_post_params {
  uint32_t struct_size;
  float pixel_threshold; /* raw units */
  float heatmap_low;     /* raw value shown as 0 */
  float heatmap_high;    /* raw value shown as 255, > heatmap_low; values round half away from zero, clamped */
  float graph_score;     /* EDGEAD_SCORE_GRAPH only */
  uint32_t min_area;     /* smaller regions are left out of `regions` (the mask keeps them) */
} edgead_post_params;

EDGEAD_API void edgead_post_params_init(edgead_post_params *params, uint32_t struct_size);

/* Fields above the line are the caller's buffers: NULL = not wanted; they must not overlap. Capacities in
 * elements. NaN anywhere in the raw channels makes score_raw NaN: a caller must read that as ERROR. Map pixels that
 * are NaN get 0 in mask and heatmap; infinities follow the arithmetic. */
typedef struct edgead_post_result {
  uint32_t struct_size;
  uint32_t regions_capacity;
  float *map; /* map height * map width, rows packed */
  size_t map_capacity;
  uint8_t *mask; /* 0 or 255 */
  size_t mask_capacity;
  uint8_t *heatmap;
  size_t heatmap_capacity;
  edgead_region *regions; /* highest peak first, then by y, then x */
  /* ---- written by the library ---- */
  uint32_t regions_count; /* written to `regions` */
  uint32_t regions_total; /* of at least min_area, >= regions_count */
  float score_raw;
  float map_max; /* raw; NaN where the map holds a NaN */
} edgead_post_result;

EDGEAD_API void edgead_post_result_init(edgead_post_result *result, uint32_t struct_size);

/* raw: channels * grid_height * grid_width floats, packed. */
EDGEAD_API edgead_status edgead_postprocessor_run(edgead_postprocessor *postprocessor, const float *raw,
                                                  size_t raw_count, const edgead_post_params *params,
                                                  edgead_post_result *result, char *error_buf,
                                                  size_t error_buf_size);
EDGEAD_API void edgead_postprocessor_destroy(edgead_postprocessor *postprocessor);

/* ---- Windowed search: query descriptors against a bank of references, the head of engines named "...+window_search".
 * A model runs it by itself; these functions are for who has the queries from elsewhere. ---- */

typedef struct edgead_window_search edgead_window_search;

#define EDGEAD_BANK_FP32 1u
#define EDGEAD_BANK_FP16 2u
#define EDGEAD_BANK_INT8 3u /* round(127 * v) */

/* Level 0 is the finest; the maps of the others are interpolated to its size. */
typedef struct edgead_search_level {
  uint32_t height, width; /* of the query and of every reference, cells */
  uint32_t window;        /* side of the window in which a reference may lie off: odd, 1 to 7 */
  uint32_t reserved;      /* 0 */
  const void *bank;       /* (references, height, dim, width), packed, little-endian; vectors over dim of length 1. It
                           * is not copied, in spite of the conventions above: it must stay as it is until destroy */
  size_t bank_bytes;
} edgead_search_level;

typedef struct edgead_window_search_options {
  uint32_t struct_size;
  uint32_t references; /* N, in the bank */
  uint32_t nearest;    /* K, searched per frame; 1 to N */
  uint32_t dim;        /* D, 1 to 4096 */
  uint32_t bank_type;  /* EDGEAD_BANK_* */
  uint32_t weighted;   /* 1 = the map is multiplied by a weight */
  uint32_t levels_count; /* 1 to 8 */
  uint32_t map_height, map_width;
  uint32_t reserved; /* 0 */
  const edgead_search_level *levels;
  uint64_t cpu_mask; /* default ~0 */
} edgead_window_search_options;

EDGEAD_API void edgead_window_search_options_init(edgead_window_search_options *options, uint32_t struct_size);
EDGEAD_API edgead_status edgead_window_search_create(const edgead_window_search_options *options,
                                                     edgead_window_search **out_search, char *error_buf,
                                                     size_t error_buf_size);
/* Per level, the distance of a query vector q at (y, x) is 1 - max(<q, r>) / (|q| + 1e-8) over the vectors r of the
 * `nearest` references inside the window around (y, x) and inside the map. map = the levels' sum, interpolated
 * bilinearly (half-pixel centres) to map_height * map_width, times the weight, interpolated alike.
 * queries: for each level (dim, height, width), packed, not normalised. references: `nearest` indices, 0 .. N - 1; one
 * outside is EDGEAD_ERR_ENGINE. weight: (height, width) of level 0, or NULL where not weighted. map: map_height *
 * map_width floats, which must not overlap the others; map_capacity in elements. A query that is NaN, infinite or
 * longer than 1e34 makes NaN, of map pixels around it, too. */
EDGEAD_API edgead_status edgead_window_search_run(edgead_window_search *search, const float *const *queries,
                                                  const int32_t *references, const float *weight, float *map,
                                                  size_t map_capacity, char *error_buf, size_t error_buf_size);
EDGEAD_API void edgead_window_search_destroy(edgead_window_search *search);

/* ---- Bank search: the nearest vector of a bank for each query, the head of engines named "...+bank_search". A model
 * runs it by itself; these functions are for who has the queries from elsewhere. ---- */

typedef struct edgead_bank_search edgead_bank_search;

typedef struct edgead_bank_search_options {
  uint32_t struct_size;
  uint32_t dim;     /* D, 1 to 4096 */
  uint32_t vectors; /* N, in the bank; 1 to 2^26 */
  uint32_t queries; /* M, most per run; 1 to 2^20; default 1 */
  uint32_t threads; /* that a run uses, the caller's among them; 0 = the process's cores, at most 16 */
  uint32_t neighbours; /* K, 0 to 64; 0 = runs give no score */
  const float *bank; /* (vectors, dim), packed; values finite and at most 1e15. It is not copied, in spite of the
                      * conventions above: it must stay as it is until destroy */
  size_t bank_bytes;
  const int32_t *near; /* (vectors, neighbours): for each vector of the bank those nearest to it, itself first. Not
                        * copied either. NULL where neighbours is 0 */
  size_t near_bytes;
  uint64_t cpu_mask; /* default ~0 */
} edgead_bank_search_options;

EDGEAD_API void edgead_bank_search_options_init(edgead_bank_search_options *options, uint32_t struct_size);
/* Codes the bank: up to half of its size more memory where the CPU has VNNI, else up to twice its size. */
EDGEAD_API edgead_status edgead_bank_search_create(const edgead_bank_search_options *options,
                                                   edgead_bank_search **out_search, char *error_buf,
                                                   size_t error_buf_size);
/* Exact: the vector that has the least distance in double precision, of equally near ones the first. A run takes
 * longest where very many vectors are nearly equally near. queries: (count, dim), packed. indices: count, may be NULL.
 * distances: count, Euclidean. capacity in elements, of both. A query that is not finite gets 0 and NaN.
 * score: NULL, or, where there are neighbours, one value: with q the query whose distance s is the largest (the first of
 * equal ones), b the vector found for it and d the distances of q to the neighbours of b, s * (1 - softmax(d)[0]); NaN
 * where a distance is. */
EDGEAD_API edgead_status edgead_bank_search_run(edgead_bank_search *search, const float *queries, uint32_t count,
                                                int32_t *indices, float *distances, size_t capacity, float *score,
                                                char *error_buf, size_t error_buf_size);
EDGEAD_API void edgead_bank_search_destroy(edgead_bank_search *search);

/* ---- Model: an opened, verified bundle and one engine that is compiled from it. ---- */

typedef struct edgead_model edgead_model;

#define EDGEAD_LOG_INFO 1
#define EDGEAD_LOG_WARNING 2

/* Called by the thread that called the library, or by the keep-warm thread, never from a *_run function. `message`
 * is valid during the call. */
typedef void (*edgead_log_callback)(void *user_data, int32_t level, const char *message);

typedef struct edgead_model_options {
  uint32_t struct_size;
  uint32_t threads;           /* compute threads of the engine; 0 = its own choice */
  uint32_t streams;           /* frames that the engine works on at once, for sessions in parallel; default 1 */
  uint32_t pin_cores;         /* 1 = the engine pins its threads to cores; default 0 */
  uint32_t skip_self_test;    /* 1 = do not run the golden images at open; default 0. Refused for a target that its
                               * bundle calls not verified */
  uint32_t without_engine;    /* 1 = for inspection: no engine is opened, no session can be made; default 0 */
  const char *target;         /* such as "openvino:fp32"; NULL = the bundle's first whose engine can be opened */
  const char *engine_library; /* path of the engine's library, UTF-8. NULL = the environment variable
                               * EDGEAD_OPENVINO_LIBRARY, EDGEAD_ONNXRUNTIME_LIBRARY or EDGEAD_TENSORRT_LIBRARY, else
                               * the loader's search */
  const char *cache_dir;      /* an existing folder for the engine's compiled models, UTF-8; NULL = none */
  uint64_t cpu_mask;          /* of libedgead's own kernels; default ~0 */
  edgead_log_callback log;    /* NULL = silence */
  void *log_user_data;
} edgead_model_options;

EDGEAD_API void edgead_model_options_init(edgead_model_options *options, uint32_t struct_size);

/* path: a bundle's directory or zip, UTF-8. Every hash is checked before the manifest is parsed or an engine sees a
 * file; afterwards the bundle may be moved or removed. Thresholds that were set on site (the side-car beside the
 * bundle) are used. options may be NULL. Takes as long as the engine needs to compile. */
EDGEAD_API edgead_status edgead_model_open(const char *path, const edgead_model_options *options,
                                           edgead_model **out_model, char *error_buf, size_t error_buf_size);
/* Sessions of the model stay usable; what they share goes with the last of them. */
EDGEAD_API void edgead_model_close(edgead_model *model);

/* Decision limits in the detector's raw units. Each threshold is above its median. */
typedef struct edgead_thresholds {
  uint32_t struct_size;
  uint32_t reserved;
  double image;        /* a score >= it is NG */
  double pixel;        /* a map value >= it belongs to a region */
  double image_median; /* of good images; scale the normalised score and the heatmap */
  double pixel_median;
} edgead_thresholds;

EDGEAD_API void edgead_thresholds_init(edgead_thresholds *thresholds, uint32_t struct_size);
EDGEAD_API edgead_status edgead_model_get_thresholds(const edgead_model *model, edgead_thresholds *out_thresholds,
                                                     char *error_buf, size_t error_buf_size);
/* Every session decides by them from its next frame on. Nothing is written to disk. */
EDGEAD_API edgead_status edgead_model_set_thresholds(edgead_model *model, const edgead_thresholds *thresholds,
                                                     char *error_buf, size_t error_buf_size);

#define EDGEAD_SELF_TEST_NOT_RUN 0u
#define EDGEAD_SELF_TEST_PASSED 1u
#define EDGEAD_SELF_TEST_FAILED 2u

/* What a model is. Strings are UTF-8, never NULL, and live as long as the model and until its next reload. */
typedef struct edgead_model_info {
  uint32_t struct_size;
  uint32_t schema;                    /* of the bundle */
  uint32_t input_width, input_height; /* the preprocessed image, which the network sees as a whole or in tiles */
  uint32_t map_width, map_height;     /* map, mask and heatmap at the network's resolution */
  uint32_t has_roi;                   /* 1 = the bundle looks at the ROI below, in frame pixels */
  uint32_t roi_x, roi_y, roi_width, roi_height;
  uint32_t targets_count; /* for edgead_model_target */
  uint32_t self_test;     /* EDGEAD_SELF_TEST_*: the last one */
  uint32_t generation;    /* 1 after open, one more with each reload */
  const char *digest;     /* the bundle's identity: "sha256:<64 hex digits>" */
  const char *detector;   /* such as "simplenet" */
  const char *created_by;
  const char *target;         /* in use; "" without an engine */
  const char *engine_version; /* of its library */
  const char *engine_library; /* where that was found */
  const char *manifest_json;  /* manifest.json, terminated */
  const char *file_hashes;    /* MANIFEST.sha256, terminated */
} edgead_model_info;

EDGEAD_API void edgead_model_info_init(edgead_model_info *info, uint32_t struct_size);
EDGEAD_API edgead_status edgead_model_inspect(const edgead_model *model, edgead_model_info *out_info, char *error_buf,
                                              size_t error_buf_size);
/* Name of the bundle's target `index` (0 = preferred); NULL beyond the last. Lives as edgead_model_info's. */
EDGEAD_API const char *edgead_model_target(const edgead_model *model, uint32_t index);

typedef struct edgead_self_test_result {
  uint32_t struct_size;
  uint32_t passed; /* 0 or 1 */
  uint32_t images;
  uint32_t reserved;
  double score_shift_max, score_tolerance; /* raw units */
  double map_shift_max, map_tolerance;
} edgead_self_test_result;

EDGEAD_API void edgead_self_test_result_init(edgead_self_test_result *result, uint32_t struct_size);
/* Runs the golden images. EDGEAD_OK also where they fail (see `passed`): from then on every run says
 * EDGEAD_ERR_SELF_TEST and ERROR, until a self-test passes or another bundle is loaded. */
EDGEAD_API edgead_status edgead_model_self_test(edgead_model *model, edgead_self_test_result *out_result,
                                                char *error_buf, size_t error_buf_size);

/* Whenever no session has run for interval_ns, a thread of the library runs a golden image, so that the next frame
 * finds warm caches and clocks. A frame that arrives meanwhile may wait for that one inference. At least 1 ms; 0 stops
 * it. */
EDGEAD_API edgead_status edgead_model_keep_warm(edgead_model *model, uint64_t interval_ns, char *error_buf,
                                                size_t error_buf_size);

/* Opens another bundle with the options of edgead_model_open (target and all), self-tests and warms it up for every
 * session on the calling thread, and only then hands it over: each session's next frame is judged by it, none waits.
 * If anything fails the old bundle stays. The new one must have the same map size. */
EDGEAD_API edgead_status edgead_model_reload(edgead_model *model, const char *path, char *error_buf,
                                             size_t error_buf_size);

/* ---- Session: one worker's way from frame to decision. ---- */

typedef struct edgead_session edgead_session;

#define EDGEAD_DEADLINE_FROM_CALL 0u    /* counts from the start of edgead_session_run */
#define EDGEAD_DEADLINE_FROM_TRIGGER 1u /* from image.trigger_timestamp_ns, in the time of edgead_clock_ns */

typedef struct edgead_session_options {
  uint32_t struct_size;
  uint32_t min_area;       /* smaller regions are left out, map pixels; default 1 */
  uint64_t deadline_ns;    /* 0 = none */
  uint32_t deadline_clock; /* EDGEAD_DEADLINE_* */
  uint32_t deadline_hard;  /* 1 = a missed deadline makes the decision ERROR; default 0: only deadline_missed */
} edgead_session_options;

EDGEAD_API void edgead_session_options_init(edgead_session_options *options, uint32_t struct_size);
/* options may be NULL. */
EDGEAD_API edgead_status edgead_session_create(edgead_model *model, const edgead_session_options *options,
                                               edgead_session **out_session, char *error_buf, size_t error_buf_size);
EDGEAD_API void edgead_session_destroy(edgead_session *session);

#define EDGEAD_RESOLUTION_NETWORK 0u /* map_height * map_width of edgead_model_info */
#define EDGEAD_RESOLUTION_FRAME 1u   /* height * width of the frame, interpolated linearly */

/* Plans for frames of the size, pixel format and ROI of `image` (its data may be NULL), so that the first one is as
 * fast as the rest and allocates nothing. resolution: EDGEAD_RESOLUTION_*, of the results to come. A session keeps
 * plans for the last 8 kinds of frames. */
EDGEAD_API edgead_status edgead_session_prepare(edgead_session *session, const edgead_image *image,
                                                uint32_t resolution, char *error_buf, size_t error_buf_size);
/* Runs a golden image `runs` times through engine and post kernel. */
EDGEAD_API edgead_status edgead_session_warm_up(edgead_session *session, uint32_t runs, char *error_buf,
                                                size_t error_buf_size);

#define EDGEAD_DECISION_ERROR 0 /* what a zeroed result reads as */
#define EDGEAD_DECISION_OK 1
#define EDGEAD_DECISION_NG 2

/* Fields above the line are the caller's: buffers (NULL = not wanted; they must not overlap; rows packed;
 * capacities in elements) and how they are filled. At frame resolution, pixels that the network does not see (outside
 * of ROI and window) are NaN in the map, 0 in mask and heatmap. */
typedef struct edgead_result {
  uint32_t struct_size;
  uint32_t resolution; /* EDGEAD_RESOLUTION_*, of map, mask and heatmap */
  float *map;          /* raw units */
  size_t map_capacity;
  uint8_t *mask; /* 0 or 255 */
  size_t mask_capacity;
  uint8_t *heatmap; /* 0 to 255: the good median to as far above the pixel threshold; the threshold at 127.5 */
  size_t heatmap_capacity;
  edgead_region *regions; /* in frame pixels, highest peak first; area: frame pixels */
  uint32_t regions_capacity;
  uint32_t preprocessed; /* 1 = the image is the network's input as it is: RGB8 of the input's size, rows packed or
                          * apart; regions then are in map pixels. Default 0 */
  /* ---- written by the library ---- */
  int32_t decision;         /* EDGEAD_DECISION_*; ERROR on every status but EDGEAD_OK, and for a score of NaN or inf */
  uint32_t deadline_missed; /* 0 or 1 */
  uint32_t regions_count;   /* written to `regions` */
  uint32_t regions_total;   /* of at least min_area, >= regions_count */
  float score_raw;          /* the detector's units, higher = more anomalous */
  float map_max;            /* raw, at the network's resolution */
  double score;             /* 0.5 + 0.5 * (score_raw - threshold) / (threshold - good median): 0.5 at the threshold */
  uint64_t part_id, trigger_timestamp_ns; /* of the image */
  uint64_t preprocess_ns, engine_ns, post_ns, total_ns; /* total: the whole call */
  uint32_t generation;      /* of the bundle that judged; see edgead_model_info */
  uint32_t reserved;
} edgead_result;

EDGEAD_API void edgead_result_init(edgead_result *result, uint32_t struct_size);
/* Frames may change their size, format and ROI from call to call. image.roi cuts the frame first; the bundle's own
 * ROI, where there is one, counts inside it. */
EDGEAD_API edgead_status edgead_session_run(edgead_session *session, const edgead_image *image, edgead_result *result,
                                            char *error_buf, size_t error_buf_size);

#ifdef __cplusplus
}
#endif
#endif /* EDGEAD_H */
