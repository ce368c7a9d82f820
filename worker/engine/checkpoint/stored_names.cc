#include "worker/engine/checkpoint/stored_names.h"

#include <array>

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
    {"_quantizer.", false, "ModelOpt quantizer state"},
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
