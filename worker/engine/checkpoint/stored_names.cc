#include "worker/engine/checkpoint/stored_names.h"

#include <array>
#include <cstddef>
#include <string>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

struct IgnoredName {
  std::string_view text;
  bool at_start;  // else anywhere in the name
  std::string_view reason;
};
constexpr std::array kIgnoredNames = std::to_array<IgnoredName>({
    {"optimizer.", true, "optimizer state"},
    {"chained_", true, "optimizer state"},
    {"rng_state", true, "random number generator state"},
    {"rerun_state_machine", true, "rerun state"},
    {"._extra_state", false, "extra state of Transformer Engine"},
    {"rotary_pos_emb.inv_freq", false, "rotary frequencies, which follow from the configuration"},
    {".router.local_tokens_per_expert", false, "counts of tokens, which training keeps"},
});

}  // namespace

std::string_view ReasonToIgnoreName(std::string_view name) {
  for (const IgnoredName& row : kIgnoredNames) {
    const std::size_t found = name.find(row.text);
    if (row.at_start ? found == 0 : found != std::string_view::npos) {
      return row.reason;
    }
  }
  return {};
}

std::optional<QuantizerTensorName> ParseQuantizerTensorName(std::string_view name) {
  constexpr std::string_view kQuantizer = "_quantizer";
  const std::size_t last = name.rfind('.');
  if (last == std::string_view::npos || !name.substr(last + 1).starts_with('_')) {
    return std::nullopt;
  }
  std::string_view path = name.substr(0, last);
  const std::size_t digits = path.find_last_not_of("0123456789") + 1;
  if (digits > 0 && digits < path.size() && path[digits - 1] == '.') {
    path = path.substr(0, digits - 1);
  }
  const std::size_t module = path.rfind('.');
  if (module == std::string_view::npos || !path.ends_with(kQuantizer)) {
    return std::nullopt;
  }
  return QuantizerTensorName{.module = name.substr(0, module),
                             .quantizer = name.substr(module + 1, last - module - 1),
                             .buffer = name.substr(last + 1)};
}

absl::Status CheckNotNeeded(const QuantizerTensorName& name) {
  return name.buffer.starts_with("_amax") || name.buffer == "_global_amax"
             ? absl::OkStatus()
             : Error(Reason::kCheckpointUnsupported,
                     fmt::format("ModelOpt changed the weight of {}: {} of such a checkpoint is read in the torch_dist "
                                 "format only. Save it as torch_dist, or export the weights from before calibration",
                                 name.module, name.buffer),
                     {.tensor = std::string(name.module).append(".weight")});
}

std::string_view WithoutWrappers(std::string_view name) {
  for (bool again = true; again;) {
    again = false;
    for (const std::string_view wrapper : {std::string_view("module."), std::string_view("model.")}) {
      if (name.starts_with(wrapper)) {
        name.remove_prefix(wrapper.size());
        again = true;
      }
    }
  }
  return name;
}

}  // namespace slipway::engine
