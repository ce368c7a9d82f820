// Megatron's common state (training arguments, iteration, checkpoint_version) out of its pickle: plain JSON and the
// numbers of the parallel layout. Nothing of it is executed; objects that are not plain data keep only their names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/checkpoint/pickle.h"

namespace slipway::engine {

struct CommonState {
  nlohmann::json arguments = nlohmann::json::object();  // as Checkpoint::arguments describes
  std::optional<double> checkpoint_version;
  std::optional<std::int64_t> iteration;
  ParallelLayout layout;
};

// `state` is the dictionary of common.pt, of the entry "common_state" (already taken out of its list), or of a legacy
// rank's file; keys other than "args", "checkpoint_version" and "iteration" are not looked at. A dictionary without
// "args" gives an empty object. LIMIT_EXCEEDED for arguments that are too many or nested too deeply.
absl::StatusOr<CommonState> ReadCommonState(const PickleDocument& document, PickleValue state);

// The same where each key has a pickle of its own. True if `key` is one that is looked at; `common` then has it.
bool IsCommonKey(std::string_view key);
absl::Status AddCommonValue(const PickleDocument& document, std::string_view key, PickleValue value,
                            CommonState& common);

// One pickled value as JSON: dtypes as "torch.bfloat16", enums as {"enum": "module.Class", "value": v}, integers over
// 64 bits and non-finite numbers ("NaN", "Infinity", "-Infinity") as strings, paths and devices as their text,
// namespaces as objects, anything else as {"opaque": "module.Class"}. LIMIT_EXCEEDED as above.
absl::StatusOr<nlohmann::json> PickleToJson(const PickleDocument& document, PickleValue value);

// JSON texts must be UTF-8; Python's may hold lone surrogates, a hostile file's anything: each byte of those becomes
// "?".
std::string ValidUtf8(std::string_view text);

// The parallel sizes that the arguments tell; 0 for those that they do not.
ParallelLayout LayoutOf(const nlohmann::json& arguments);

// Fields of the arguments, absent where missing, null, or of another type. A boolean is not an integer; an integer is
// a number.
std::optional<std::int64_t> IntegerArgument(const nlohmann::json& arguments, std::string_view name);
std::optional<double> NumberArgument(const nlohmann::json& arguments, std::string_view name);
std::optional<bool> BooleanArgument(const nlohmann::json& arguments, std::string_view name);
std::optional<std::string_view> StringArgument(const nlohmann::json& arguments, std::string_view name);

}  // namespace slipway::engine
