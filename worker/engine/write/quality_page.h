// report.html: the quality report as a page to look at. One file without scripts or references to anything outside of
// it; well-formed as XML, too. Experts of a layer are one row, long tables are cut: the size is bounded by the number
// of layers, not by that of tensors.
#pragma once

#include <string>

#include "worker/engine/write/quality_report.h"

namespace slipway::engine {

[[nodiscard]] std::string QualityToHtml(const QualityReport& report);

}  // namespace slipway::engine
