# Functions for the CMakeLists.txt files below: headway_layer, headway_program, headway_test,
# headway_benchmark. A layer's dependencies come from its row in layers.txt and nowhere else.

include_guard(GLOBAL)

# headway_layer_row(<layer> <prefix>): sets <prefix>_TORCH, <prefix>_LAYERS, <prefix>_DEPS.
function(headway_layer_row layer prefix)
  set(table "${PROJECT_SOURCE_DIR}/cmake/layers.txt")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${table}")
  file(STRINGS "${table}" rows REGEX "^${layer} *\\|")
  list(LENGTH rows count)
  if(NOT count EQUAL 1)
    message(FATAL_ERROR "layer ${layer}: ${count} rows in cmake/layers.txt, expected 1")
  endif()
  string(REPLACE "|" ";" cells "${rows}")
  foreach(pair 1:TORCH 2:LAYERS 3:DEPS)
    string(REPLACE ":" ";" pair "${pair}")
    list(GET pair 0 index)
    list(GET pair 1 field)
    list(GET cells ${index} cell)
    string(STRIP "${cell}" cell)
    string(REGEX REPLACE " +" ";" cell "${cell}")
    set(${prefix}_${field} "${cell}" PARENT_SCOPE)
  endforeach()
endfunction()

# The library to the fmt headers of libtorch; every target that uses libtorch links it.
function(headway_define_torch_fmt)
  add_library(headway_torch_fmt STATIC "${PROJECT_SOURCE_DIR}/cmake/torch_fmt/format.cpp")
  set_target_properties(headway_torch_fmt PROPERTIES EXPORT_NAME torch_fmt)
  target_link_libraries(headway_torch_fmt PRIVATE
    $<BUILD_INTERFACE:headway_options> $<BUILD_INTERFACE:headway::torch>)
endfunction()

# The precompiled headers: headway_torch_pch for what uses tensors, headway_autograd_pch for the
# layers that define autograd nodes. Two, because every template that a header's inline functions
# ask for is instantiated again in each file, used or not: 1.4 s for the autograd part. It is for
# ops, the only layer that defines autograd nodes.
# Narrow on purpose: torch/torch.h would cost 700 MB and most of a minute.
function(headway_define_pch name)
  set(file "${PROJECT_BINARY_DIR}/${name}.cpp")
  file(WRITE "${file}.new" "// Exists so that the precompiled header has a target to belong to.\n")
  file(COPY_FILE "${file}.new" "${file}" ONLY_IF_DIFFERENT)
  add_library(${name} OBJECT "${file}")
  target_link_libraries(${name} PRIVATE headway_options headway::torch headway::dep_fmt)
  target_precompile_headers(${name} PRIVATE
    <algorithm> <array> <cmath> <cstdint> <cstring> <functional> <limits> <map> <memory>
    <optional> <sstream> <string> <string_view> <tuple> <utility> <variant> <vector>
    <fmt/format.h> <ATen/core/Tensor.h> <ATen/Functions.h> <ATen/Parallel.h>
    <ATen/TensorOperators.h> ${ARGN})
endfunction()

function(headway_define_torch_pch)
  headway_define_pch(headway_torch_pch <nlohmann/json.hpp>)
  headway_define_pch(headway_autograd_pch <torch/csrc/autograd/custom_function.h>)
endfunction()

