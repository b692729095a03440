/* A triggered line: a camera thread fills a ring of frame buffers, a worker judges them, a part passes on OK alone.
 *
 * triggered_line BUNDLE [options] [FRAME.pgm|FRAME.ppm ...]     without files, frames of a drawn pattern
 *   --target T          such as openvino:fp32; default: the bundle's first that runs here
 *   --library PATH      of the engine; default: EDGEAD_OPENVINO_LIBRARY and the like, then the loader's search
 *   --parts N           default: one per file, 50 without files
 *   --interval-ms X     between two triggers, default 50; 0 = as soon as there is a free buffer
 *   --deadline-ms X     from trigger to decision, default 100; later is a reject. 0 = none
 *   --keep-warm-ms X    run the engine after a pause that long; default 0 = never
 */
#define _POSIX_C_SOURCE 200809L

#include <edgead/edgead.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLOTS 8u        /* frames that may wait: the longest pause that goes unnoticed, in triggers */
#define REGIONS 16u
#define BINS 5000u      /* of the latency histogram, 0.1 ms each: fixed memory, however long the line runs */
#define BIN_NS 100000u
#define P99_SAMPLES 1000u /* fewer do not carry a 99th percentile */

typedef struct picture { /* a file in the place of a camera */
  const char *name;
  uint8_t *pixels;
  uint32_t width, height, format;
  size_t stride;
} picture;

typedef struct slot {
  uint8_t *pixels; /* yours comes from the driver; it is read where it lies */
  edgead_image image;
  const char *name;
} slot;

typedef struct line {
  const picture *pictures;
  uint64_t picture_count, parts, interval_ns, deadline_ns;
  edgead_session *session;
  pthread_mutex_t mutex;
  pthread_cond_t filled, freed;
  slot slots[SLOTS];
  uint32_t first, count; /* the oldest full slot, and how many are full; the one being judged counts */
  int camera_done;
  uint64_t judged, rejected, dropped, late, worst_ns, bins[BINS + 1];
} line;

static volatile sig_atomic_t stop_requested;

static void on_signal(int number) {
  (void)number;
  stop_requested = 1;
}

static void log_message(void *user_data, int32_t level, const char *message) {
  (void)user_data;
  fprintf(stderr, "%s%s\n", level == EDGEAD_LOG_WARNING ? "warning: " : "", message);
}

/* The place of the output to the PLC. Whatever is not OK is a reject. */
static void gate(uint64_t part, int32_t decision, double score, const char *note) {
  static const char *const names[] = {"ERROR", "OK", "NG"};
  printf("%s %-5s %8.4f part %llu %s\n", decision == EDGEAD_DECISION_OK ? "pass  " : "REJECT", names[decision], score,
         (unsigned long long)part, note);
  fflush(stdout);
}

