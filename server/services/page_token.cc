#include "server/services/page_token.h"

#include <charconv>

#include <fmt/format.h>

#include "common/digest.h"
#include "common/error.h"

namespace slipway::server {
namespace {

constexpr std::size_t kOrderDigits = 16;

std::string Seal(std::string_view order, const std::string& filter) {
  return Sha256(fmt::format("page {} {}", order, filter)).substr(0, 16);
}

}  // namespace

std::string MakePageToken(std::int64_t before_order, const std::string& filter) {
  const std::string order = fmt::format("{:016x}", before_order);
  return order + Seal(order, filter);
}

absl::StatusOr<std::int64_t> ParsePageToken(const std::string& token, const std::string& filter) {
  std::int64_t order = 0;
  const std::string_view digits = std::string_view(token).substr(0, kOrderDigits);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), order, 16);
  if (error != std::errc() || end != digits.data() + kOrderDigits || order < 0 ||
      token.substr(kOrderDigits) != Seal(digits, filter)) {
    return Error(Reason::kInvalidArgument, "page_token is not one of this list; the filter must stay the same.");
  }
  return order;
}

}  // namespace slipway::server
