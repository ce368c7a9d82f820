// What casting did to the weights of an artifact, in all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "worker/engine/write/manifest.h"

namespace slipway {

// Of all tensors that were cast from one dtype to one other.
struct CastTotal {
  engine::DType from = engine::DType::kF32;
  engine::DType to = engine::DType::kBF16;
  std::int64_t tensors = 0;
  engine::Rounding rounding;
};

// In the order in which the manifest has the casts first.
std::vector<CastTotal> CastTotals(const engine::Manifest& manifest);

// Adds what another artifact's casts were.
void AddCasts(const std::vector<CastTotal>& more, std::vector<CastTotal>& totals);

// "268 tensors F32 -> BF16, largest relative error 0.0039, 0 overflows", with values that became zero, NaNs and
// infinities where there are any; empty where nothing was cast.
std::string RenderCasts(const std::vector<CastTotal>& totals);

// [{"from", "to", "tensors", "inexact", "overflows", "underflows", "nans", "infinities", "largest_absolute",
// "largest_relative"}].
nlohmann::ordered_json CastsToJson(const std::vector<CastTotal>& totals);

}  // namespace slipway
