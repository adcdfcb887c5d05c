# Finds every third-party library but libtorch and gives each one name, `headway_dep_<word>`, where
# <word> is the one used in cmake/layers.txt. Used by the build and by headwayConfig.cmake.

include_guard(GLOBAL)
include(CMakeFindDependencyMacro)

function(_headway_dep word)
  if(NOT TARGET headway::dep_${word})
    add_library(headway::dep_${word} INTERFACE IMPORTED GLOBAL)
    set_property(TARGET headway::dep_${word} PROPERTY INTERFACE_LINK_LIBRARIES "${ARGN}")
  endif()
endfunction()

# A library without package files: a header and a library name.
function(_headway_find_dep word header library)
  find_path(HEADWAY_${word}_INCLUDE ${header} REQUIRED)
  find_library(HEADWAY_${word}_LIBRARY ${library} REQUIRED)
  mark_as_advanced(HEADWAY_${word}_INCLUDE HEADWAY_${word}_LIBRARY)
  _headway_dep(${word} "${HEADWAY_${word}_LIBRARY}")
  if(NOT HEADWAY_${word}_INCLUDE STREQUAL "/usr/include")
    set_property(TARGET headway::dep_${word} PROPERTY INTERFACE_INCLUDE_DIRECTORIES
      "${HEADWAY_${word}_INCLUDE}")
  endif()
endfunction()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(yaml-cpp 0.7 REQUIRED)
_headway_dep(json nlohmann_json::nlohmann_json)
_headway_dep(fmt fmt::fmt)
if(TARGET yaml-cpp::yaml-cpp)
  _headway_dep(yaml yaml-cpp::yaml-cpp)
else()
  _headway_dep(yaml yaml-cpp)
endif()
_headway_find_dep(hwy hwy/highway.h hwy)
_headway_find_dep(onig oniguruma.h onig)
_headway_find_dep(utf8proc utf8proc.h utf8proc)

if(HEADWAY_MPI)
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI REQUIRED COMPONENTS CXX)
  _headway_dep(mpi MPI::MPI_CXX)
else()
  _headway_dep(mpi "")
endif()

# What only the program and the tests of this repository need; an installed Headway does not.
if(NOT HEADWAY_LIBRARIES_ONLY)
  find_package(CLI11 2.1 REQUIRED)
  _headway_dep(cli11 CLI11::CLI11)
endif()
