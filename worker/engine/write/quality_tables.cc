#include "worker/engine/write/quality_tables.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "worker/engine/write/quality_text.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMostRows = 4000;  // of a table
constexpr std::size_t kMostName = 200;   // bytes

std::string Cell(std::string_view text) { return fmt::format("<td>{}</td>", text); }
std::string Word(std::string_view escaped) { return fmt::format(R"(<td class="word">{}</td>)", escaped); }
std::string Name(std::string_view name) {
  return fmt::format("<td><code>{}</code></td>", Escaped(Tail(name, kMostName)));
}

std::string Head(const std::vector<std::string_view>& titles) {
  std::string row = "<table><thead><tr>";
  for (const std::string_view title : titles) {
    // What begins with a bar is a column of words.
    const bool word = title.starts_with('|');
    row += fmt::format("<th{}>{}</th>", word ? R"( class="word")" : "", title.substr(word ? 1 : 0));
  }
  return row + "</tr></thead>\n<tbody>\n";
}

std::string Foot(std::size_t rows) {
  return rows <= kMostRows ? std::string("</tbody></table>")
                           : fmt::format("</tbody></table><p class=\"note\">{} more rows are in report.json.</p>",
                                         Count(static_cast<std::int64_t>(rows - kMostRows)));
}

std::string Share(std::int64_t count, std::int64_t of) {
  return count == 0
             ? "0"
             : fmt::format("{} ({})", Count(count), Percent(static_cast<double>(count) / static_cast<double>(of)));
}

std::string SizeCells(const QualitySum& sum) {
  return Cell(ByteCount(sum.bytes_before)) + Cell(ByteCount(sum.bytes_after));
}

std::string ErrorCells(const WeightStatistics& statistics) {
  return Cell(Share(statistics.saturated, statistics.elements)) + Cell(Share(statistics.zeros, statistics.elements)) +
         Cell(Significant(static_cast<double>(statistics.largest_error))) +
         Cell(Significant(static_cast<double>(statistics.amax))) +
         Cell(fmt::format("{:.1f}", OutlierRatio(statistics)));
}

// A tensor, or the experts of a layer that are alike.
struct Row {
  const QualityTensor* first = nullptr;
  const QualityTensor* worst = nullptr;
  std::int64_t count = 0;
  std::int64_t outside = 0;
  std::int64_t before = 0;
  std::int64_t after = 0;
  WeightStatistics sum;
};

void Add(const QualityTensor& tensor, Row& row) {
  const WeightStatistics& from = tensor.sum.statistics;
  if (row.count++ == 0) {
    row.first = row.worst = &tensor;
  }
  if (from.SignalToQuantizationNoise() < row.worst->sum.statistics.SignalToQuantizationNoise()) {
    row.worst = &tensor;
  }
  row.outside += tensor.sum.outside;
  row.before += tensor.sum.bytes_before;
  row.after += tensor.sum.bytes_after;
  row.sum.Add(from);
}

std::string Render(const Row& row) {
  const QualityTensor& first = *row.first;
  const std::string layer = LayerName(first.place) + ".";  // the table is below its name
  std::string name = row.count == 1 ? first.name.substr(first.name.starts_with(layer) ? layer.size() : 0)
                                    : fmt::format("{} × {}", Count(row.count), first.place.kind);
  std::string html = row.outside > 0 ? R"(<tr class="outside">)" : "<tr>";
  html += Name(name) + Word(first.format->name) + Cell(fmt::format("{} × {}", first.rows, first.columns)) +
          Cell(ByteCount(row.before)) + Cell(ByteCount(row.after)) +
          Cell(Decibels(row.sum.SignalToQuantizationNoise())) +
          Cell(Decibels(row.worst->sum.statistics.SignalToQuantizationNoise())) +
          Cell(Percent(row.sum.RelativeError())) + ErrorCells(row.sum) +
          Cell(row.outside == 0 ? std::string("within")
               : row.count == 1 ? std::string("outside")
                                : fmt::format("{} outside", Count(row.outside)));
  return html + "</tr>\n";
}

// Rows of the layer's tensors [first, last), in order.
std::vector<Row> RowsOf(std::span<const QualityTensor> tensors) {
  std::vector<Row> rows;
  std::map<std::tuple<std::string_view, std::string_view, std::int64_t, std::int64_t>, std::size_t> at;
  for (const QualityTensor& tensor : tensors) {
    std::size_t index = rows.size();
    if (tensor.place.kind.find('*') != std::string::npos) {
      index =
          at.emplace(std::tuple(std::string_view(tensor.place.kind), tensor.format->name, tensor.rows, tensor.columns),
                     index)
              .first->second;
    }
    if (index == rows.size()) {
      rows.emplace_back();
    }
    Add(tensor, rows[index]);
  }
  return rows;
}

// "model.layers.3.norm" as "model.layers.*.norm".
std::string WithoutNumbers(std::string_view name) {
  std::vector<std::string_view> words = SplitAtDots(name);
  for (std::string_view& word : words) {
    if (!word.empty() && std::ranges::all_of(word, [](char c) { return c >= '0' && c <= '9'; })) {
      word = "*";
    }
  }
  return fmt::format("{}", fmt::join(words, "."));
}

}  // namespace

