# Defines StaticUtf8proc::utf8proc, the static library libutf8proc.a. Used by the build and, installed,
# by the package file: an imported target travels between machines, the path of a library does not.
find_library(STATIC_UTF8PROC_LIBRARY NAMES libutf8proc.a)
mark_as_advanced(STATIC_UTF8PROC_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(StaticUtf8proc REQUIRED_VARS STATIC_UTF8PROC_LIBRARY)

if(StaticUtf8proc_FOUND AND NOT TARGET StaticUtf8proc::utf8proc)
  add_library(StaticUtf8proc::utf8proc STATIC IMPORTED)
  set_target_properties(StaticUtf8proc::utf8proc PROPERTIES
    IMPORTED_LOCATION ${STATIC_UTF8PROC_LIBRARY})
endif()
