// A pickle's memo, holding only the entries that the pickle fetches later. Pickle writers memoize almost everything
// and fetch little; knowing beforehand what is fetched keeps the memo small and tells which values die early.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <vector>

#include "worker/engine/checkpoint/pickle.h"

namespace slipway::engine {

// First Fetch() for every fetched number, then Seal(), then Store and Load.
class PickleMemo {
 public:
  void Fetch(std::uint64_t number) {
    const std::size_t word = number / 64;
    if (word >= fetched_.size()) {
      fetched_.resize(word + 1);
    }
    fetched_[word] |= std::uint64_t{1} << (number % 64);
  }

  void Seal() {
    ranks_.reserve(fetched_.size());
    std::uint32_t rank = 0;
    for (const std::uint64_t word : fetched_) {
      ranks_.push_back(rank);
      rank += static_cast<std::uint32_t>(std::popcount(word));
    }
    values_.resize(rank);
  }

  // False where nothing fetches that number, so that nothing was kept.
  bool Store(std::uint64_t number, const PickleValue& value) {
    const std::optional<std::size_t> slot = SlotOf(number);
    if (!slot) {
      return false;
    }
    values_[*slot] = value;
    return true;
  }

  // nullopt for a number that was not stored.
  [[nodiscard]] std::optional<PickleValue> Load(std::uint64_t number) const {
    const std::optional<std::size_t> slot = SlotOf(number);
    return slot ? values_[*slot] : std::nullopt;
  }

 private:
  [[nodiscard]] std::optional<std::size_t> SlotOf(std::uint64_t number) const {
    const std::size_t word = number / 64;
    const std::uint64_t bit = std::uint64_t{1} << (number % 64);
    if (word >= fetched_.size() || (fetched_[word] & bit) == 0) {
      return std::nullopt;
    }
    return ranks_[word] + static_cast<std::size_t>(std::popcount(fetched_[word] & (bit - 1)));
  }

  std::vector<std::uint64_t> fetched_;  // one bit a number
  std::vector<std::uint32_t> ranks_;    // bits set before each word
  std::vector<std::optional<PickleValue>> values_;
};

}  // namespace slipway::engine
