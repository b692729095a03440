// A sound bundle, as a folder and as a zip, and what the reader makes of it.

#include <cmath>
#include <filesystem>

#include "bundle/bundle.hpp"
#include "bundle_files.hpp"
#include "check.hpp"
#include "refused.hpp"

namespace fs = std::filesystem;
using edgead::Bundle;

namespace {

void check_content(const Bundle &bundle, const Files &files) {
  const edgead::Manifest &m = bundle.manifest();
  CHECK_EQ(m.schema, 1);
  CHECK(m.detector == "simplenet");
  CHECK(m.created_by.rfind("edgead ", 0) == 0);
  const std::string &list = files.at("MANIFEST.sha256");
  CHECK(bundle.digest() == "sha256:" + edgead::sha256_hex(list.data(), list.size()));
  CHECK(bundle.hash_list_text() == list);
  CHECK(bundle.manifest_text() == files.at("manifest.json"));
  CHECK_EQ(m.geometry.height, 8);
  CHECK(!m.geometry.shorter_side && !m.geometry.window && !m.geometry.roi);
  CHECK_EQ(m.geometry.resampler, EDGEAD_RESAMPLER_PILLOW_BILINEAR);
  CHECK_EQ(m.post.grid_width, 4);
  CHECK_EQ(m.post.output_height, 8);
  CHECK_EQ(m.post.score_rule, EDGEAD_SCORE_MAX_GRID);
  CHECK_EQ(m.post.gamma_stage, EDGEAD_GAMMA_BEFORE);
  CHECK(m.post.alpha == std::vector<float>{1.0F});
  CHECK_EQ(m.graph.input_height, 8);
  CHECK_EQ(m.graph.batch, 1);
  CHECK(!m.graph.has_score);
  CHECK(m.targets.at(0).target == "openvino:fp32" && m.targets.at(0).device == "cpu");
  CHECK(m.targets.at(0).engine_version == "0");
  CHECK_EQ(m.files.size(), files.size() - 2);
  CHECK(bundle.thresholds("openvino:fp32").pixel == 91.2890625);
  CHECK(bundle.entry("openvino:fp32").main_file == "graph.onnx");
  REFUSED(bundle.entry("openvino:int8"), EDGEAD_ERR_NOT_FOUND, "there is openvino:fp32");
  REFUSED(bundle.thresholds("x"), EDGEAD_ERR_NOT_FOUND, "no target x");
  const edgead::Bytes &graph = bundle.file("graph.onnx");
  CHECK(std::string(graph.begin(), graph.end()) == files.at("graph.onnx"));
  REFUSED(bundle.file("reports/recipe.txt"), EDGEAD_ERR_BUNDLE, "has no file 'reports/recipe.txt'");
  REFUSED(bundle.file("../graph.onnx"), EDGEAD_ERR_BUNDLE, "has no file");
  // The golden bundle's operator is bilinear, 4 -> 8: each row's two weights add up to 1.
  for (const edgead::BandedMatrix &matrix : {bundle.operator_h(), bundle.operator_w()}) {
    CHECK_EQ(matrix.rows, 8);
    CHECK_EQ(matrix.start.size(), 8);
    for (std::size_t row = 0; row < 8; ++row)
      CHECK(std::fabs(matrix.weights.at(2 * row) + matrix.weights.at(2 * row + 1) - 1) < 1e-6F);
    CHECK_EQ(matrix.view().cols, 4);
  }
  for (const edgead::GoldenImage &image : m.golden) {
    const edgead::GoldenPixels pixels = bundle.golden_pixels(image);
    CHECK_EQ(pixels.width, 8);
    CHECK_EQ(pixels.rgb.size(), 8 * 8 * 3);
    CHECK_EQ(bundle.golden_map(image.expected.at(0)).size(), 64);
  }
  // make_bundle_v1.py's first pixels, an unfiltered row.
  const edgead::Bytes &rgb = bundle.golden_pixels(m.golden.at(0)).rgb;
  CHECK_EQ(rgb.at(0), 0);
  CHECK_EQ(rgb.at(1), 3);
  CHECK_EQ(rgb.at(2), 6);
  CHECK_EQ(rgb.at(3), 7);
}

void check_sidecar(const fs::path &path, const Files &files) {
  const std::string digest = Bundle::open(path.u8string())->digest();
  const auto sidecar = [](const std::string &bundle, const std::string &image, const std::string &set) {
    return R"({"schema": 1, "bundle": ")" + bundle + R"(", "targets": [{"target": "openvino:fp32", "thresholds":
      {"image": )" + image + R"(, "pixel": 99, "image_median": 60.75, "pixel_median": 55.875, "method": {}},
      "set": ")" + set + R"(", "set_by": "edgead 0"}]})";
  };
  const fs::path beside = path.u8string() + ".thresholds.json";
  const std::string date = "2026-11-23T14:35:56Z";
  write_file(beside, sidecar(digest, "130.5", date));
  CHECK(Bundle::open(path.u8string())->thresholds("openvino:fp32").image == 130.5);
  CHECK(Bundle::open(path.u8string())->entry("openvino:fp32").thresholds.image == 126);
  if (fs::is_directory(path)) CHECK(Bundle::open(path.u8string() + "/")->thresholds("openvino:fp32").image == 130.5);
  // A link to the bundle shares its thresholds.
  const fs::path link = path.parent_path() / "link.edgead";
  fs::remove(link);
  fs::create_symlink(path, link);
  CHECK(Bundle::open(link.u8string())->thresholds("openvino:fp32").image == 130.5);
  fs::remove(link);
  const struct {
    std::string text, message;
  } wrong[] = {
      {sidecar("sha256:" + std::string(64, '0'), "130", date), "was set for another bundle"},
      {sidecar(digest, "0.5", date), "openvino:fp32: image threshold 0.5 is not above the median 60.75"},
      {sidecar(digest, "130", "yesterday"), "openvino:fp32: date 'yesterday'"},
      {"{\"schema\": 2}", "schema 2 was made by a newer edgead; upgrade"},
      {"{\"schema\": 1}", "the field 'bundle' is missing"},
      {"", "is not valid JSON"},
      {std::string(2 << 20, ' '), "more than the limit of 1048576"},
  };
  for (const auto &[text, message] : wrong) {
    write_file(beside, text);
    REFUSED(Bundle::open(path.u8string()), EDGEAD_ERR_BUNDLE, message);
  }
  fs::remove(beside);
  fs::create_directory(beside);
  REFUSED(Bundle::open(path.u8string()), EDGEAD_ERR_BUNDLE, "thresholds.json cannot be read");
  fs::remove(beside);
  check_content(*Bundle::open(path.u8string()), files);
}

}  // namespace

