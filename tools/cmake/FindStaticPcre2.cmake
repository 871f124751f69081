# Defines StaticPcre2::pcre2, the static library libpcre2-8.a. Used by the build and, installed, by the
# package file: an imported target travels between machines, the path of a library does not.
find_library(STATIC_PCRE2_LIBRARY NAMES libpcre2-8.a)
mark_as_advanced(STATIC_PCRE2_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(StaticPcre2 REQUIRED_VARS STATIC_PCRE2_LIBRARY)

if(StaticPcre2_FOUND AND NOT TARGET StaticPcre2::pcre2)
  add_library(StaticPcre2::pcre2 STATIC IMPORTED)
  set_target_properties(StaticPcre2::pcre2 PROPERTIES IMPORTED_LOCATION ${STATIC_PCRE2_LIBRARY})
endif()
