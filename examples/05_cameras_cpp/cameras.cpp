// Several cameras, one model: a thread and a session for each camera, which share the compiled engine.
//
// cameras BUNDLE CAMERAS FRAME.pgm|FRAME.ppm ...     frame i comes from camera i mod CAMERAS
//   EDGEAD_OPENVINO_LIBRARY and the like say where the engine's library lies, unless the loader finds it.

#include <cstdio>
#include <cstdlib>
#include <edgead/edgead.hpp>
#include <fstream>
#include <functional>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

// A file in the place of a camera's buffer.
struct Picture {
  std::string name;
  std::uint32_t width = 0, height = 0, format = 0;
  std::size_t stride = 0;
  std::vector<unsigned char> pixels;

  edgead_image view() const { return edgead::image(pixels.data(), width, height, stride, format); }
};

// Binary PGM (P5) or PPM (P6), 8 bits, no comments.
Picture read_picture(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  unsigned most = 0;
  Picture picture;
  picture.name = path;
  file >> kind >> picture.width >> picture.height >> most;
  file.get();
  if (!file || (kind != "P5" && kind != "P6") || most != 255 || picture.width > 65535 || picture.height > 65535)
    throw std::runtime_error(path + " is not a readable P5 or P6 file with 8 bits");
  picture.format = kind == "P5" ? EDGEAD_PIXEL_MONO8 : EDGEAD_PIXEL_RGB8;
  picture.stride = std::size_t{picture.width} * (kind == "P5" ? 1 : 3);
  picture.pixels.resize(picture.stride * picture.height);
  if (!file.read(reinterpret_cast<char *>(picture.pixels.data()), static_cast<std::streamsize>(picture.pixels.size())))
    throw std::runtime_error(path + " is cut off");
  return picture;
}

struct Camera {
  std::vector<Picture> pictures;
  std::uint64_t rejected = 0, errors = 0, slowest_ns = 0;
};

std::mutex output;

// What one camera's thread does. Session and Result are its own; nothing is thrown where a part waits for an answer.
void judge(std::size_t number, Camera &camera, edgead::Session &session, edgead::Result &result) {
  for (const Picture &picture : camera.pictures) {
    const edgead_status status = session.try_run(picture.view(), result);
    const bool pass = result.decision() == edgead::Decision::ok;  // never so where status is an error
    camera.rejected += pass ? 0 : 1;
    camera.errors += result.decision() == edgead::Decision::error ? 1 : 0;
    if (result.raw().total_ns > camera.slowest_ns) camera.slowest_ns = result.raw().total_ns;
    static constexpr const char *names[] = {"ERROR", "OK", "NG"};
    const double score = status == EDGEAD_OK ? result.score() : std::numeric_limits<double>::quiet_NaN();
    const std::lock_guard<std::mutex> lock(output);
    std::printf("%s %-5s %8.4f camera %zu %s %s\n", pass ? "pass  " : "REJECT", names[result.raw().decision], score,
                number, picture.name.c_str(), result.message());
  }
}

int cameras(const std::string &bundle, std::size_t count, const std::vector<std::string> &files) {
  edgead_model_options options = edgead::model_options();
  options.streams = static_cast<std::uint32_t>(count);  // the engine works on that many frames at once
  edgead::Model model(bundle, options);
  const edgead_model_info info = model.inspect();
  std::printf("%s on %s %s: %ux%u pixels, %zu cameras\n", info.target, info.detector, info.digest, info.input_width,
              info.input_height, count);

  std::vector<Camera> line(count);
  for (std::size_t i = 0; i < files.size(); ++i) line[i % count].pictures.push_back(read_picture(files[i]));
  edgead::Outputs outputs;
  outputs.mask = outputs.heatmap = false;  // decisions and regions only
  std::vector<edgead::Session> sessions;
  std::vector<edgead::Result> results;
  for (const Camera &camera : line) {  // all that can throw or takes long happens here, before the first part
    sessions.emplace_back(model);
    results.emplace_back(model, outputs);
    for (const Picture &picture : camera.pictures) sessions.back().prepare(picture.view());
    sessions.back().warm_up(5);
  }

  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < count; ++i)
    threads.emplace_back(judge, i, std::ref(line[i]), std::ref(sessions[i]), std::ref(results[i]));
  for (std::thread &thread : threads) thread.join();
  for (std::size_t i = 0; i < count; ++i)
    std::printf("camera %zu: %zu judged, %llu rejected, %llu errors, slowest %.1f ms\n", i, line[i].pictures.size(),
                static_cast<unsigned long long>(line[i].rejected), static_cast<unsigned long long>(line[i].errors),
                static_cast<double>(line[i].slowest_ns) / 1e6);
  return 0;
}

}  // namespace

int main(int argc, char **argv) {
  const long count = argc > 3 ? std::strtol(argv[2], nullptr, 10) : 0;
  if (count < 1 || count > 64) {
    std::fprintf(stderr, "usage: cameras BUNDLE CAMERAS FRAME.pgm ..., with 1 to 64 cameras\n");
    return 2;
  }
  try {
    return cameras(argv[1], static_cast<std::size_t>(count), {argv + 3, argv + argc});
  } catch (const edgead::Error &error) {  // status() tells what can be done: see EDGEAD_ERR_* in edgead.h
    std::fprintf(stderr, "%s: %s (%s)\n", argv[1], error.what(), edgead_status_string(error.status()));
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  return 1;
}
