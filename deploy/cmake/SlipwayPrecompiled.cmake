# Precompiled headers: most of the time of a full build goes into the same few library headers. Off by default, so that a
# missing include shows; tests/run.sh and deploy/quickstart.sh switch them on where whole trees are built.
option(SLIPWAY_PRECOMPILED_HEADERS "Precompile the headers of libraries" OFF)

set(slipway_base_headers <algorithm> <cstdint> <functional> <map> <memory> <mutex> <optional> <span> <string>
  <string_view> <utility> <vector> <fmt/format.h> <nlohmann/json.hpp> <absl/status/statusor.h>
  <absl/container/inlined_vector.h>)
set(slipway_rpc_headers <grpcpp/grpcpp.h>)
set(slipway_test_headers <gmock/gmock.h> <gtest/gtest.h>)

# slipway_precompile(TARGET [rpc] [test]): what the target's sources include anyway.
function(slipway_precompile target)
  if(NOT SLIPWAY_PRECOMPILED_HEADERS)
    return()
  endif()
  target_precompile_headers(${target} PRIVATE ${slipway_base_headers})
  foreach(group IN LISTS ARGN)
    target_precompile_headers(${target} PRIVATE ${slipway_${group}_headers})
  endforeach()
endfunction()
