# cmake --install: the three programs and the shell completions.
include(GNUInstallDirs)
foreach(program slipway slipway-server slipway-worker)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
endforeach()
