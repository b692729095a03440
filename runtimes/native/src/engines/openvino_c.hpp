#pragma once
// The part of OpenVINO's C interface that libedgead uses, declared by ourselves: building needs no OpenVINO. The test
// openvino_declarations holds it against OpenVINO's own headers. Stable from 2023.2 on, apart from the values of
// ov_element_type_e: they move between releases and so are not written down here, see ElementTypes.

#include <cstddef>
#include <cstdint>

// Opaque, under OpenVINO's own names.
struct ov_core;
struct ov_model;
struct ov_compiled_model;
struct ov_infer_request;
struct ov_output_const_port;
struct ov_tensor;

namespace edgead::openvino {

using Status = int;            // ov_status_e; 0 = OK, all else is a failure
using ElementType = unsigned;  // ov_element_type_e
constexpr Status OK = 0;

struct Version {  // ov_version_t
  const char *build_number, *description;
};

struct Shape {  // ov_shape_t
  std::int64_t rank;
  std::int64_t *dims;
};

struct Devices {  // ov_available_devices_t
  char **names;
  std::size_t size;
};

// F(name, type): every function of the table. property_args_size of ov_core_compile_model counts keys and values.
#define EDGEAD_OPENVINO_FUNCTIONS(F)                                                                              \
  F(ov_get_openvino_version, Status(Version *))                                                                   \
  F(ov_version_free, void(Version *))                                                                             \
  F(ov_get_last_err_msg, const char *())                                                                          \
  F(ov_free, void(const char *))                                                                                  \
  F(ov_get_error_info, const char *(Status))                                                                      \
  F(ov_core_create, Status(ov_core **))                                                                           \
  F(ov_core_free, void(ov_core *))                                                                                \
  F(ov_core_get_available_devices, Status(const ov_core *, Devices *))                                            \
  F(ov_available_devices_free, void(Devices *))                                                                   \
  F(ov_core_get_property, Status(const ov_core *, const char *, const char *, char **))                            \
  F(ov_core_read_model_from_memory_buffer,                                                                        \
    Status(const ov_core *, const char *, std::size_t, const ov_tensor *, ov_model **))                           \
  F(ov_core_compile_model,                                                                                        \
    Status(const ov_core *, const ov_model *, const char *, std::size_t, ov_compiled_model **, ...))              \
  F(ov_model_free, void(ov_model *))                                                                              \
  F(ov_model_inputs_size, Status(const ov_model *, std::size_t *))                                                \
  F(ov_model_outputs_size, Status(const ov_model *, std::size_t *))                                               \
  F(ov_model_const_input_by_index, Status(const ov_model *, std::size_t, ov_output_const_port **))                \
  F(ov_model_const_output_by_index, Status(const ov_model *, std::size_t, ov_output_const_port **))               \
  F(ov_output_const_port_free, void(ov_output_const_port *))                                                      \
  F(ov_port_get_any_name, Status(const ov_output_const_port *, char **))                                          \
  F(ov_port_get_element_type, Status(const ov_output_const_port *, ElementType *))                                \
  F(ov_const_port_get_shape, Status(const ov_output_const_port *, Shape *))                                       \
  F(ov_shape_free, Status(Shape *))                                                                               \
  F(ov_tensor_create, Status(ElementType, Shape, ov_tensor **))                                                   \
  F(ov_tensor_create_from_host_ptr, Status(ElementType, Shape, void *, ov_tensor **))                             \
  F(ov_tensor_data, Status(const ov_tensor *, void **))                                                           \
  F(ov_tensor_free, void(ov_tensor *))                                                                            \
  F(ov_compiled_model_get_property, Status(const ov_compiled_model *, const char *, char **))                     \
  F(ov_compiled_model_create_infer_request, Status(const ov_compiled_model *, ov_infer_request **))               \
  F(ov_compiled_model_free, void(ov_compiled_model *))                                                            \
  F(ov_infer_request_set_tensor, Status(ov_infer_request *, const char *, const ov_tensor *))                     \
  F(ov_infer_request_infer, Status(ov_infer_request *))                                                           \
  F(ov_infer_request_free, void(ov_infer_request *))

template <typename Signature>
using Pointer = Signature *;

struct Functions {
#define EDGEAD_MEMBER(name, ...) Pointer<__VA_ARGS__> name = nullptr;
  EDGEAD_OPENVINO_FUNCTIONS(EDGEAD_MEMBER)
#undef EDGEAD_MEMBER
};

}  // namespace edgead::openvino
