# The rooms of the house and the arrows between them: one row a room, "name | path prefix | rooms that it may include".
# A room may include itself and whatever its arrows reach. elserve_library() links by this table, and the build fails
# on an #include that the table does not allow (cmake/check_includes.cmake).
set(ELSERVE_ROOMS
  "decoding     | engine/decoding              |"
  "attention    | engine/attention_           |"
  "precision    | engine/precision             |"
  "host_resources | engine/host_resources      |"
  "thread_pool  | engine/thread_pool           | host_resources"
  "memory_plan  | engine/memory_plan           | backend host_resources"
  "int8_weight  | engine/backend/int8_weight   |"
  "backend      | engine/backend/backend       | attention decoding"
  "reference    | engine/backend/reference/    | backend int8_weight"
  "cpu          | engine/backend/cpu/          | backend int8_weight thread_pool"
  "cuda         | engine/backend/cuda/         | backend"
  "memory       | engine/memory/               |"
  "search       | engine/search/               | decoding"
  "checkpoint   | engine/model/checkpoint/     | backend"
  "families     | engine/model/families/       | checkpoint model_config model_weights"
  "model_config | engine/model/model_config    | backend"
  "model_weights | engine/model/model_weights  | backend"
  "model        | engine/model/                | backend precision checkpoint families model_config model_weights"
  "engine_api   | engine/engine.h              | attention decoding precision thread_pool"
  "engine       | engine/                      | engine_api model search memory memory_plan backend cpu cuda reference"
  "proto        | proto/                       |"
  "parameters   | server/parameters/           | proto decoding"
  "config       | server/config/               | parameters engine_api text"
  "text         | server/text/                 |"
  "scheduling   | server/scheduling/           | engine_api"
  "requests     | server/requests/             | text config parameters scheduling"
  "rpc          | server/rpc/                  | requests"
  "ops          | server/ops/                  | requests"
  "client       | server/commands/client/      | config text"
  "serving      | server/serving/              | ops"
  "commands     | server/commands/             | client serving rpc engine"
  "main         | server/main                  | commands"
)

# Backends that are not part of this build: an arrow to them has no target.
set(ELSERVE_ABSENT_ROOMS "")
if(NOT ELSERVE_CPU)
  list(APPEND ELSERVE_ABSENT_ROOMS cpu)
endif()
if(NOT ELSERVE_WITH_CUDA)
  list(APPEND ELSERVE_ABSENT_ROOMS cuda)
endif()
if(NOT ELSERVE_REFERENCE)
  list(APPEND ELSERVE_ABSENT_ROOMS reference)
endif()

set(ELSERVE_ROOM_NAMES "")
foreach(row IN LISTS ELSERVE_ROOMS)
  string(REGEX MATCH "^([a-z0-9_]+) *\\| *([^ |]+) *\\|(.*)$" _ "${row}")
  set(name ${CMAKE_MATCH_1})
  list(APPEND ELSERVE_ROOM_NAMES ${name})
  set(ELSERVE_PREFIX_${name} ${CMAKE_MATCH_2})
  string(STRIP "${CMAKE_MATCH_3}" arrows)
  separate_arguments(arrows)
  set(ELSERVE_ARROWS_${name} ${arrows})
endforeach()

# Everything that `room` may include, itself first.
function(elserve_reachable room out)
  set(seen "")
  set(open ${room})
  while(open)
    list(POP_FRONT open next)
    if(NOT next IN_LIST seen)
      if(NOT next IN_LIST ELSERVE_ROOM_NAMES)
        message(FATAL_ERROR "cmake/rooms.cmake: no room is named ${next}")
      endif()
      list(APPEND seen ${next})
      list(APPEND open ${ELSERVE_ARROWS_${next}})
    endif()
  endwhile()
  set(${out} ${seen} PARENT_SCOPE)
endfunction()

