# Compiler and linker settings of this repository's own code: the target headway_options.
# No -ffast-math (results would depend on the optimiser) and no -march=native (kernels are
# dispatched at run time). Not installed: a consumer chooses its own flags.

include_guard(GLOBAL)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug, Sanitize" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g1 -D_GLIBCXX_ASSERTIONS")
set(CMAKE_CXX_FLAGS_SANITIZE
  "-O1 -g1 -D_GLIBCXX_ASSERTIONS -fno-omit-frame-pointer")
# Sanitized code looks uninitialised to g++ 12 where it is not (variants that are moved).
string(APPEND CMAKE_CXX_FLAGS_SANITIZE
  " -fsanitize=address,undefined -fno-sanitize-recover=undefined -Wno-maybe-uninitialized")
set(CMAKE_EXE_LINKER_FLAGS_SANITIZE "-fsanitize=address,undefined")
set(CMAKE_SHARED_LINKER_FLAGS_SANITIZE "-fsanitize=address,undefined")

# Several test binaries share few cores: threads that wait must not spin.
set(HEADWAY_TEST_ENVIRONMENT "OMP_WAIT_POLICY=PASSIVE")

# libtorch is not instrumented and needs no exception from any check, leaks included.
if(CMAKE_BUILD_TYPE STREQUAL "Sanitize")
  list(APPEND HEADWAY_TEST_ENVIRONMENT "UBSAN_OPTIONS=print_stacktrace=1")
endif()

# Everywhere alike, executables included: the precompiled header is valid for identical flags only.
add_library(headway_options INTERFACE)
target_compile_options(headway_options INTERFACE
  -fPIC -fopenmp -Wall -Wextra -Wno-missing-field-initializers -Winvalid-pch)
target_link_options(headway_options INTERFACE -fopenmp)
if(HEADWAY_WERROR)
  target_compile_options(headway_options INTERFACE -Werror)
endif()

find_program(HEADWAY_CCACHE ccache)
if(HEADWAY_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # A precompiled header hides the macros and times of what it was made from; ccache wants to be
  # told that this is all right before it caches a file that uses one.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros ${HEADWAY_CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(headway_options INTERFACE -fpch-preprocess)
  endif()
endif()

find_program(HEADWAY_MOLD mold)
if(HEADWAY_MOLD)
  target_link_options(headway_options INTERFACE -fuse-ld=mold)
endif()
