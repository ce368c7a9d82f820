// Counts what is not read, by reason.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

class IgnoredTally {
 public:
  // `bytes` is absent where the size is not known.
  void Add(std::string_view reason, std::string_view name, std::optional<std::int64_t> bytes);
  void Add(const IgnoredEntries& added);
  // In the order in which the reasons came.
  [[nodiscard]] std::vector<IgnoredEntries> Take();

 private:
  IgnoredEntries& Of(std::string_view reason);
  std::vector<IgnoredEntries> entries_;
};

}  // namespace slipway::engine
