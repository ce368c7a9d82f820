// Numbers and names as the page of a quality report shows them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::engine {

// As text of HTML and XML: markup is escaped, what is no printable UTF-8 becomes "?".
std::string Escaped(std::string_view text);
// "a", "b" of "a.b".
std::vector<std::string_view> SplitAtDots(std::string_view name);
// The end of a name that has more bytes than that.
std::string_view Tail(std::string_view name, std::size_t most);

std::string Decibels(double value);         // "31.42 dB", "exact" where there is no error
std::string Percent(double share);          // "2.63 %"
std::string Count(std::int64_t value);      // "12,345"
std::string ByteCount(std::int64_t bytes);  // "16.4 MB"
std::string Significant(double value);      // "0.00123"
std::string Coordinate(double value);       // "12.3", of plots

}  // namespace slipway::engine
