// Compiles only where engines/openvino_c.hpp says what OpenVINO's own headers say.

#include <openvino/c/openvino.h>

#include <type_traits>

#include "engines/openvino_c.hpp"

namespace ours = edgead::openvino;

// A type of OpenVINO in our words.
template <typename T>
struct Ours {
  using type = T;
};
template <>
struct Ours<ov_status_e> {
  using type = ours::Status;
};
template <>
struct Ours<ov_element_type_e> {
  using type = ours::ElementType;
};
template <>
struct Ours<ov_version_t> {
  using type = ours::Version;
};
template <>
struct Ours<ov_shape_t> {
  using type = ours::Shape;
};
template <>
struct Ours<ov_available_devices_t> {
  using type = ours::Devices;
};
template <typename T>
struct Ours<const T> {
  using type = const typename Ours<T>::type;
};
template <typename T>
struct Ours<T *> {
  using type = typename Ours<T>::type *;
};
template <typename R, typename... A>
struct Ours<R(A...)> {
  using type = typename Ours<R>::type(typename Ours<A>::type...);
};
template <typename R, typename... A>
struct Ours<R(A..., ...)> {
  using type = typename Ours<R>::type(typename Ours<A>::type..., ...);
};

#define SAME_FUNCTION(name, ...) \
  static_assert(std::is_same_v<Ours<decltype(::name)>::type, __VA_ARGS__>, #name " is declared otherwise");
namespace edgead::openvino {
EDGEAD_OPENVINO_FUNCTIONS(SAME_FUNCTION)
}

#define SAME_MEMBER(theirs, their_member, mine, my_member)                                                     \
  static_assert(offsetof(theirs, their_member) == offsetof(mine, my_member) &&                                 \
                    std::is_same_v<decltype(theirs::their_member), decltype(mine::my_member)>,                 \
                #theirs "." #their_member " is declared otherwise");
SAME_MEMBER(ov_version_t, buildNumber, ours::Version, build_number)
SAME_MEMBER(ov_version_t, description, ours::Version, description)
SAME_MEMBER(ov_shape_t, rank, ours::Shape, rank)
SAME_MEMBER(ov_shape_t, dims, ours::Shape, dims)
SAME_MEMBER(ov_available_devices_t, devices, ours::Devices, names)
SAME_MEMBER(ov_available_devices_t, size, ours::Devices, size)
static_assert(sizeof(ov_version_t) == sizeof(ours::Version));
static_assert(sizeof(ov_shape_t) == sizeof(ours::Shape));
static_assert(sizeof(ov_available_devices_t) == sizeof(ours::Devices));

// Enumerations travel as the integers that we say they are.
static_assert(std::is_same_v<std::underlying_type_t<ov_status_e>, ours::Status>);
static_assert(std::is_same_v<std::underlying_type_t<ov_element_type_e>, ours::ElementType>);
static_assert(static_cast<ours::Status>(ov_status_e::OK) == ours::OK);
