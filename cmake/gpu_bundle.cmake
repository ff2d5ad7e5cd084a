# The program gpu_tests: the tests that need a GPU, in one. The target gpu_bundle: that, the benchmarks and the script that
# runs them, in BUILD/gpu-bundle, for a machine with the CUDA toolkit and a checkout, and nothing else that elserve is built
# with: `make gpu-bundle` configures it so that all but CUDA's libraries and the C library is linked statically
# (-DELSERVE_STATIC=ON) and data is found from the checkout's top folder (-DELSERVE_TEST_DATA=.).
get_property(tests GLOBAL PROPERTY ELSERVE_GPU_TESTS)
set(sources "")
foreach(test IN LISTS tests)
  get_target_property(own ${test} SOURCES)
  list(APPEND sources ${own})
endforeach()
list(REMOVE_DUPLICATES sources)
add_executable(gpu_tests EXCLUDE_FROM_ALL ${sources})
target_include_directories(gpu_tests PRIVATE ${PROJECT_SOURCE_DIR})
target_compile_definitions(gpu_tests PRIVATE ELSERVE_SOURCE_DIR="${ELSERVE_TEST_DATA}" ELSERVE_TEST_CUDA=1)
target_link_libraries(gpu_tests PRIVATE elserve_traffic elserve_golden_cases elserve_backend_harness GTest::gmock GTest::gtest_main)

set(bundle ${CMAKE_BINARY_DIR}/gpu-bundle)
set(programs gpu_tests engine_bench cuda_bench)
set(steps "")
foreach(program IN LISTS programs)
  list(APPEND steps COMMAND strip -o ${bundle}/${program} $<TARGET_FILE:${program}>)
endforeach()
add_custom_target(gpu_bundle
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${bundle}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${bundle}
  ${steps}
  COMMAND ${CMAKE_COMMAND} -E copy ${PROJECT_SOURCE_DIR}/tests/bench/gpu.sh ${bundle}
  DEPENDS ${programs}
  VERBATIM)
