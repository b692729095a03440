# Two components of one library:
#   python  what the wheel holds: one plain libedgead.so in edgead/_native_lib (zip files keep no links), and headers.
#           Excluded from a bare `cmake --install`; pyproject.toml asks for it by name.
#   embed   what a C or C++ program needs, relocatable: include/, lib/, lib/cmake/edgead/, lib/pkgconfig/.
#
# The SONAME carries the ABI version, so that a program never starts with a library of another ABI; except in the
# wheel, where nothing links against the file, Python checks edgead_abi_version() itself, and the name on disk
# must be the SONAME's.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

if(NOT SKBUILD)
  file(STRINGS include/edgead/edgead.h abi REGEX "^#define EDGEAD_ABI_VERSION [0-9]+u$")
  string(REGEX MATCH "[0-9]+" EDGEAD_ABI "${abi}")
  set_target_properties(edgead PROPERTIES SOVERSION ${EDGEAD_ABI})
endif()

install(TARGETS edgead LIBRARY DESTINATION edgead/_native_lib COMPONENT python EXCLUDE_FROM_ALL)
install(DIRECTORY include/edgead DESTINATION edgead/_native_lib/include COMPONENT python EXCLUDE_FROM_ALL)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/edgead)
install(TARGETS edgead EXPORT edgeadTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT embed NAMELINK_COMPONENT embed
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/edgead DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT embed)
install(EXPORT edgeadTargets NAMESPACE edgead:: DESTINATION ${package_dir} COMPONENT embed)
configure_package_config_file(cmake/edgeadConfig.cmake.in edgeadConfig.cmake INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(edgeadConfigVersion.cmake VERSION ${EDGEAD_VERSION} COMPATIBILITY SameMajorVersion)
# pkg-config finds the prefix from the file's own place.
file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" EDGEAD_PC_UP "${up}")
configure_file(cmake/edgead.pc.in edgead.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/edgeadConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/edgeadConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT embed)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/edgead.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT embed)
