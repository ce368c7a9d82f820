#include "common/parallel_size.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"
#include "common/vocabulary.h"

namespace slipway {

absl::Status CheckParallelSize(std::string_view option, std::int64_t size, std::span<const std::string> targets) {
  if (size < 1 || size > kMaximumParallelSize) {
    return Error(Reason::kInvalidArgument,
                 fmt::format("{}: {} is not from 1 to {}.", option, size, kMaximumParallelSize));
  }
  if (size > 1 && std::ranges::none_of(targets, [](const auto& target) { return HasRanks(target); })) {
    std::vector<std::string> with_ranks = NamesOf(Targets());
    std::erase_if(with_ranks, [](const std::string& target) { return !HasRanks(target); });
    return Error(Reason::kInvalidArgument,
                 fmt::format("{}: {} changes nothing in target {}, which any number of ranks loads; it is for {}.",
                             option, size, fmt::join(targets, ", "), fmt::join(with_ranks, ", ")));
  }
  return absl::OkStatus();
}

absl::Status CheckTensorRtLlmVersion(std::string_view option, std::string_view version,
                                     std::span<const std::string> targets) {
  constexpr std::size_t kMaximumLength = 32;
  const auto is_of_a_version = [](char letter) {
    return (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'z') || letter == '.' || letter == '+' ||
           letter == '-';
  };
  if (version.size() > kMaximumLength || !std::ranges::all_of(version, is_of_a_version)) {
    return Error(Reason::kInvalidArgument, fmt::format("{}: that is not a version like 0.20 or 1.0.0rc1.", option));
  }
  constexpr std::string_view kTarget = "tensorrt-llm";
  if (!version.empty() && std::ranges::find(targets, kTarget) == targets.end()) {
    return Error(Reason::kInvalidArgument, fmt::format("{}: {} changes nothing in target {}; it is for {}.", option,
                                                       version, fmt::join(targets, ", "), kTarget));
  }
  return absl::OkStatus();
}

}  // namespace slipway
