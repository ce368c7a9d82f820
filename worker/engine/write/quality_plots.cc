#include "worker/engine/write/quality_plots.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "worker/engine/write/quality_text.h"

namespace slipway::engine {
namespace {

constexpr double kWidth = 960;
constexpr std::size_t kMostSeries = 10;  // colours of the style
constexpr std::size_t kMostWorst = 20;
constexpr std::size_t kBins = 40;
constexpr std::size_t kMostPoints = 2000;  // of a line
constexpr std::size_t kLabel = 56;

// A drawing area with a vertical axis.
struct Frame {
  double left = 56;
  double top = 12;
  double width = kWidth - 56 - 16;
  double height = 240;
  double least = 0;
  double most = 1;
  [[nodiscard]] double Y(double value) const { return top + height * (1 - (value - least) / (most - least)); }
};

std::string Open(double height, std::string_view label) {
  return fmt::format(R"(<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">)", kWidth, height, label);
}

std::string Text(double x, double y, std::string_view anchor, std::string_view escaped) {
  return fmt::format(R"(<text x="{}" y="{}" text-anchor="{}">{}</text>)", Coordinate(x), Coordinate(y), anchor,
                     escaped);
}

std::string Rectangle(double x, double y, double width, double height, std::string_view style,
                      std::string_view escaped_title) {
  return fmt::format(R"(<rect x="{}" y="{}" width="{}" height="{}" class="{}"><title>{}</title></rect>)", Coordinate(x),
                     Coordinate(y), Coordinate(std::max(width, 0.0)), Coordinate(height), style, escaped_title);
}

// 1, 2 or 5 times a power of ten: about `count` of them are in `range`.
double NiceStep(double range, double count) {
  const double raw = range / count;
  const double magnitude = std::pow(10.0, std::floor(std::log10(raw)));
  const double ratio = raw / magnitude;
  return magnitude * (ratio <= 1 ? 1 : ratio <= 2 ? 2 : ratio <= 5 ? 5 : 10);
}

// Widens the frame to whole steps and draws its lines.
std::string Grid(Frame& frame, std::string_view unit) {
  const double range = frame.most - frame.least;
  const double step = NiceStep(range > 0 ? range : 1, 5);
  frame.least = std::floor(frame.least / step) * step;
  frame.most = std::max(std::ceil(frame.most / step) * step, frame.least + step);
  std::string svg;
  const auto lines = static_cast<int>(std::lround((frame.most - frame.least) / step));
  for (int i = 0; i <= lines; ++i) {
    const double value = frame.least + step * i;
    const double y = frame.Y(value);
    svg += fmt::format(R"(<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}" />)", Coordinate(frame.left),
                       Coordinate(y), Coordinate(frame.left + frame.width), Coordinate(y));
    svg += Text(frame.left - 8, y + 4, "end", fmt::format("{:.4g}{}", value, unit));
  }
  return svg;
}

struct Point {
  std::size_t layer = 0;  // number among the layers
  WeightStatistics sum;
};

using Series = std::vector<Point>;

std::vector<const QualityLayer*> NamedLayers(const QualityReport& report) {
  std::vector<const QualityLayer*> layers;
  for (const QualityLayer& layer : report.layers) {
    if (!layer.name.empty()) {
      layers.push_back(&layer);
    }
  }
  return layers;
}

// Attention, then the rest, as they are computed.
std::size_t OrderOf(std::string_view kind) {
  constexpr std::array<std::string_view, 9> kOrder = {"q_proj",    "k_proj",  "v_proj",    "qkv_proj", "o_proj",
                                                      "gate_proj", "up_proj", "down_proj", ""};
  return static_cast<std::size_t>(std::ranges::find(kOrder, kind) - kOrder.begin());
}

std::vector<std::pair<std::string, Series>> SeriesOf(const QualityReport& report) {
  std::map<std::string, Series> series;
  std::size_t layer = 0;
  const ModulePlace* last = nullptr;
  for (const QualityTensor& tensor : report.tensors) {
    const ModulePlace& place = tensor.place;
    if (place.layer < 0) {
      continue;
    }
    layer += last != nullptr && (last->layer != place.layer || last->prefix != place.prefix) ? 1 : 0;
    last = &place;
    Series& points = series[place.kind];
    if (points.empty() || points.back().layer != layer) {
      points.push_back({.layer = layer, .sum = {}});
    }
    points.back().sum.Add(tensor.sum.statistics);
  }
  std::vector<std::pair<std::string, Series>> list(series.begin(), series.end());
  std::ranges::stable_sort(list, {}, [](const auto& entry) { return OrderOf(entry.first); });
  if (list.size() > kMostSeries) {
    std::ranges::stable_sort(list, std::greater<>(), [](const auto& entry) { return entry.second.size(); });
    list.resize(kMostSeries);
  }
  return list;
}

std::string Line(const std::string& kind, const Series& points, std::size_t color, const Frame& frame,
                 const std::vector<const QualityLayer*>& layers) {
  const double across = layers.size() > 1 ? static_cast<double>(layers.size() - 1) : 1;
  const std::size_t stride = std::max<std::size_t>(1, points.size() / kMostPoints);
  std::string path;
  std::string dots;
  for (std::size_t i = 0; i < points.size(); i += stride) {
    const double sqnr = points[i].sum.SignalToQuantizationNoise();
    if (!std::isfinite(sqnr)) {
      continue;
    }
    const double share = layers.size() > 1 ? static_cast<double>(points[i].layer) / across : 0.5;
    const std::string x = Coordinate(frame.left + frame.width * share);
    const std::string y = Coordinate(frame.Y(sqnr));
    path += fmt::format("{}{},{}", path.empty() ? "" : " ", x, y);
    dots +=
        fmt::format(R"(<circle cx="{}" cy="{}" r="3" class="f{}"><title>{} {}: {}</title></circle>)", x, y, color,
                    Escaped(Tail(layers[points[i].layer]->name, kLabel)), Escaped(Tail(kind, kLabel)), Decibels(sqnr));
  }
  return fmt::format(R"(<polyline class="s{}" points="{}" />{})", color, path, dots);
}

std::string Legend(const std::vector<std::pair<std::string, Series>>& series) {
  std::string html = R"(<p class="legend">)";
  for (std::size_t i = 0; i < series.size(); ++i) {
    html += fmt::format(R"(<span><i class="b{}"></i>{}</span> )", i, Escaped(Tail(series[i].first, kLabel)));
  }
  return html + "</p>";
}

}  // namespace

