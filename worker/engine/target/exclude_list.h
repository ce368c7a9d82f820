// The list of modules that Model Optimizer's configuration excludes from quantization, in few entries.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace slipway::engine {

// Sorted entries that together mean each of `kept` and none of `quantized`, however a consumer reads them: as names, as
// parts of names (vLLM looks for an entry, without a "*" at its end, anywhere in a name), as patterns of whole names or
// of one dotted part. An entry is the shortest of "a*", "a.*", "a.b*", ..., or the module's name. One thing cannot be
// said: SGLang takes a name without a dot for any quantized one that has it as a dotted part.
std::vector<std::string> ExcludeList(const std::vector<std::string_view>& kept,
                                     std::vector<std::string_view> quantized);

}  // namespace slipway::engine
