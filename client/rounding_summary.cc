#include "client/rounding_summary.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "client/human.h"
#include "worker/engine/write/rounding_json.h"

namespace slipway {
namespace {

using Json = nlohmann::ordered_json;

std::string NameOf(engine::DType dtype) { return std::string(InfoOf(dtype).safetensors_name); }

std::string Render(const CastTotal& total) {
  const engine::Rounding& rounding = total.rounding;
  std::string text = fmt::format("{} {} -> {}, largest relative error {:.2g}, {}", HumanCount(total.tensors, "tensor"),
                                 NameOf(total.from), NameOf(total.to), rounding.largest_relative,
                                 HumanCount(rounding.overflows, "overflow"));
  const auto add = [&text](std::int64_t count, std::string_view noun) {
    text += count > 0 ? ", " + HumanCount(count, noun) : "";
  };
  add(rounding.underflows, "underflow");
  add(rounding.nans, "NaN");
  text += rounding.infinities > 0 ? fmt::format(", {} infinite", HumanCount(rounding.infinities)) : "";
  return text;
}

}  // namespace

std::vector<CastTotal> CastTotals(const engine::Manifest& manifest) {
  std::vector<CastTotal> totals;
  for (const engine::ManifestTensor& tensor : manifest.tensors) {
    if (tensor.cast) {
      AddCasts({{.from = tensor.cast->from, .to = tensor.dtype, .tensors = 1, .rounding = tensor.cast->rounding}},
               totals);
    }
  }
  return totals;
}

void AddCasts(const std::vector<CastTotal>& more, std::vector<CastTotal>& totals) {
  for (const CastTotal& cast : more) {
    auto total = std::ranges::find_if(
        totals, [&](const CastTotal& known) { return known.from == cast.from && known.to == cast.to; });
    if (total == totals.end()) {
      total = totals.insert(totals.end(), {.from = cast.from, .to = cast.to, .rounding = {}});
    }
    total->tensors += cast.tensors;
    total->rounding.Merge(cast.rounding);
  }
}

std::string RenderCasts(const std::vector<CastTotal>& totals) {
  std::string text;
  for (const CastTotal& total : totals) {
    text += (text.empty() ? "" : "; ") + Render(total);
  }
  return text;
}

Json CastsToJson(const std::vector<CastTotal>& totals) {
  Json casts = Json::array();
  for (const CastTotal& total : totals) {
    Json cast{{"from", NameOf(total.from)}, {"to", NameOf(total.to)}, {"tensors", total.tensors}};
    cast.update(engine::RoundingToJson(total.rounding));
    casts.push_back(std::move(cast));
  }
  return casts;
}

}  // namespace slipway