std::string SizePlot(const QualityReport& report) {
  const std::int64_t kept = report.unquantized_bytes;
  const std::int64_t before = report.total.bytes_before + kept;
  const double scale = (kWidth - 260) / static_cast<double>(std::max<std::int64_t>(before, 1));
  std::string svg = Open(92, "size before and after");
  double y = 8;
  for (const auto& [name, weights] :
       {std::pair("before", report.total.bytes_before), std::pair("after", report.total.bytes_after)}) {
    const double width = static_cast<double>(weights) * scale;
    svg += Text(62, y + 21, "end", name);
    svg += Rectangle(70, y, width, 32, "f0", fmt::format("quantized weights: {}", ByteCount(weights)));
    svg += Rectangle(70 + width, y, static_cast<double>(kept) * scale, 32, "kept",
                     fmt::format("not quantized: {}", ByteCount(kept)));
    svg += Text(78 + width + static_cast<double>(kept) * scale, y + 21, "start", ByteCount(weights + kept));
    y += 42;
  }
  return svg + "</svg>";
}

std::string LayerPlot(const QualityReport& report) {
  const std::vector<const QualityLayer*> layers = NamedLayers(report);
  const auto series = SeriesOf(report);
  Frame frame{.least = std::numeric_limits<double>::infinity(), .most = -std::numeric_limits<double>::infinity()};
  for (const auto& [kind, points] : series) {
    for (const Point& point : points) {
      if (const double sqnr = point.sum.SignalToQuantizationNoise(); std::isfinite(sqnr)) {
        frame.least = std::min(frame.least, sqnr);
        frame.most = std::max(frame.most, sqnr);
      }
    }
  }
  if (!std::isfinite(frame.least)) {
    return "";
  }
  std::string svg = Open(frame.top + frame.height + 40, "SQNR by layer");
  svg += Grid(frame, "");
  const std::size_t labels = std::min<std::size_t>(layers.size(), 12);
  const std::size_t stride = (layers.size() + labels - 1) / labels;
  for (std::size_t i = 0; i < layers.size(); i += stride) {
    const double share = layers.size() > 1 ? static_cast<double>(i) / static_cast<double>(layers.size() - 1) : 0.5;
    const std::string_view name = layers[i]->name;
    svg += Text(frame.left + frame.width * share, frame.top + frame.height + 18, "middle",
                Escaped(name.substr(name.rfind('.') + 1)));
  }
  svg += Text(frame.left + frame.width / 2, frame.top + frame.height + 36, "middle", "layer");
  for (std::size_t i = 0; i < series.size(); ++i) {
    svg += Line(series[i].first, series[i].second, i, frame, layers);
  }
  return svg + "</svg>" + Legend(series);
}

