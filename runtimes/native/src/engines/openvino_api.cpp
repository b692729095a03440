#include "engines/openvino_api.hpp"

#include <cstdio>

#include "engines/backends.hpp"
#include "engines/library.hpp"
#include "error.hpp"

namespace edgead::openvino {
namespace {

constexpr const char *NEEDED = "edgead needs OpenVINO 2024.0 or newer: pip install openvino";

// Runtime packages bring the versioned name only.
std::vector<std::string> names() {
  std::vector<std::string> all{"libopenvino_c.so"};
  for (const char *release : {"2641", "2640", "2631", "2630", "2621", "2620", "2610", "2600", "2541", "2540", "2530",
                              "2520", "2510", "2500", "2460", "2450", "2440", "2430", "2420", "2410", "2400"})
    all.push_back(std::string("libopenvino_c.so.") + release);
  return all;
}

std::string version_of(const Functions &call) {
  Version found{};
  if (call.ov_get_openvino_version(&found) != OK || found.build_number == nullptr) return "";
  const std::string number = found.build_number;  // "2026.4.1-22181-..."
  call.ov_version_free(&found);
  return number.substr(0, number.find('-'));
}

constexpr char PROBE[] =
    "<net name=\"probe\" version=\"11\"><layers>"
    "<layer id=\"0\" name=\"a\" type=\"Parameter\" version=\"opset1\"><data shape=\"1\" element_type=\"u8\"/>"
    "<output><port id=\"0\" precision=\"U8\"><dim>1</dim></port></output></layer>"
    "<layer id=\"1\" name=\"b\" type=\"Parameter\" version=\"opset1\"><data shape=\"1\" element_type=\"f32\"/>"
    "<output><port id=\"0\" precision=\"FP32\"><dim>1</dim></port></output></layer>"
    "<layer id=\"2\" name=\"c\" type=\"Parameter\" version=\"opset1\"><data shape=\"1\" element_type=\"i32\"/>"
    "<output><port id=\"0\" precision=\"I32\"><dim>1</dim></port></output></layer>"
    "<layer id=\"3\" name=\"d\" type=\"Result\" version=\"opset1\">"
    "<input><port id=\"0\" precision=\"U8\"><dim>1</dim></port></input></layer>"
    "<layer id=\"4\" name=\"e\" type=\"Result\" version=\"opset1\">"
    "<input><port id=\"0\" precision=\"FP32\"><dim>1</dim></port></input></layer>"
    "<layer id=\"5\" name=\"f\" type=\"Result\" version=\"opset1\">"
    "<input><port id=\"0\" precision=\"I32\"><dim>1</dim></port></input></layer></layers>"
    "<edges><edge from-layer=\"0\" from-port=\"0\" to-layer=\"3\" to-port=\"0\"/>"
    "<edge from-layer=\"1\" from-port=\"0\" to-layer=\"4\" to-port=\"0\"/>"
    "<edge from-layer=\"2\" from-port=\"0\" to-layer=\"5\" to-port=\"0\"/></edges></net>";

}  // namespace

Api::Api(const std::string &library_path) {
  const Library library = Library::open(
      {"OpenVINO", library_path, "EDGEAD_OPENVINO_LIBRARY", names(),
       "pip install openvino, and give the path of its openvino/libs/libopenvino_c.so.* as engine_library or in the "
       "environment variable EDGEAD_OPENVINO_LIBRARY"});
  path = library.path("ov_get_openvino_version");
  // The version first: an older library lacks functions, and "too old" says more than the name of one.
  library.load(call.ov_get_openvino_version, "ov_get_openvino_version", NEEDED);
  library.load(call.ov_version_free, "ov_version_free", NEEDED);
  version = version_of(call);
  int year = 0;
  if (std::sscanf(version.c_str(), "%d.", &year) != 1 || year < 2024)
    throw Error{EDGEAD_ERR_RUNTIME_MISSING, path + " is version '" + version + "'; " + NEEDED};
#define EDGEAD_LOAD(name, ...) library.load(call.name, #name, NEEDED);
  EDGEAD_OPENVINO_FUNCTIONS(EDGEAD_LOAD)
#undef EDGEAD_LOAD
}

void Api::check(Status status, const std::string &what) const {
  if (status == OK) return;
  const Handle<const char> message = last_message();
  const char *text = message != nullptr ? message.get() : call.ov_get_error_info(status);
  throw Error{EDGEAD_ERR_ENGINE, what + ": " + std::string(last_line(text))};
}

ElementTypes::ElementTypes(const Api &api, const ov_core *core) {
  const std::string what = "OpenVINO cannot read IR";
  const auto model = api.take<ov_model>(api.call.ov_model_free, what, [&](ov_model **out) {
    return api.call.ov_core_read_model_from_memory_buffer(core, PROBE, sizeof PROBE - 1, nullptr, out);
  });
  const auto type_of = [&](std::size_t index) {
    const auto port = api.take<ov_output_const_port>(
        api.call.ov_output_const_port_free, what, [&](ov_output_const_port **out) {
          return api.call.ov_model_const_input_by_index(model.get(), index, out);
        });
    ElementType type = 0;
    api.check(api.call.ov_port_get_element_type(port.get(), &type), what);
    return type;
  };
  u8 = type_of(0);
  f32 = type_of(1);
  i32 = type_of(2);
}

std::string ElementTypes::name(ElementType type) const {
  return type == u8 ? "u8" : type == f32 ? "f32" : type == i32 ? "i32" : "of another type";
}

}  // namespace edgead::openvino
