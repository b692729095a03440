# cmake -D ARCH=x86_64|aarch64 -D OUT=DIR [-D BUILD=DIR] [-D PYTHON=PROGRAM] [-D ONNXRUNTIME_INCLUDE=DIR] -P dist.cmake
# Writes OUT/edgead-<version>-linux-<ARCH>.tar.gz: what a C or C++ program of a device unpacks. Its bytes do not depend
# on when and where it was made. make dist-native calls this for both.
cmake_minimum_required(VERSION 3.20)
get_filename_component(root ${CMAKE_CURRENT_LIST_DIR}/../../.. ABSOLUTE)
get_filename_component(OUT ${OUT} ABSOLUTE)
if(NOT BUILD)
  set(BUILD ${root}/build/dist-native-${ARCH})
endif()
file(STRINGS ${root}/pyproject.toml version REGEX "^version = " LIMIT_COUNT 1)
string(REGEX REPLACE "^version = \"(.*)\"$" "\\1" version "${version}")
set(name edgead-${version}-linux-${ARCH})

cmake_host_system_information(RESULT host QUERY OS_PLATFORM)
set(toolchain)
if(NOT ARCH STREQUAL host)
  find_program(compiler ${ARCH}-linux-gnu-g++)
  if(NOT compiler)
    message("${name}.tar.gz is left out, there is no cross compiler; apt install g++-${ARCH}-linux-gnu")
    return()
  endif()
  set(toolchain -DCMAKE_TOOLCHAIN_FILE=${CMAKE_CURRENT_LIST_DIR}/${ARCH}-linux-gnu.cmake)
endif()
if(PYTHON AND NOT EXISTS ${BUILD}/CMakeCache.txt) # later it would go unused, and CMake says so
  list(APPEND toolchain -DPython3_EXECUTABLE=${PYTHON})
endif()
if(ONNXRUNTIME_INCLUDE)
  list(APPEND toolchain -DEDGEAD_ONNXRUNTIME_INCLUDE=${ONNXRUNTIME_INCLUDE})
endif()

function(run)
  execute_process(COMMAND ${ARGV} OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
endfunction()
set(stage ${BUILD}/stage/${name})
file(REMOVE_RECURSE ${BUILD}/stage)
# The build's own path goes into messages and assertions unless it is mapped away.
run(${CMAKE_COMMAND} -S ${root}/runtimes/native -B ${BUILD} -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_LIBDIR=lib
  -DEDGEAD_BUILD_TESTS=OFF -DCMAKE_CXX_FLAGS=-ffile-prefix-map=${root}/= ${toolchain})
run(${CMAKE_COMMAND} --build ${BUILD} --target edgead)
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${stage} --component embed --strip)
# A library carries the executable bit, wherever it was installed from.
file(CHMOD ${stage}/lib/libedgead.so.1 PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
  WORLD_READ WORLD_EXECUTE)

file(COPY ${root}/LICENSE DESTINATION ${stage})
file(GLOB examples ${root}/examples/*_c ${root}/examples/*_cpp)
file(COPY ${examples} DESTINATION ${stage}/examples)

# Which systems it runs on: the newest version of a symbol that it asks of the C library.
execute_process(COMMAND objdump -p ${stage}/lib/libedgead.so.1 OUTPUT_VARIABLE needs COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "GLIBC_[0-9.]+" needs "${needs}")
list(SORT needs COMPARE NATURAL)
list(POP_BACK needs newest)
string(REPLACE "GLIBC_" "" glibc ${newest})
set(onnxruntime "")
file(STRINGS ${BUILD}/CMakeCache.txt without REGEX "^EDGEAD_ONNXRUNTIME_INCLUDE:.*NOTFOUND$")
if(NOT without)
  set(onnxruntime "\n  export EDGEAD_ONNXRUNTIME_LIBRARY=/path/to/libonnxruntime.so  targets onnxruntime:...")
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/README.txt.in ${stage}/README.txt @ONLY)

file(MAKE_DIRECTORY ${OUT})
run(tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --use-compress-program "gzip -n -9"
  -C ${BUILD}/stage -cf ${OUT}/${name}.tar.gz ${name})
message("${OUT}/${name}.tar.gz")