# headway_layer(<name> SOURCES a.cpp … [HIGHWAY cpu/x.cpp …])
# Static library headway_<name>, alias headway::<name>. HIGHWAY lists the files that use Highway's
# foreach_target: they are compiled once per instruction set by re-including themselves, so they
# take no precompiled header, and at -O3.
function(headway_layer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;HIGHWAY" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "headway_layer(${name}): unknown arguments ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  headway_layer_row(${name} ROW)
  set(target headway_${name})
  add_library(${target} STATIC ${ARG_SOURCES} ${ARG_HIGHWAY})
  add_library(headway::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:headway_options>)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include>)
  target_compile_features(${target} PUBLIC cxx_std_20)
  foreach(layer IN LISTS ROW_LAYERS)
    if(TARGET headway_${layer})
      target_link_libraries(${target} PUBLIC headway_${layer})
    endif()
  endforeach()
  foreach(dep IN LISTS ROW_DEPS)
    target_link_libraries(${target} PUBLIC headway::dep_${dep})
  endforeach()
  if(ROW_TORCH)
    target_link_libraries(${target} PUBLIC headway::torch headway_torch_fmt)
    if(name STREQUAL "ops")
      target_precompile_headers(${target} REUSE_FROM headway_autograd_pch)
    else()
      target_precompile_headers(${target} REUSE_FROM headway_torch_pch)
    endif()
  endif()
  if(ARG_HIGHWAY)
    set_source_files_properties(${ARG_HIGHWAY} PROPERTIES
      SKIP_PRECOMPILE_HEADERS ON
      COMPILE_OPTIONS "$<$<CONFIG:Release>:-O3>;-ffp-contract=fast")
  endif()
  set_property(GLOBAL APPEND PROPERTY HEADWAY_LAYERS ${name})
endfunction()

# headway_program(<name> SOURCES main.cpp … LAYERS <layers>): build/<preset>/bin/<name>
function(headway_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LAYERS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE headway_options)
  _headway_link_layers(${name} ${ARG_LAYERS})
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin"
    INSTALL_RPATH "${HEADWAY_TORCH_RUNTIME_DIRS}")
endfunction()

# Links layers, and takes the precompiled header when one of them uses libtorch.
function(_headway_link_layers target)
  set(torch OFF)
  foreach(layer IN LISTS ARGN)
    headway_layer_row(${layer} ROW)
    target_link_libraries(${target} PRIVATE headway_${layer})
    if(ROW_TORCH)
      set(torch ON)
    endif()
  endforeach()
  if(torch)
    target_link_libraries(${target} PRIVATE headway::torch headway_torch_fmt)
    target_precompile_headers(${target} REUSE_FROM headway_torch_pch)
  endif()
endfunction()

# headway_test(<name> SOURCES x_test.cpp … LAYERS <layers> [LIBRARIES <targets>] [TIMEOUT s]
#              [LABELS …] [PROGRAM])
# One binary and one ctest entry, labelled with its kind: the first folder below tests/.
# Tests see HEADWAY_TESTS_DIR, and with PROGRAM also HEADWAY_PROGRAM (the headway binary).
function(headway_test name)
  cmake_parse_arguments(ARG "PROGRAM" "TIMEOUT" "SOURCES;LAYERS;LIBRARIES;LABELS" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "headway_test(${name}): unknown arguments ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  file(RELATIVE_PATH place "${PROJECT_SOURCE_DIR}/tests" "${CMAKE_CURRENT_SOURCE_DIR}")
  string(REGEX REPLACE "/.*" "" kind "${place}")
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE headway_options ${ARG_LIBRARIES}
    GTest::gmock GTest::gtest_main rapidcheck rapidcheck_gtest)
  _headway_link_layers(${name} ${ARG_LAYERS})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_definitions(${name} PRIVATE HEADWAY_TESTS_DIR="${PROJECT_SOURCE_DIR}/tests")
  if(ARG_PROGRAM)
    target_compile_definitions(${name} PRIVATE HEADWAY_PROGRAM="$<TARGET_FILE:headway>")
    add_dependencies(${name} headway)
  endif()
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests/${kind}")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES
    TIMEOUT ${ARG_TIMEOUT} LABELS "${kind};${ARG_LABELS}" ENVIRONMENT "${HEADWAY_TEST_ENVIRONMENT}")
endfunction()

# headway_benchmark(<name> SOURCES … LAYERS <layers>): Google Benchmark, never a test.
function(headway_benchmark name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LAYERS" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE headway_options benchmark::benchmark_main)
  _headway_link_layers(${name} ${ARG_LAYERS})
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bench")
endfunction()
