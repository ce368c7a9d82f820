#include "worker/engine/target/tensorrt_llm/dialect.h"

#include <algorithm>
#include <array>
#include <iterator>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine::tensorrt_llm {
namespace {

// How 0.18 to 0.21 deal out layers that do not divide changed between their releases: not used.
constexpr auto kDialects = std::to_array<Dialect>({
    {.version = {0, 11}},
    {.version = {0, 12}},
    {.version = {0, 13}},
    {.version = {0, 14}},
    {.version = {0, 15}},
    {.version = {0, 16}},
    {.version = {0, 17}},
    {.version = {0, 18}},
    {.version = {0, 19}},
    {.version = {0, 20}},
    {.version = {0, 21}},
    {.version = {1, 0}, .balanced_stages = true},
    {.version = {1, 1}, .balanced_stages = true},
    {.version = {1, 2}, .balanced_stages = true},
});

// "0.20", "v0.20.0" and "1.0rc1" are of 0.20 and 1.0; "1.10" is not of 1.1.
bool IsOf(std::string_view release, Version version) {
  release.remove_prefix(release.starts_with('v') ? 1 : 0);
  const std::string name = ToString(version);
  return release.starts_with(name) &&
         (release.size() == name.size() || release[name.size()] < '0' || release[name.size()] > '9');
}

}  // namespace

std::string ToString(Version version) { return fmt::format("{}.{}", version.major, version.minor); }

absl::StatusOr<Dialect> FindDialect(std::string_view version) {
  if (version.empty()) {
    return Dialect{};
  }
  for (Dialect dialect : kDialects) {
    if (IsOf(version, dialect.version)) {
      dialect.named = true;
      return dialect;
    }
  }
  std::string known;
  for (const Dialect& dialect : kDialects) {
    fmt::format_to(std::back_inserter(known), "{}{}", known.empty() ? "" : ", ", ToString(dialect.version));
  }
  return Error(Reason::kOptionUnsupported,
               fmt::format("TensorRT-LLM {} is not one of the versions that build engines from such checkpoints: {}; "
                           "newer ones load what --target huggingface writes",
                           version.substr(0, 100), known));
}

}  // namespace slipway::engine::tensorrt_llm
