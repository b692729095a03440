# cmake -D NM=… -D LIBRARY=… -D LIST=… -P compare_symbols.cmake: fails where the two sets of names differ.
execute_process(COMMAND ${NM} -D --defined-only -f posix ${LIBRARY} OUTPUT_VARIABLE output
  COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\n" ";" lines "${output}")
set(found "")
foreach(line IN LISTS lines)
  if(line MATCHES "^([^ @]+)(@+[A-Z0-9_]+)? [B-Z] ") # kind A is the version node itself
    list(APPEND found ${CMAKE_MATCH_1})
  endif()
endforeach()
file(STRINGS ${LIST} wanted)
list(SORT found)
list(SORT wanted)
if(NOT found STREQUAL wanted)
  list(JOIN found "\n  " found)
  message(FATAL_ERROR "the library exports:\n  ${found}\nbut ${LIST} says otherwise")
endif()
