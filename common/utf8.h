// UTF-8, as strictly as the wire takes it.
#pragma once

#include <cstddef>
#include <string_view>

namespace slipway {

// Length of the UTF-8 sequence at the start of `text`, or 0 if there is none. Strict where protobuf is: no overlong
// forms, no surrogates, nothing past U+10FFFF. `text` is not empty.
std::size_t Utf8SequenceLength(std::string_view text);

bool IsUtf8(std::string_view text);

}  // namespace slipway