static void *camera(void *argument) {
  line *l = argument;
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  for (uint64_t part = 0; part < l->parts && !stop_requested; ++part) {
    if (l->interval_ns > 0) { /* absolute times: a late trigger does not shift those after it */
      const uint64_t ns = (uint64_t)next.tv_nsec + l->interval_ns;
      next.tv_sec += (time_t)(ns / 1000000000u);
      next.tv_nsec = (long)(ns % 1000000000u);
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    const uint64_t trigger = edgead_clock_ns();
    const picture *from = &l->pictures[part % l->picture_count];
    pthread_mutex_lock(&l->mutex);
    while (l->interval_ns == 0 && l->count == SLOTS) pthread_cond_wait(&l->freed, &l->mutex);
    const int full = l->count == SLOTS;
    slot *to = &l->slots[(l->first + l->count) % SLOTS];
    if (full) { /* nobody has seen this part */
      ++l->dropped;
      ++l->rejected;
    }
    pthread_mutex_unlock(&l->mutex);
    if (full) {
      gate(part, EDGEAD_DECISION_ERROR, NAN, "dropped: no free buffer");
      continue;
    }
    memcpy(to->pixels, from->pixels, from->stride * from->height); /* what the driver's DMA does */
    to->name = from->name;
    edgead_image_init(&to->image, sizeof to->image);
    to->image.data = to->pixels;
    to->image.pixel_format = from->format;
    to->image.width = from->width;
    to->image.height = from->height;
    to->image.row_stride_bytes = from->stride;
    to->image.part_id = part;
    to->image.trigger_timestamp_ns = l->interval_ns > 0 ? trigger : edgead_clock_ns();
    pthread_mutex_lock(&l->mutex);
    ++l->count;
    pthread_cond_signal(&l->filled);
    pthread_mutex_unlock(&l->mutex);
  }
  pthread_mutex_lock(&l->mutex);
  l->camera_done = 1;
  pthread_cond_signal(&l->filled);
  pthread_mutex_unlock(&l->mutex);
  return NULL;
}

/* Judges until the camera has stopped and the ring is empty: no triggered part goes without an answer. */
static void work(line *l) {
  edgead_region regions[REGIONS];
  edgead_result result;
  char message[512], note[768];
  edgead_result_init(&result, sizeof result);
  result.regions = regions;
  result.regions_capacity = REGIONS;
  for (;;) {
    pthread_mutex_lock(&l->mutex);
    while (l->count == 0 && !l->camera_done) pthread_cond_wait(&l->filled, &l->mutex);
    const int done = l->count == 0;
    slot *next = &l->slots[l->first];
    pthread_mutex_unlock(&l->mutex);
    if (done) return;

    const edgead_status status = edgead_session_run(l->session, &next->image, &result, message, sizeof message);
    const uint64_t latency = edgead_clock_ns() - next->image.trigger_timestamp_ns;
    /* deadline_hard made a late answer an ERROR; this one also counts calls that failed late */
    const int late = l->deadline_ns > 0 && latency > l->deadline_ns;
    if (status != EDGEAD_OK)
      snprintf(note, sizeof note, "%s: %s", next->name, message);
    else if (result.decision != EDGEAD_DECISION_ERROR && result.regions_count > 0)
      snprintf(note, sizeof note, "%s %u regions, highest at %u,%u", next->name, result.regions_total, regions[0].x,
               regions[0].y);
    else
      snprintf(note, sizeof note, "%s%s", next->name, late ? " late" : "");
    const int32_t decision = late ? EDGEAD_DECISION_ERROR : result.decision;
    gate(next->image.part_id, decision, status == EDGEAD_OK ? result.score : NAN, note);

    pthread_mutex_lock(&l->mutex);
    ++l->judged;
    l->late += late ? 1 : 0;
    l->rejected += decision != EDGEAD_DECISION_OK;
    l->worst_ns = latency > l->worst_ns ? latency : l->worst_ns;
    ++l->bins[latency / BIN_NS < BINS ? latency / BIN_NS : BINS];
    l->first = (l->first + 1) % SLOTS;
    --l->count;
    pthread_cond_signal(&l->freed);
    pthread_mutex_unlock(&l->mutex);
  }
}

/* Upper end of the bin in which the share of all latencies lies, in ms. */
static double percentile(const line *l, double share) {
  const double wanted = share * (double)l->judged;
  uint64_t seen = 0;
  for (uint32_t bin = 0; bin < BINS; ++bin)
    if ((double)(seen += l->bins[bin]) >= wanted) return (bin + 1) * (BIN_NS / 1e6);
  return (double)l->worst_ns / 1e6;
}

static void print_statistics(const line *l) {
  printf("%llu judged, %llu rejected, %llu dropped, %llu late\n", (unsigned long long)l->judged,
         (unsigned long long)l->rejected, (unsigned long long)l->dropped, (unsigned long long)l->late);
  if (l->judged == 0) return;
  printf("trigger to decision: median %.1f ms, ", percentile(l, 0.5));
  if (l->judged >= P99_SAMPLES) printf("99th percentile %.1f ms, ", percentile(l, 0.99));
  printf("longest %.1f ms\n", (double)l->worst_ns / 1e6);
}

/* Binary PGM (P5) and PPM (P6) with 8 bits. Returns 0 where the file is something else. */
static int read_picture(const char *path, picture *out) {
  FILE *file = fopen(path, "rb");
  unsigned width = 0, height = 0, most = 0;
  char kind = 0;
  if (file == NULL) return 0;
  const int read = fscanf(file, "P%c %u %u %u", &kind, &width, &height, &most);
  const size_t step = kind == '6' ? 3 : 1;
  int good = read == 4 && (kind == '5' || kind == '6') && most == 255 && width > 0 && width < 65536 && height > 0 &&
             height < 65536 && fgetc(file) != EOF;
  if (good) {
    const size_t size = step * width * height;
    *out = (picture){path, malloc(size), width, height, step == 3 ? EDGEAD_PIXEL_RGB8 : EDGEAD_PIXEL_MONO8,
                     step * width};
    good = out->pixels != NULL && fread(out->pixels, 1, size, file) == size;
  }
  fclose(file);
  return good;
}

static int draw_picture(picture *out) {
  *out = (picture){"drawn", malloc((size_t)1280 * 1024), 1280, 1024, EDGEAD_PIXEL_MONO8, 1280};
  if (out->pixels == NULL) return 0;
  for (uint32_t y = 0; y < out->height; ++y)
    for (uint32_t x = 0; x < out->width; ++x) out->pixels[y * out->stride + x] = (uint8_t)(96 + ((x ^ y) & 63));
  return 1;
}

static int fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  return 1;
}

