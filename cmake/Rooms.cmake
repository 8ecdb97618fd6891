# room(name DIR DEPS ...): a library of every .c directly in DIR (an INTERFACE library while the room is empty).
function(room name dir)
  cmake_parse_arguments(A "" "" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${dir}/*.c)
  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC build_flags ${A_DEPS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE build_flags ${A_DEPS})
  endif()
endfunction()

set(TEST_ENVIRONMENT
    "ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1"
    "UBSAN_OPTIONS=print_stacktrace=1"
    "TSAN_OPTIONS=halt_on_error=1:suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp"
    "HARNESS_SOURCE_DIR=${CMAKE_SOURCE_DIR}" "HARNESS_BIN_DIR=${CMAKE_BINARY_DIR}/bin")

# Tests that compare times or count threads of live processes: never beside another test.
set(SERIAL_TESTS device.device_test device.gpu_test harness.foreign_test harness.load_client_test harness.probe_proc_test
                 node.executor_test node.ring_test)

# room_tests(room LINK ...): tests/<room>/*_test.c, one cmocka program and one CTest entry each. helper*.c there are
# linked into each of them.
function(room_tests name)
  cmake_parse_arguments(A "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*_test.c)
  file(GLOB helpers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/helper*.c)
  foreach(source IN LISTS sources)
    get_filename_component(stem ${source} NAME_WE)
    set(target ${name}_${stem})
    add_executable(${target} ${source} ${helpers})
    target_link_libraries(${target} PRIVATE build_flags ${A_LINK} PkgConfig::CMOCKA)
    add_test(NAME ${name}.${stem} COMMAND ${target} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${name}.${stem} PROPERTIES TIMEOUT 300 ENVIRONMENT "${TEST_ENVIRONMENT}" LABELS unit)
    if("${name}.${stem}" IN_LIST SERIAL_TESTS)
      set_tests_properties(${name}.${stem} PROPERTIES RUN_SERIAL ON)
    endif()
  endforeach()
endfunction()

# fuzz_targets(LINK ...): tests/fuzz/X_fuzz.c with seeds in tests/fuzz/X/.
function(fuzz_targets)
  cmake_parse_arguments(A "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/*_fuzz.c)
  foreach(source IN LISTS sources)
    get_filename_component(target ${source} NAME_WE)
    string(REGEX REPLACE "_fuzz$" "" corpus ${target})
    if(HARNESS_FUZZ)
      add_executable(${target} ${source})
      target_link_libraries(${target} PRIVATE build_flags ${A_LINK})
      target_compile_options(${target} PRIVATE -fsanitize=fuzzer)
      target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    else()
      add_executable(${target}_replay ${source} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
      target_link_libraries(${target}_replay PRIVATE build_flags ${A_LINK})
      add_test(NAME fuzz.${corpus}_replay COMMAND ${target}_replay ${CMAKE_SOURCE_DIR}/tests/fuzz/${corpus})
      set_tests_properties(fuzz.${corpus}_replay PROPERTIES TIMEOUT 120 ENVIRONMENT "${TEST_ENVIRONMENT}" LABELS unit)
    endif()
  endforeach()
endfunction()
