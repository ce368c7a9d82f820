#include "worker/engine/write/quality_page.h"

#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "worker/engine/write/quality_plots.h"
#include "worker/engine/write/quality_style.h"
#include "worker/engine/write/quality_tables.h"
#include "worker/engine/write/quality_text.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMostWarnings = 100;

std::string Card(std::string_view value, std::string_view what, std::string_view style = "") {
  return fmt::format("<div><b class=\"{}\">{}</b><span>{}</span></div>\n", style, value, what);
}

std::string Section(std::string_view title, std::string_view note, std::string_view content) {
  return content.empty()
             ? std::string()
             : fmt::format("<section><h2>{}</h2><p class=\"note\">{}</p>\n{}</section>\n", title, note, content);
}

std::string Cards(const QualityReport& report) {
  const QualitySum& total = report.total;
  const WeightStatistics& statistics = total.statistics;
  const std::int64_t before = total.bytes_before + report.unquantized_bytes;
  const std::int64_t after = total.bytes_after + report.unquantized_bytes;
  return "<div class=\"cards\">\n" +
         Card(Decibels(statistics.SignalToQuantizationNoise()), "signal to quantization noise") +
         Card(Percent(statistics.RelativeError()), "relative error of the weights") +
         Card(fmt::format("{:.2f}", total.BitsPerWeight()), "bits a quantized weight, scales included") +
         Card(fmt::format("{:.2f} ×", after > 0 ? static_cast<double>(before) / static_cast<double>(after) : 1),
              fmt::format("smaller: {} to {}", ByteCount(before), ByteCount(after))) +
         Card(total.outside == 0 ? "all" : Count(total.outside),
              total.outside == 0 ? fmt::format("of {} tensors within their format's bound", Count(total.tensors))
                                 : fmt::format("of {} tensors outside their format's bound", Count(total.tensors)),
              total.outside == 0 ? "good" : "outside") +
         Card(Percent(statistics.elements > 0
                          ? static_cast<double>(statistics.saturated) / static_cast<double>(statistics.elements)
                          : 0),
              fmt::format("saturated: {} values", Count(statistics.saturated))) +
         "</div>\n";
}

std::string Warnings(const QualityReport& report) {
  std::string list;
  for (std::size_t i = 0; i < report.warnings.size() && i < kMostWarnings; ++i) {
    list += fmt::format("<li>{}</li>\n", Escaped(report.warnings[i]));
  }
  return list.empty() ? list : "<ul>" + list + "</ul>";
}

std::string Introduction(const QualityReport& report) {
  std::string formats;
  for (const QualityFormat& format : report.formats) {
    formats += (formats.empty() ? "" : ", ") + std::string(format.format->summary);
  }
  const std::string loaders = report.loaded_by.empty()
                                  ? "No engine loads this combination of formats."
                                  : fmt::format("Loaded by {}.", fmt::join(report.loaded_by, ", "));
  return fmt::format("<h1>{}</h1>\n<p class=\"faint\">{}. {}{}</p>\n", Escaped(report.architecture), Escaped(formats),
                     Escaped(loaders),
                     report.ranges.empty()
                         ? std::string()
                         : Escaped(fmt::format(" Ranges of activations come from {}.", report.ranges)));
}

}  // namespace

std::string QualityToHtml(const QualityReport& report) {
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
      "<meta charset=\"utf-8\" />\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n";
  page += fmt::format("<title>Quantization report: {}</title>\n<style>{}</style>\n</head>\n<body>\n",
                      Escaped(report.architecture), kQualityStyle);
  page += Introduction(report);
  page += Cards(report);
  page += Section("Warnings", "What the plan said.", Warnings(report));
  page += Section("Size", "Quantized weights in colour, what stays as it was in grey.", SizePlot(report));
  page +=
      Section("SQNR by layer", "In dB; higher is better, and 6 dB halve the error. Experts of a layer are one point.",
              LayerPlot(report));
  page += Section("Relative errors",
                  "How many tensors have which error. The dashed line is the bound of the format, for weights that are "
                  "distributed normally.",
                  ErrorHistogram(report));
  page += Section("Worst tensors", "Those of least SQNR.", WorstPlot(report));
  page += Section("Formats", "", FormatTable(report));
  page += Section("Layers", "SQNR of all the layer's weights, of its worst tensor, and the mean of its tensors.",
                  LayerTable(report));
  page += Section("Tensors", "Unfold a layer. Experts are taken together; report.json has each of them.",
                  TensorTables(report));
  page += Section("Not quantized",
                  fmt::format("{} in {} tensors.", ByteCount(report.unquantized_bytes),
                              Count(static_cast<std::int64_t>(report.unquantized.size()))),
                  UnquantizedTable(report));
  page +=
      "<section><h2>Words</h2><p>Relative error: the norm of (weights - what their codes stand for) over the norm of "
      "the "
      "weights. SQNR: the same in decibels, -20 log10 of it. Saturated: beyond the largest number that the format has "
      "under the scale. Became 0: values other than 0 whose code is 0. amax / rms: the largest magnitude over the root "
      "of the mean square; large ones are outliers, which cost the others their precision. slipway verify ARTIFACT "
      "--against CHECKPOINT computes all of it again.</p></section>\n";
  return page + "</body>\n</html>\n";
}

}  // namespace slipway::engine
