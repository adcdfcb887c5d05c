# Installs this build into a fresh prefix, then configures, builds and runs examples/consumer
# against it by find_package(headway), and runs the installed program.
#
# cmake -DBUILD=… -DSOURCE=… -DWORK=… -DTYPE=… -DFLAGS=… -DGENERATOR=… -P consumer_test.cmake

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output
    ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    string(REPLACE ";" " " command "${ARGN}")
    message(FATAL_ERROR "${command}\nended with ${status}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE "${WORK}")
run(${CMAKE_COMMAND} --install "${BUILD}" --prefix "${WORK}/prefix")
run(${CMAKE_COMMAND} -S "${SOURCE}/examples/consumer" -B "${WORK}/build" -G "${GENERATOR}"
  "-DCMAKE_PREFIX_PATH=${WORK}/prefix" "-DCMAKE_BUILD_TYPE=${TYPE}" "-DCMAKE_CXX_FLAGS=${FLAGS}")
run(${CMAKE_COMMAND} --build "${WORK}/build")
run("${WORK}/build/consumer")
if(NOT output MATCHES "^loss ([0-9.]+) before one step, ([0-9.]+) after\n$")
  message(FATAL_ERROR "unexpected output of the consumer:\n${output}")
endif()
if(NOT CMAKE_MATCH_2 LESS CMAKE_MATCH_1)
  message(FATAL_ERROR "the loss did not fall:\n${output}")
endif()
run("${WORK}/prefix/bin/headway" --version)
file(REMOVE_RECURSE "${WORK}")
