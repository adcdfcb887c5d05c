# Installs the libraries, their headers, the program and the files for find_package(headway).
# Included last: it needs the list of layers.

include_guard(GLOBAL)
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(layers GLOBAL PROPERTY HEADWAY_LAYERS)
list(REMOVE_ITEM layers cli)
list(TRANSFORM layers PREPEND headway_ OUTPUT_VARIABLE libraries)

# headway::headway, everything that a program of one's own would link.
add_library(headway_all INTERFACE)
add_library(headway::headway ALIAS headway_all)
set_target_properties(headway_all PROPERTIES EXPORT_NAME headway)
target_link_libraries(headway_all INTERFACE ${libraries})

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/headway")
install(TARGETS headway_all headway_torch_fmt ${libraries} EXPORT headwayTargets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(EXPORT headwayTargets NAMESPACE headway:: DESTINATION "${package_dir}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/headway" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h"
  PATTERN "internal" EXCLUDE PATTERN "reference" EXCLUDE
  PATTERN "cpu" EXCLUDE PATTERN "cuda" EXCLUDE)

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/headwayConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/headwayConfig.cmake" INSTALL_DESTINATION "${package_dir}"
  NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/headwayConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/headwayConfig.cmake" "${PROJECT_BINARY_DIR}/headwayConfigVersion.cmake"
  "${PROJECT_SOURCE_DIR}/cmake/deps.cmake" "${PROJECT_SOURCE_DIR}/cmake/torch.cmake"
  DESTINATION "${package_dir}")

if(TARGET headway)
  install(TARGETS headway RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()
