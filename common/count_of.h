// Numbers of things in messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace slipway {

// "1 shard", "2 shards", "0 shards".
inline std::string CountOf(std::int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace slipway