int main(int argc, char **argv) {
  static line l; /* too large for a small stack */
  edgead_model_options model_options;
  edgead_session_options session_options;
  edgead_model *model = NULL;
  char message[1024];
  double interval_ms = 50, deadline_ms = 100, keep_warm_ms = 0;
  unsigned long long parts = 0;
  int i, status = 1;

  if (argc < 2) return fail("usage", "triggered_line BUNDLE [options] [FRAME.pgm ...]; its source names the options");
  if (edgead_abi_check(EDGEAD_ABI_VERSION, message, sizeof message) != EDGEAD_OK) return fail("libedgead", message);
  edgead_model_options_init(&model_options, sizeof model_options);
  edgead_session_options_init(&session_options, sizeof session_options);
  model_options.log = log_message;
  for (i = 2; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
    const char *value = argv[i + 1];
    if (strcmp(argv[i], "--target") == 0) model_options.target = value;
    else if (strcmp(argv[i], "--library") == 0) model_options.engine_library = value;
    else if (strcmp(argv[i], "--parts") == 0) parts = strtoull(value, NULL, 10);
    else if (strcmp(argv[i], "--interval-ms") == 0) interval_ms = strtod(value, NULL);
    else if (strcmp(argv[i], "--deadline-ms") == 0) deadline_ms = strtod(value, NULL);
    else if (strcmp(argv[i], "--keep-warm-ms") == 0) keep_warm_ms = strtod(value, NULL);
    else return fail(argv[i], "no such option");
  }

  const int files = argc - i;
  picture *pictures = calloc(files > 0 ? (size_t)files : 1, sizeof *pictures);
  if (pictures == NULL) return fail("pictures", "out of memory");
  for (int p = 0; p < files; ++p)
    if (!read_picture(argv[i + p], &pictures[p])) return fail(argv[i + p], "not a readable P5 or P6 file with 8 bits");
  if (files == 0 && !draw_picture(&pictures[0])) return fail("pictures", "out of memory");
  l.pictures = pictures;
  l.picture_count = files > 0 ? (uint64_t)files : 1;
  l.parts = parts > 0 ? parts : files > 0 ? (uint64_t)files : 50;
  l.interval_ns = (uint64_t)(interval_ms * 1e6);
  l.deadline_ns = (uint64_t)(deadline_ms * 1e6);

  /* Everything that can fail or takes long, before the first part: compile, self-test, plan, warm up. */
  if (edgead_model_open(argv[1], &model_options, &model, message, sizeof message) != EDGEAD_OK) goto failed;
  session_options.deadline_ns = l.deadline_ns;
  session_options.deadline_clock = EDGEAD_DEADLINE_FROM_TRIGGER;
  session_options.deadline_hard = 1;
  if (edgead_session_create(model, &session_options, &l.session, message, sizeof message) != EDGEAD_OK) goto failed;
  size_t largest = 0;
  for (uint64_t p = 0; p < l.picture_count; ++p) {
    edgead_image image;
    edgead_image_init(&image, sizeof image);
    image.pixel_format = pictures[p].format;
    image.width = pictures[p].width;
    image.height = pictures[p].height;
    image.row_stride_bytes = pictures[p].stride;
    if (edgead_session_prepare(l.session, &image, EDGEAD_RESOLUTION_NETWORK, message, sizeof message) != EDGEAD_OK)
      goto failed;
    if (pictures[p].stride * pictures[p].height > largest) largest = pictures[p].stride * pictures[p].height;
  }
  if (edgead_session_warm_up(l.session, 10, message, sizeof message) != EDGEAD_OK ||
      edgead_model_keep_warm(model, (uint64_t)(keep_warm_ms * 1e6), message, sizeof message) != EDGEAD_OK)
    goto failed;
  for (uint32_t s = 0; s < SLOTS; ++s)
    if ((l.slots[s].pixels = malloc(largest)) == NULL) {
      strcpy(message, "out of memory");
      goto failed;
    }

  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  pthread_mutex_init(&l.mutex, NULL);
  pthread_cond_init(&l.filled, NULL);
  pthread_cond_init(&l.freed, NULL);
  pthread_t thread;
  if (pthread_create(&thread, NULL, camera, &l) != 0) {
    strcpy(message, "no thread for the camera");
    goto failed;
  }
  work(&l);
  pthread_join(thread, NULL);
  print_statistics(&l);
  status = 0;

failed:
  if (status != 0) fail(argv[1], message);
  edgead_session_destroy(l.session);
  edgead_model_close(model);
  for (uint32_t s = 0; s < SLOTS; ++s) free(l.slots[s].pixels);
  for (uint64_t p = 0; p < l.picture_count; ++p) free(pictures[p].pixels);
  free(pictures);
  return status;
}
