// The tables of a quality report's page.
#pragma once

#include <string>

#include "worker/engine/write/quality_report.h"

namespace slipway::engine {

std::string FormatTable(const QualityReport& report);
std::string LayerTable(const QualityReport& report);
// Layer by layer, each to be unfolded; experts of a layer are one row.
std::string TensorTables(const QualityReport& report);
// Tensors of one name but for its numbers, of one shape, are one row.
std::string UnquantizedTable(const QualityReport& report);

}  // namespace slipway::engine
