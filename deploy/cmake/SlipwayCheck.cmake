# cmake --build BUILD --target check: formatting and clang-tidy over the whole tree.
add_custom_target(check
  COMMAND "${CMAKE_SOURCE_DIR}/tests/check.sh" --format --shell --tidy=all "${CMAKE_BINARY_DIR}"
  WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}"
  COMMENT "Checking format and clang-tidy"
  USES_TERMINAL
  VERBATIM)
