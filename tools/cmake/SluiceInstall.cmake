# What `cmake --install` puts where: the public headers, the runtime's static libraries and the
# package file with which programs outside this tree find them,
#
#     find_package(Sluice REQUIRED)
#     target_link_libraries(my-program PRIVATE Sluice::runtime)
#
# The programs are installed where sluice_add_tool declares them. Nothing written here names this
# machine: an installed tree may be moved, and the package file looks its dependencies up anew.

include(CMakePackageConfigHelpers)

# Appends to `out` the project's own libraries that `target` needs, itself included. Found by walking
# the links, so that a new library of the runtime is installed without being listed again.
function(sluice_link_closure target out)
  set(closure ${${out}} ${target})
  get_target_property(links ${target} LINK_LIBRARIES)
  foreach(link IN LISTS links)
    if(TARGET ${link} AND NOT link IN_LIST closure)
      get_target_property(layer ${link} SLUICE_LAYER)
      if(layer)
        sluice_link_closure(${link} closure)
      endif()
    endif()
  endforeach()
  set(${out} ${closure} PARENT_SCOPE)
endfunction()

# sluice_install_runtime(TARGET): installs TARGET and what it links as Sluice::<name without sluice_>.
function(sluice_install_runtime target)
  sluice_link_closure(${target} libraries)
  foreach(library IN LISTS libraries)
    string(REGEX REPLACE "^sluice_" "" name ${library})
    set_target_properties(${library} PROPERTIES EXPORT_NAME ${name})
  endforeach()
  install(TARGETS ${libraries} EXPORT SluiceTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/runtime/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
          FILES_MATCHING PATTERN "*.h")
  install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

  set(package ${CMAKE_INSTALL_LIBDIR}/cmake/Sluice)
  install(EXPORT SluiceTargets NAMESPACE Sluice:: DESTINATION ${package})
  configure_package_config_file(${PROJECT_SOURCE_DIR}/tools/cmake/SluiceConfig.cmake.in
    ${PROJECT_BINARY_DIR}/SluiceConfig.cmake INSTALL_DESTINATION ${package}
    NO_SET_AND_CHECK_MACRO)
  # Before 1.0 a minor version may change the interface.
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/SluiceConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/SluiceConfig.cmake
                ${PROJECT_BINARY_DIR}/SluiceConfigVersion.cmake
                ${PROJECT_SOURCE_DIR}/tools/cmake/FindStaticPcre2.cmake
                ${PROJECT_SOURCE_DIR}/tools/cmake/FindStaticUtf8proc.cmake
          DESTINATION ${package})
endfunction()