std::string FormatTable(const QualityReport& report) {
  std::string html = Head({"format", "|what", "|config", "|activations", "|loaded by", "tensors", "weights", "bits",
                           "before", "after", "SQNR", "error", "bound", "outside"});
  for (const QualityFormat& format : report.formats) {
    const QualitySum& sum = format.sum;
    html += "<tr>" + Cell(fmt::format("<b>{}</b>", Escaped(format.format->name))) +
            Word(Escaped(format.format->summary)) +
            Word(Escaped(fmt::format("{} ({})", NameOf(format.layout->form), format.layout->algorithm))) +
            Word(format.input_ranges > 0
                     ? fmt::format("{}, {} ranges", NameOf(format.layout->activations), Count(format.input_ranges))
                     : std::string(NameOf(format.layout->activations))) +
            Word(Escaped(fmt::format("{}", fmt::join(format.loaded_by, ", ")))) + Cell(Count(sum.tensors)) +
            Cell(Count(sum.statistics.elements)) + Cell(fmt::format("{:.3f}", sum.BitsPerWeight())) + SizeCells(sum) +
            Cell(Decibels(sum.statistics.SignalToQuantizationNoise())) + Cell(Percent(sum.statistics.RelativeError())) +
            Cell(Percent(format.format->error_bound)) + Cell(Count(sum.outside)) + "</tr>\n";
  }
  return html + Foot(report.formats.size());
}

std::string LayerTable(const QualityReport& report) {
  std::string html = Head({"layer", "tensors", "before", "after", "SQNR", "least", "mean", "error", "saturated",
                           "became 0", "largest error", "amax", "amax / rms", "outside"});
  for (std::size_t i = 0; i < std::min(report.layers.size(), kMostRows); ++i) {
    const QualityLayer& layer = report.layers[i];
    const QualitySum& sum = layer.sum;
    html += (sum.outside > 0 ? R"(<tr class="outside">)" : "<tr>") +
            (layer.name.empty() ? Cell("outside of layers") : Name(layer.name)) + Cell(Count(sum.tensors)) +
            SizeCells(sum) + Cell(Decibels(sum.statistics.SignalToQuantizationNoise())) + Cell(Decibels(layer.least)) +
            Cell(Decibels(layer.mean)) + Cell(Percent(sum.statistics.RelativeError())) + ErrorCells(sum.statistics) +
            Cell(Count(sum.outside)) + "</tr>\n";
  }
  return html + Foot(report.layers.size());
}

std::string TensorTables(const QualityReport& report) {
  std::string html;
  std::size_t first = 0;
  std::size_t rows = 0;
  for (const QualityLayer& layer : report.layers) {
    const std::span<const QualityTensor> tensors(report.tensors.data() + first,
                                                 static_cast<std::size_t>(layer.sum.tensors));
    first += tensors.size();
    if (rows >= kMostRows) {
      continue;
    }
    html += fmt::format("<details><summary><code>{}</code> <span class=\"{}\">{}, {}{}</span></summary>\n",
                        layer.name.empty() ? "outside of layers" : Escaped(Tail(layer.name, kMostName)),
                        layer.sum.outside > 0 ? "outside" : "faint",
                        tensors.size() == 1 ? "1 tensor" : Count(layer.sum.tensors) + " tensors",
                        Decibels(layer.sum.statistics.SignalToQuantizationNoise()),
                        layer.sum.outside > 0 ? fmt::format(", {} outside", Count(layer.sum.outside)) : "");
    html += Head({"tensor", "|format", "shape", "before", "after", "SQNR", "least", "error", "saturated", "became 0",
                  "largest error", "amax", "amax / rms", "bound"});
    const std::vector<Row> layer_rows = RowsOf(tensors);
    const std::size_t shown = std::min(layer_rows.size(), kMostRows - rows);
    for (std::size_t i = 0; i < shown; ++i) {
      html += Render(layer_rows[i]);
    }
    rows += shown;
    html += "</tbody></table></details>\n";
  }
  return rows < kMostRows ? html : html + "<p class=\"note\">The table is cut here; report.json has all tensors.</p>";
}

std::string UnquantizedTable(const QualityReport& report) {
  struct Kept {
    std::string name;
    const UnquantizedTensor* first = nullptr;
    std::int64_t count = 0;
    std::int64_t bytes = 0;
  };
  std::vector<Kept> rows;
  std::map<std::tuple<std::string, DType, Shape>, std::size_t> at;
  for (const UnquantizedTensor& tensor : report.unquantized) {
    const std::string name = WithoutNumbers(tensor.name);
    const auto [found, fresh] = at.emplace(std::tuple(name, tensor.dtype, tensor.shape), rows.size());
    if (fresh) {
      rows.push_back({.name = name, .first = &tensor});
    }
    ++rows[found->second].count;
    rows[found->second].bytes += tensor.bytes;
  }
  std::ranges::stable_sort(rows, std::greater<>(), &Kept::bytes);
  std::string html = Head({"tensor", "how many", "|dtype", "shape", "size"});
  for (std::size_t i = 0; i < std::min(rows.size(), kMostRows); ++i) {
    const Kept& row = rows[i];
    html += "<tr>" + Name(row.count == 1 ? row.first->name : row.name) + Cell(Count(row.count)) +
            Word(InfoOf(row.first->dtype).safetensors_name) +
            Cell(fmt::format("{}", fmt::join(row.first->shape, " × "))) + Cell(ByteCount(row.bytes)) + "</tr>\n";
  }
  return html + Foot(rows.size());
}

}  // namespace slipway::engine
