# Writes version.c where the version has changed. Run by each build: after a commit the next build shows it.
#
#   cmake -DVERSION=… -DPYTHON=… -DSOURCE=…/version.py -DIN=…/version.c.in -DOUT=…/version.c -P version.cmake
#
# VERSION is what was asked for; where it is empty, SOURCE says it, as it says it for the Python packages.
set(CFTPKI_VERSION "${VERSION}")
if(NOT CFTPKI_VERSION AND PYTHON AND EXISTS "${SOURCE}")
  execute_process(COMMAND "${PYTHON}" -I "${SOURCE}"
    OUTPUT_VARIABLE CFTPKI_VERSION OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${SOURCE} does not tell the version (or give -DCFTPKI_VERSION=…)")
  endif()
endif()
if(NOT CFTPKI_VERSION)
  set(CFTPKI_VERSION "unknown")
endif()
configure_file("${IN}" "${OUT}" @ONLY)
