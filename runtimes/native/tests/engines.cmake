# What the engine tests need beside their programs: graphs and what Python's OpenVINO makes of them (make_graphs.py),
# small libraries that only pretend to be OpenVINO's, and OpenVINO's own headers.
find_package(Python3 COMPONENTS Interpreter QUIET)
set(openvino_package "")
if(Python3_FOUND AND NOT CMAKE_CROSSCOMPILING) # this machine's engines are for another CPU
  execute_process(COMMAND ${Python3_EXECUTABLE} -c
    "import importlib.util as u; print(next(iter(u.find_spec('openvino').submodule_search_locations)))"
    OUTPUT_VARIABLE openvino_package OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()

# Each pretends in its own way; see fake_openvino.cpp.
foreach(kind old partial stranger whole)
  add_library(fake_openvino_${kind} MODULE fake_openvino.cpp)
  target_include_directories(fake_openvino_${kind} PRIVATE ../src)
  target_compile_definitions(fake_openvino_${kind} PRIVATE FAKE_${kind}=1)
  set_target_properties(fake_openvino_${kind} PROPERTIES CXX_VISIBILITY_PRESET default)
  list(APPEND fakes FAKE_OPENVINO_${kind}="$<TARGET_FILE:fake_openvino_${kind}>")
  list(APPEND fake_targets fake_openvino_${kind})
endforeach()
foreach(test test_engine_library test_engine_failures)
  target_compile_definitions(${test} PRIVATE ${fakes})
  add_dependencies(${test} ${fake_targets})
endforeach()

set(graphs ${CMAKE_CURRENT_BINARY_DIR}/graphs)
set(graph_tests test_engine_openvino test_engine_onnxruntime test_engine_window_search)
set_tests_properties(${graph_tests} PROPERTIES SKIP_RETURN_CODE 77)
set_target_properties(test_engine_openvino test_engine_window_search PROPERTIES ENABLE_EXPORTS ON) # for no_deepbind.hpp
if(openvino_package)
  add_test(NAME engine_graphs COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/make_graphs.py ${graphs})
  set_tests_properties(engine_graphs PROPERTIES FIXTURES_SETUP engine_graphs TIMEOUT 120)
  file(GLOB openvino_library ${openvino_package}/libs/libopenvino_c.so*)
  file(GLOB onnxruntime_library ${openvino_package}/../onnxruntime/capi/libonnxruntime.so*)
  set_tests_properties(${graph_tests} PROPERTIES FIXTURES_REQUIRED engine_graphs
    ENVIRONMENT "EDGEAD_TEST_GRAPHS=${graphs};EDGEAD_OPENVINO_LIBRARY=${openvino_library};\
EDGEAD_ONNXRUNTIME_LIBRARY=${onnxruntime_library}")
endif()

# Our declarations of OpenVINO's C interface against its own: it compiles, or they differ.
if(EXISTS ${openvino_package}/include/openvino/c/openvino.h)
  add_test(NAME openvino_declarations COMMAND ${CMAKE_CXX_COMPILER} -std=c++17 -Wall -Wextra -Werror -fsyntax-only
    -I ${CMAKE_CURRENT_SOURCE_DIR}/../src -isystem ${openvino_package}/include
    ${CMAKE_CURRENT_SOURCE_DIR}/openvino_declarations.cpp)
endif()
