#include "common/recipe_text.h"

#include <fmt/format.h>

#include "common/error.h"
#include "common/utf8.h"

namespace slipway {

absl::Status CheckRecipeText(std::string_view option, std::string_view text) {
  const auto refuse = [option](std::string_view what) {
    return Error(Reason::kInvalidArgument, fmt::format("{}: the recipe {}.", option, what));
  };
  if (text.size() > kMaximumRecipeBytes) {
    return refuse(fmt::format("has more than {} bytes", kMaximumRecipeBytes));
  }
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return refuse("is empty");
  }
  if (text.find('\0') != std::string_view::npos || !IsUtf8(text)) {
    return refuse("is not UTF-8 text");
  }
  return absl::OkStatus();
}

}  // namespace slipway