# elserve_library(ROOM [SOURCES file...] [LIBS target...])
# The static library elserve_ROOM (an interface library without SOURCES). It links the rooms of its arrows, and LIBS.
function(elserve_library room)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  set(target elserve_${room})
  if(ARG_SOURCES)
    add_library(${target} STATIC ${ARG_SOURCES})
    set(scope PUBLIC)
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(${target} ${scope} ${PROJECT_SOURCE_DIR})
  foreach(arrow IN LISTS ELSERVE_ARROWS_${room})
    if(NOT arrow IN_LIST ELSERVE_ABSENT_ROOMS)
      target_link_libraries(${target} ${scope} elserve_${arrow})
    endif()
  endforeach()
  target_link_libraries(${target} ${scope} ${ARG_LIBS})
  if(ARG_SOURCES)
    elserve_check_includes(${room} ${target})
  endif()
endfunction()

# Checks the includes of every file of the room's folder before its library is built.
function(elserve_check_includes room target)
  elserve_reachable(${room} reachable)
  set(allowed "")
  foreach(name IN LISTS reachable)
    list(APPEND allowed ${ELSERVE_PREFIX_${name}})
  endforeach()
  set(prefixes "")
  foreach(name IN LISTS ELSERVE_ROOM_NAMES)
    list(APPEND prefixes ${ELSERVE_PREFIX_${name}})
  endforeach()
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.h ${CMAKE_CURRENT_SOURCE_DIR}/*.cc
       ${CMAKE_CURRENT_SOURCE_DIR}/*.cuh ${CMAKE_CURRENT_SOURCE_DIR}/*.cu)
  set(stamp ${CMAKE_CURRENT_BINARY_DIR}/${target}.includes)
  add_custom_command(OUTPUT ${stamp}
    COMMAND ${CMAKE_COMMAND} -DROOM=${ELSERVE_PREFIX_${room}} "-DALLOWED=${allowed}" "-DPREFIXES=${prefixes}"
            -DROOT=${PROJECT_SOURCE_DIR} "-DFILES=${files}" -P ${PROJECT_SOURCE_DIR}/cmake/check_includes.cmake
    COMMAND ${CMAKE_COMMAND} -E touch ${stamp}
    DEPENDS ${files} ${PROJECT_SOURCE_DIR}/cmake/check_includes.cmake ${PROJECT_SOURCE_DIR}/cmake/rooms.cmake
    COMMENT "Checking the includes of ${ELSERVE_PREFIX_${room}}"
    VERBATIM)
  add_custom_target(${target}_includes DEPENDS ${stamp})
  add_dependencies(${target} ${target}_includes)
endfunction()

# elserve_test(PATH [ROOMS room...] [LIBS target...] [SOURCES file...])
# tests/PATH.cc becomes the program and the CTest test PATH with slashes as underscores.
function(elserve_test path)
  cmake_parse_arguments(ARG "" "" "ROOMS;LIBS;SOURCES" ${ARGN})
  string(REPLACE "/" "_" name ${path})
  add_executable(${name} ${PROJECT_SOURCE_DIR}/tests/${path}.cc ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  foreach(room IN LISTS ARG_ROOMS)
    target_link_libraries(${name} PRIVATE elserve_${room})
  endforeach()
  target_link_libraries(${name} PRIVATE ${ARG_LIBS} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE ELSERVE_SOURCE_DIR="${ELSERVE_TEST_DATA}")
  # A test's own code is compiled for longer than it runs.
  if(ELSERVE_SANITIZE)
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O0>)
  elseif(NOT CMAKE_BUILD_TYPE STREQUAL Debug)
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O1>)
  endif()
  add_test(NAME ${name} COMMAND ${name})
endfunction()

# The test takes in the cuda backend where that is built, and is part of gpu_tests (gpu_bundle.cmake).
function(elserve_gpu_test name)
  if(ELSERVE_WITH_CUDA)
    target_compile_definitions(${name} PRIVATE ELSERVE_TEST_CUDA=1)
    set_property(GLOBAL APPEND PROPERTY ELSERVE_GPU_TESTS ${name})
  endif()
endfunction()
