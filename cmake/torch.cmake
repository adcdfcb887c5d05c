# Defines headway::torch, the imported target for libtorch. Written by hand because the package
# files of the CUDA wheel ask for a CUDA toolkit even when only its CPU part is used.
# Used by the build and by the installed headwayConfig.cmake. Not for finding Python.
#
# In:  HEADWAY_TORCH_DIR   a pip `torch` folder or an unpacked libtorch (holds include/ and lib/)
#      HEADWAY_CUDA        also link libtorch_cuda
# Out: headway::torch, HEADWAY_TORCH_ROOT, HEADWAY_TORCH_RUNTIME_DIRS

include_guard(GLOBAL)

function(_headway_torch_root out)
  foreach(candidate "${HEADWAY_TORCH_DIR}" "${HEADWAY_TORCH_DIR}/torch"
          "${HEADWAY_TORCH_DIR}/libtorch")
    if(EXISTS "${candidate}/include/ATen/core/Tensor.h"
       AND EXISTS "${candidate}/lib/libtorch_cpu.so")
      get_filename_component(root "${candidate}" REALPATH)
      set(${out} "${root}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  message(FATAL_ERROR
    "HEADWAY_TORCH_DIR = ${HEADWAY_TORCH_DIR}: no include/ATen and lib/libtorch_cpu.so there. "
    "Run tools/setup, or set HEADWAY_TORCH_DIR to a pip `torch` folder or an unpacked libtorch.")
endfunction()

# Folders with the CUDA libraries that libtorch itself needs. pip puts them beside torch/.
function(_headway_torch_runtime_dirs root out)
  file(GLOB dirs LIST_DIRECTORIES true "${root}/../nvidia/*/lib")
  set(found "${root}/lib")
  foreach(dir IN LISTS dirs)
    get_filename_component(real "${dir}" REALPATH)
    list(APPEND found "${real}")
  endforeach()
  set(${out} "${found}" PARENT_SCOPE)
endfunction()

function(_headway_torch_library name file includes)
  add_library(headway::${name} SHARED IMPORTED GLOBAL)
  set_target_properties(headway::${name} PROPERTIES
    IMPORTED_LOCATION "${file}"
    INTERFACE_INCLUDE_DIRECTORIES "${includes}"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${includes}")
endfunction()

function(_headway_define_torch)
  _headway_torch_root(root)
  _headway_torch_runtime_dirs("${root}" runtime_dirs)
  set(includes "${root}/include" "${root}/include/torch/csrc/api/include")
  _headway_torch_library(c10 "${root}/lib/libc10.so" "${includes}")
  _headway_torch_library(torch_cpu "${root}/lib/libtorch_cpu.so" "${includes}")

  add_library(headway::torch INTERFACE IMPORTED GLOBAL)
  # libtorch ships fmt's headers, newer than Debian's and found first, without a library to link:
  # cmake/torch_fmt is that library.
  set_property(TARGET headway::torch PROPERTY INTERFACE_COMPILE_DEFINITIONS
    _GLIBCXX_USE_CXX11_ABI=1)
  set_property(TARGET headway::torch PROPERTY INTERFACE_LINK_LIBRARIES
    headway::torch_cpu headway::c10)
  # Without -fopenmp at::parallel_for, which lives in a header, silently runs one chunk. Written as
  # an option, because the library of find_package(OpenMP) may be another than libtorch's.
  set_property(TARGET headway::torch PROPERTY INTERFACE_COMPILE_OPTIONS -fopenmp)
  set(options -fopenmp)
  foreach(dir IN LISTS runtime_dirs)
    list(APPEND options "LINKER:-rpath,${dir}" "LINKER:-rpath-link,${dir}")
  endforeach()
  if(HEADWAY_CUDA)
    _headway_torch_cuda("${root}" "${includes}")
    # libtorch_cuda registers its kernels when it is loaded, and nothing refers to it by name:
    # without --no-as-needed the linker drops it. Its own CUDA libraries may be absent here.
    list(APPEND options "LINKER:--no-as-needed" "LINKER:--allow-shlib-undefined")
  endif()
  set_property(TARGET headway::torch PROPERTY INTERFACE_LINK_OPTIONS "${options}")
  set(HEADWAY_TORCH_ROOT "${root}" CACHE INTERNAL "libtorch in use")
  set(HEADWAY_TORCH_RUNTIME_DIRS "${runtime_dirs}" CACHE INTERNAL "its shared libraries")
  message(STATUS "libtorch: ${root}")
endfunction()

function(_headway_torch_cuda root includes)
  foreach(name c10_cuda torch_cuda)
    if(NOT EXISTS "${root}/lib/lib${name}.so")
      message(FATAL_ERROR "HEADWAY_CUDA = ON: ${root}/lib/lib${name}.so is missing. "
        "Run HEADWAY_CUDA=1 tools/setup, or set HEADWAY_TORCH_DIR to a libtorch with CUDA.")
    endif()
    _headway_torch_library(${name} "${root}/lib/lib${name}.so" "${includes}")
    set_property(TARGET headway::torch APPEND PROPERTY INTERFACE_LINK_LIBRARIES headway::${name})
  endforeach()
endfunction()

if(NOT TARGET headway::torch)
  _headway_define_torch()
endif()
