// The plots of a quality report's page: inline SVG, coloured by the page's style (quality_style.h).
#pragma once

#include <string>

#include "worker/engine/write/quality_report.h"

namespace slipway::engine {

// What the model takes, before and after: quantized weights and what stays.
std::string SizePlot(const QualityReport& report);

// A line for each kind of projection, layer by layer; experts of a layer are one point. Empty where nothing is in a
// layer.
std::string LayerPlot(const QualityReport& report);

// How many tensors have which relative error, and the formats' bounds.
std::string ErrorHistogram(const QualityReport& report);

// Bars of the tensors of least SQNR, the worst first.
std::string WorstPlot(const QualityReport& report);

}  // namespace slipway::engine
