#include "worker/engine/write/rounding_json.h"

namespace slipway::engine {

nlohmann::ordered_json RoundingToJson(const Rounding& rounding) {
  return {{"inexact", rounding.inexact},
          {"overflows", rounding.overflows},
          {"underflows", rounding.underflows},
          {"nans", rounding.nans},
          {"infinities", rounding.infinities},
          {"largest_absolute", static_cast<double>(rounding.largest_absolute)},
          {"largest_relative", static_cast<double>(rounding.largest_relative)}};
}

Rounding RoundingFromJson(const nlohmann::json& json) {
  return {.inexact = json.at("inexact"),
          .overflows = json.at("overflows"),
          .underflows = json.at("underflows"),
          .nans = json.at("nans"),
          .infinities = json.at("infinities"),
          .largest_absolute = json.at("largest_absolute"),
          .largest_relative = json.at("largest_relative")};
}

}  // namespace slipway::engine