std::string ErrorHistogram(const QualityReport& report) {
  double most = 0;
  for (const QualityTensor& tensor : report.tensors) {
    most = std::max(most, tensor.sum.statistics.RelativeError());
  }
  for (const QualityFormat& format : report.formats) {
    most = std::max(most, format.format->error_bound);
  }
  most = most > 0 ? most * 1.05 : 1;
  std::vector<std::array<std::int64_t, kBins>> bins(report.formats.size());
  std::array<std::int64_t, kBins> all{};
  for (const QualityTensor& tensor : report.tensors) {
    const auto format = std::ranges::find(report.formats, tensor.format, &QualityFormat::format);
    const auto bin = static_cast<std::size_t>(tensor.sum.statistics.RelativeError() / most * kBins);
    ++bins[static_cast<std::size_t>(format - report.formats.begin())][std::min(bin, kBins - 1)];
    ++all[std::min(bin, kBins - 1)];
  }
  Frame frame{.height = 180, .most = static_cast<double>(std::max<std::int64_t>(1, *std::ranges::max_element(all)))};
  std::string svg = Open(frame.top + frame.height + 40, "histogram of relative errors");
  svg += Grid(frame, "");
  const double width = frame.width / kBins;
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    double bottom = 0;
    for (std::size_t i = 0; i < bins.size(); ++i) {
      if (const std::int64_t count = bins[i][bin]; count > 0) {
        const double top = bottom + static_cast<double>(count);
        svg += Rectangle(frame.left + width * static_cast<double>(bin) + 1, frame.Y(top), width - 2,
                         frame.Y(bottom) - frame.Y(top), fmt::format("f{}", i % kMostSeries),
                         fmt::format("{}: {} of {} to {}", report.formats[i].format->name, Count(count),
                                     Percent(most * static_cast<double>(bin) / kBins),
                                     Percent(most * static_cast<double>(bin + 1) / kBins)));
        bottom = top;
      }
    }
  }
  for (const QualityFormat& format : report.formats) {
    const double x = frame.left + frame.width * format.format->error_bound / most;
    svg += fmt::format(R"(<line class="bound" x1="{0}" y1="{1}" x2="{0}" y2="{2}"><title>bound of {3}</title></line>)",
                       Coordinate(x), Coordinate(frame.top), Coordinate(frame.top + frame.height), format.format->name);
  }
  const double step = NiceStep(most, 8);
  for (int i = 0; step * i <= most; ++i) {
    svg += Text(frame.left + frame.width * step * i / most, frame.top + frame.height + 18, "middle",
                fmt::format("{:.4g} %", step * i * 100));
  }
  svg += Text(frame.left + frame.width / 2, frame.top + frame.height + 36, "middle", "relative error of a tensor");
  return svg + "</svg>";
}

std::string WorstPlot(const QualityReport& report) {
  std::vector<const QualityTensor*> worst;
  for (const QualityTensor& tensor : report.tensors) {
    if (std::isfinite(tensor.sum.statistics.SignalToQuantizationNoise())) {
      worst.push_back(&tensor);
    }
  }
  const std::size_t shown = std::min(worst.size(), kMostWorst);
  const auto middle = worst.begin() + static_cast<std::ptrdiff_t>(shown);
  std::ranges::partial_sort(worst, middle, {}, [](const QualityTensor* tensor) {
    return std::pair(tensor->sum.statistics.SignalToQuantizationNoise(), std::string_view(tensor->name));
  });
  worst.resize(shown);
  double most = 1;
  for (const QualityTensor* tensor : worst) {
    most = std::max(most, tensor->sum.statistics.SignalToQuantizationNoise());
  }
  constexpr double kLeft = 420;
  constexpr double kRow = 20;
  std::string svg = Open(static_cast<double>(shown) * kRow + 8, "tensors of least SQNR");
  for (std::size_t i = 0; i < shown; ++i) {
    const QualityTensor& tensor = *worst[i];
    const double sqnr = tensor.sum.statistics.SignalToQuantizationNoise();
    const double y = 4 + static_cast<double>(i) * kRow;
    const double width = std::max(sqnr, 0.0) / most * (kWidth - kLeft - 90);
    svg += Text(kLeft - 8, y + 13, "end", Escaped(Tail(tensor.name, kLabel)));
    svg += Rectangle(kLeft, y + 2, width, kRow - 5, tensor.Outside() ? "bad" : "f0",
                     Escaped(Tail(tensor.name, 4 * kLabel)));
    svg += Text(kLeft + width + 6, y + 13, "start", Decibels(sqnr));
  }
  return svg + "</svg>";
}

}  // namespace slipway::engine
