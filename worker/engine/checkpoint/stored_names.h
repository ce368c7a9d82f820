// What the names in a distributed checkpoint say before a table of models is asked.
#pragma once

#include <string_view>

namespace slipway::engine {

// Why an entry of this name is no weight ("optimizer state"); empty where it may be one. Static storage.
std::string_view ReasonToIgnoreName(std::string_view name);

// Without the prefixes that wrappers of the model leave: "model.module.decoder.x" is "decoder.x".
std::string_view WithoutWrappers(std::string_view name);

}  // namespace slipway::engine
