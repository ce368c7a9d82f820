// Sizes, counts and times as people read them. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace slipway {

// Decimal units, three significant digits: "0 B", "512 B", "2.97 GB", "135 MB".
std::string HumanBytes(std::int64_t bytes);

// "1,234,567".
std::string HumanCount(std::int64_t count);
// "1 tensor", "1,234 tensors".
std::string HumanCount(std::int64_t count, std::string_view noun);

// Number of parameters as models are named: "135M", "8.03B".
std::string HumanParameters(std::int64_t parameters);

// "0.4 s", "12 s", "1 min 05 s", "2 h 03 min", "3 d 04 h". Negative counts as zero.
std::string HumanDuration(double seconds);

// "412 MB/s".
std::string HumanRate(double bytes_per_second);

}  // namespace slipway