int main() {
  const fs::path scratch = EDGEAD_SCRATCH;
  fs::remove_all(scratch);
  fs::create_directories(scratch);
  const Files files = golden_bundle();
  CHECK_EQ(files.size(), 12);
  CHECK(rehashed(files) == files);
  check_content(*Bundle::open(EDGEAD_GOLDEN_BUNDLE), files);
  const std::string zip = zipped(files);
  write_file(scratch / "zip.edgead", zip);
  check_content(*Bundle::open((scratch / "zip.edgead").u8string()), files);
  check_content(*Bundle::from_zip(reinterpret_cast<const std::uint8_t *>(zip.data()), zip.size(), "z"), files);
  write_folder(scratch / "f\xc3\xa4nger.edgead", files);
  check_sidecar(scratch / "zip.edgead", files);
  check_sidecar(scratch / "f\xc3\xa4nger.edgead", files);
  // The bundle may go while it is open.
  const auto open = Bundle::open((scratch / "f\xc3\xa4nger.edgead").u8string());
  fs::remove_all(scratch);
  check_content(*open, files);

  REFUSED(Bundle::open((scratch / "nothing").u8string()), EDGEAD_ERR_NOT_FOUND, "there is no bundle at");
  REFUSED(Bundle::open(""), EDGEAD_ERR_NOT_FOUND, "there is no bundle at");
  REFUSED(Bundle::open("/dev/null"), EDGEAD_ERR_BUNDLE, "is neither a folder nor a file");
  REFUSED(Bundle::open(EDGEAD_GOLDEN_BUNDLE "/manifest.json"), EDGEAD_ERR_BUNDLE, "neither a folder nor a zip");
  REFUSED(Bundle::open(EDGEAD_GOLDEN_BUNDLE "/manifest.json/x"), EDGEAD_ERR_NOT_FOUND, "there is no bundle at");
  REFUSED(Bundle::open(EDGEAD_GOLDEN_BUNDLE "/post"), EDGEAD_ERR_BUNDLE, "is not a finished edgead bundle");
  return check_failures();
}
