/* edgead.h - C ABI of libedgead: camera pixels in, decisions out.
 *
 * Conventions
 *   Ownership  every edgead_*_create has one edgead_*_destroy; destroy(NULL) is a no-op. Buffers belong to the
 *              caller; the library keeps no pointer to them after a call returns. Tables named in an options
 *              struct are copied by create.
 *   Errors     fallible calls return edgead_status; out-parameters are written only on EDGEAD_OK. A sentence for
 *              a person goes to error_buf (may be NULL), cut to error_buf_size, always terminated.
 *   Threads    an object may be used by one thread at a time; distinct objects are independent.
 *   Hot path   edgead_preprocessor_run and edgead_postprocessor_run allocate nothing, take no lock, print
 *              nothing, and read no byte outside the stated buffers.
 *   Versions   structs begin with struct_size = sizeof(the struct as the caller compiled it); fields are only
 *              ever added at the end. edgead_abi_version() rises only by an incompatible change.
 *
 * Use: fill options with edgead_*_options_init, set fields, create, run per frame, destroy.
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
#define EDGEAD_ERR_OUT_OF_MEMORY 5    /* create only */
#define EDGEAD_ERR_INTERNAL 6         /* a bug in the library */

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

EDGEAD_API uint32_t edgead_abi_version(void);
EDGEAD_API const char *edgead_version_string(void);           /* static, e.g. "0.1.0" */
EDGEAD_API const char *edgead_status_string(edgead_status s); /* static, never NULL */
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

#ifdef __cplusplus
}
#endif
#endif /* EDGEAD_H */
