#include "worker/engine/checkpoint/ignored_tally.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "common/checked_math.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMaximumExamples = 3;
constexpr std::int64_t kUnknown = -1;

std::int64_t Sum(std::int64_t a, std::int64_t b) {
  return a == kUnknown || b == kUnknown ? kUnknown : CheckedAdd(a, b).value_or(kUnknown);
}

}  // namespace

void IgnoredTally::Add(std::string_view reason, std::string_view name, std::optional<std::int64_t> bytes) {
  IgnoredEntries& entries = Of(reason);
  ++entries.count;
  entries.bytes = Sum(entries.bytes, bytes.value_or(kUnknown));
  if (entries.examples.size() < kMaximumExamples) {
    entries.examples.emplace_back(name);
  }
}

void IgnoredTally::Add(const IgnoredEntries& added) {
  IgnoredEntries& entries = Of(added.reason);
  entries.count += added.count;
  entries.bytes = Sum(entries.bytes, added.bytes);
  for (const std::string& example : added.examples) {
    if (entries.examples.size() < kMaximumExamples && std::ranges::count(entries.examples, example) == 0) {
      entries.examples.push_back(example);
    }
  }
}

std::vector<IgnoredEntries> IgnoredTally::Take() { return std::exchange(entries_, {}); }

IgnoredEntries& IgnoredTally::Of(std::string_view reason) {
  const auto found = std::ranges::find(entries_, reason, &IgnoredEntries::reason);
  if (found != entries_.end()) {
    return *found;
  }
  IgnoredEntries& entries = entries_.emplace_back();
  entries.reason = reason;
  return entries;
}

}  // namespace slipway::engine
