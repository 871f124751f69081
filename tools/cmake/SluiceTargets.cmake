# How every library and program of the project is declared: warnings, include root and the link rule.
#
# The link rule (A <- B: B may use A):
#     core <- dialects <- passes <- compiler <- tools        core <- runtime <- tools
# `core` is the device-free part of the runtime (base, artifact, quant, text, placement). A link
# against the arrows stops the configuration with the names of both targets.

set(SLUICE_LAYERS_core core)
set(SLUICE_LAYERS_runtime core runtime)
set(SLUICE_LAYERS_dialects core dialects)
set(SLUICE_LAYERS_passes core dialects passes)
set(SLUICE_LAYERS_compiler core dialects passes compiler)
set(SLUICE_LAYERS_tools core runtime dialects passes compiler tools)

function(sluice_check_link_rule target layer)
  foreach(dep IN LISTS ARGN)
    if(TARGET ${dep})
      get_target_property(dep_layer ${dep} SLUICE_LAYER)
      if(dep_layer AND NOT dep_layer IN_LIST SLUICE_LAYERS_${layer})
        message(FATAL_ERROR
          "link rule: ${target} (layer ${layer}) must not link ${dep} (layer ${dep_layer}); "
          "allowed layers: ${SLUICE_LAYERS_${layer}}")
      endif()
    endif()
  endforeach()
endfunction()

function(sluice_apply_options target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wno-unused-parameter
    $<$<BOOL:${SLUICE_WERROR}>:-Werror>)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}>)
endfunction()

# LLVM and MLIR headers are system headers (their warnings are not ours) and come through one
# shared library each: linking the static archives beside them registers options twice.
function(sluice_use_mlir target)
  target_include_directories(${target} SYSTEM PUBLIC ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
  separate_arguments(definitions NATIVE_COMMAND "${LLVM_DEFINITIONS}")
  target_compile_options(${target} PRIVATE ${definitions} -fno-exceptions)
  target_link_libraries(${target} PUBLIC MLIR LLVM)
endfunction()

# sluice_add_library(NAME LAYER layer SOURCES ... [LINK ...] [LINK_PRIVATE ...] [MLIR] [DEPENDS ...])
function(sluice_add_library name)
  cmake_parse_arguments(A "MLIR" "LAYER" "SOURCES;LINK;LINK_PRIVATE;DEPENDS" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  set_target_properties(${name} PROPERTIES SLUICE_LAYER ${A_LAYER})
  sluice_check_link_rule(${name} ${A_LAYER} ${A_LINK} ${A_LINK_PRIVATE})
  sluice_apply_options(${name})
  target_link_libraries(${name} PUBLIC ${A_LINK} PRIVATE ${A_LINK_PRIVATE})
  if(A_MLIR)
    sluice_use_mlir(${name})
  endif()
  if(A_DEPENDS)
    add_dependencies(${name} ${A_DEPENDS})
  endif()
endfunction()

# The compiler's installed programs look for LLVM's libraries where they were linked: Debian keeps
# them outside the loader's path.
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)

# sluice_add_tool(NAME SOURCES ... [LINK ...] [MLIR]): a program in build/bin.
function(sluice_add_tool name)
  cmake_parse_arguments(A "MLIR" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  set_target_properties(${name} PROPERTIES SLUICE_LAYER tools)
  sluice_check_link_rule(${name} tools ${A_LINK})
  sluice_apply_options(${name})
  target_link_libraries(${name} PRIVATE ${A_LINK})
  if(A_MLIR)
    sluice_use_mlir(${name})
  endif()
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

# sluice_add_gtest(NAME SOURCES ... LINK ... [MLIR] [LABEL label] [FIXTURE fixture]): one ctest entry
# per test case, which runs after the ctest fixture.
function(sluice_add_gtest name)
  cmake_parse_arguments(A "MLIR" "LABEL;FIXTURE" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  sluice_apply_options(${name})
  target_link_libraries(${name} PRIVATE ${A_LINK} GTest::gtest GTest::gtest_main GTest::gmock)
  if(A_MLIR)
    sluice_use_mlir(${name})
  endif()
  target_compile_definitions(${name} PRIVATE
    SLUICE_SOURCE_DIR="${PROJECT_SOURCE_DIR}" SLUICE_BINARY_DIR="${PROJECT_BINARY_DIR}")
  if(NOT A_LABEL)
    set(A_LABEL unit)
  endif()
  set(properties LABELS ${A_LABEL} TIMEOUT 300)
  if(A_FIXTURE)
    list(APPEND properties FIXTURES_REQUIRED ${A_FIXTURE})
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES ${properties})
endfunction()

# Fuzzing needs every library instrumented, or the fuzzer sees no new paths in them.
if(SLUICE_BUILD_FUZZERS)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "SLUICE_BUILD_FUZZERS needs clang (libFuzzer), not ${CMAKE_CXX_COMPILER_ID}: "
                        "configure with -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
                      -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=address,undefined)
endif()
set(SLUICE_FUZZ_SECONDS 20 CACHE STRING "How long ctest runs each fuzz target")

# sluice_add_fuzzer(NAME SOURCES ... LINK ... [SEEDS target] [DICTIONARY file]): a libFuzzer program
# and a bounded run of it under ctest, label `fuzz`; nothing unless SLUICE_BUILD_FUZZERS is on. SEEDS
# is an executable target that writes the seed corpus into the directory it is given.
function(sluice_add_fuzzer name)
  cmake_parse_arguments(A "" "SEEDS;DICTIONARY" "SOURCES;LINK" ${ARGN})
  if(NOT SLUICE_BUILD_FUZZERS)
    return()
  endif()
  add_executable(${name} ${A_SOURCES})
  sluice_apply_options(${name})
  target_link_libraries(${name} PRIVATE ${A_LINK})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set(work ${CMAKE_CURRENT_BINARY_DIR}/${name}.dir)
  file(MAKE_DIRECTORY ${work}/found ${work}/seeds ${work}/crashes)
  set(corpus ${work}/found) # what the fuzzer finds goes into the first directory
  if(A_SEEDS)
    add_custom_command(TARGET ${name} POST_BUILD COMMAND ${A_SEEDS} ${work}/seeds VERBATIM)
    add_dependencies(${name} ${A_SEEDS})
    list(APPEND corpus ${work}/seeds)
  endif()
  set(dictionary)
  if(A_DICTIONARY)
    set(dictionary -dict=${CMAKE_CURRENT_SOURCE_DIR}/${A_DICTIONARY})
  endif()
  math(EXPR timeout "${SLUICE_FUZZ_SECONDS} + 100")
  add_test(NAME ${name} COMMAND ${name} -runs=1000000 -max_total_time=${SLUICE_FUZZ_SECONDS}
    -timeout=10 -rss_limit_mb=2048 -artifact_prefix=${work}/crashes/ ${dictionary} ${corpus})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT ${timeout})
endfunction()
