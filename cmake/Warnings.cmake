# `build_flags`: the warnings, hardening and sanitizers every target of the project is built with. What a compiler
# does not know is dropped. Results must be equal bit for bit between builds, hence no contraction of floating point.
include(CheckCCompilerFlag)
add_library(build_flags INTERFACE)
foreach(flag
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion
    -Wstrict-prototypes -Wmissing-prototypes -Wmissing-declarations -Wold-style-definition
    -Wredundant-decls -Wnested-externs -Wundef -Wvla -Wcast-align=strict -Wcast-qual
    -Wpointer-arith -Wwrite-strings -Wformat=2 -Wformat-signedness -Wswitch-enum
    -Wimplicit-fallthrough -Wnull-dereference -Wduplicated-cond -Wduplicated-branches
    -Wlogical-op -Walloca -Wunused-macros -Wfloat-equal -Wjump-misses-init -Wdate-time)
  string(MAKE_C_IDENTIFIER "HAVE${flag}" known)
  check_c_compiler_flag("-Werror ${flag}" ${known})
  if(${known})
    target_compile_options(build_flags INTERFACE ${flag})
  endif()
endforeach()
if(HARNESS_WERROR)
  target_compile_options(build_flags INTERFACE -Werror)
endif()
target_compile_options(build_flags INTERFACE -fno-strict-aliasing -fstack-protector-strong -ffp-contract=off)
target_compile_definitions(build_flags INTERFACE _GNU_SOURCE)
target_include_directories(build_flags INTERFACE ${CMAKE_SOURCE_DIR})
if(HARNESS_SANITIZE)
  target_compile_options(build_flags INTERFACE -fsanitize=${HARNESS_SANITIZE} -fno-omit-frame-pointer
                                               -fno-sanitize-recover=all)
  target_link_options(build_flags INTERFACE -fsanitize=${HARNESS_SANITIZE})
endif()
if(HARNESS_COVERAGE)
  target_compile_options(build_flags INTERFACE --coverage -O0)
  target_link_options(build_flags INTERFACE --coverage)
endif()
