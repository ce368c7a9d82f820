#include "server/services/names.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::server {
namespace {

constexpr std::string_view kPrefix = "exports/";
constexpr std::size_t kMaximumId = 64;

}  // namespace

std::string ExportName(std::string_view id) { return fmt::format("{}{}", kPrefix, id); }

absl::StatusOr<std::string> ParseExportName(std::string_view name) {
  const std::string_view id = name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : std::string_view();
  const bool plain = std::ranges::all_of(id, [](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9') || letter == '-';
  });
  if (id.empty() || id.size() > kMaximumId || !plain) {
    return Error(Reason::kInvalidArgument, "name must have the form exports/{id}.");
  }
  return std::string(id);
}

}  // namespace slipway::server
