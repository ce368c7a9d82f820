// The closed list of globals that a pickle may name, and what an instance of each becomes. Nothing on it is ever
// imported or called: even an "opaque" entry is only a name to remember. Names off the list are refused because no
// checkpoint has a reason to carry them.
#pragma once

#include <optional>
#include <string_view>

namespace slipway::engine {

// What calling a global (REDUCE, NEWOBJ) makes.
enum class PickleForm {
  kOpaque,      // a record of the class's name, arguments and state
  kDictionary,  // OrderedDict, dict
  kSequence,    // list, set, frozenset: a list
  kTuple,       // tuple, torch.Size: the one argument
  kBytes,       // bytes, bytearray, _codecs.encode(text, "latin1")
  kFirst,       // the first argument: torch.nn.Parameter is its tensor
  kInstance,    // copyreg._reconstructor(class, object, None): an opaque record of that class
};

// nullopt for a global that is not on the list.
std::optional<PickleForm> FormOfGlobal(std::string_view module, std::string_view name);

}  // namespace slipway::engine
