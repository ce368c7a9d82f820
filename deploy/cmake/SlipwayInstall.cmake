# cmake --install: the three programs and the shell completions, which slipway itself prints.
include(GNUInstallDirs)
foreach(program slipway slipway-server slipway-worker)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
endforeach()

if(TARGET slipway)
  set(completions "${CMAKE_BINARY_DIR}/completions")
  install(CODE "
    file(MAKE_DIRECTORY \"${completions}\")
    foreach(shell bash zsh fish)
      execute_process(COMMAND \"$<TARGET_FILE:slipway>\" completions \${shell}
        OUTPUT_FILE \"${completions}/\${shell}\" COMMAND_ERROR_IS_FATAL ANY)
    endforeach()")
  install(FILES "${completions}/bash" DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions" RENAME slipway)
  install(FILES "${completions}/zsh" DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/site-functions" RENAME _slipway)
  install(FILES "${completions}/fish" DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d" RENAME slipway.fish)
endif()
