#include "client/table.h"

#include <algorithm>

#include <fmt/format.h>

#include "client/terminal.h"

namespace slipway {
namespace {

constexpr std::size_t kGap = 2;

}  // namespace

void Table::AddRow(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::string& cell : cells) {
    cell = Printable(cell);
  }
  rows_.push_back(std::move(cells));
}

std::vector<std::size_t> Table::ColumnWidths(int width) const {
  std::vector<std::size_t> widths;
  std::size_t total = kGap * (columns_.size() - 1);
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t widest = DisplayWidth(columns_[c].title);
    for (const auto& row : rows_) {
      widest = std::max(widest, DisplayWidth(row[c]));
    }
    widths.push_back(widest);
    total += widest;
  }
  // Take from the widest column that may shrink, one column at a time: what remains is as even as it can be.
  const auto limit = static_cast<std::size_t>(std::max(width, 0));
  while (limit != 0 && total > limit) {
    std::size_t widest = columns_.size();
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const bool shrinks = columns_[c].minimum != 0 && widths[c] > columns_[c].minimum;
      if (shrinks && (widest == columns_.size() || widths[c] > widths[widest])) {
        widest = c;
      }
    }
    if (widest == columns_.size()) {
      break;
    }
    --widths[widest];
    --total;
  }
  return widths;
}

void Table::AppendLine(const std::vector<std::string>& cells, const std::vector<std::size_t>& widths,
                       std::string& text) const {
  std::string line;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    const std::string cell = Truncate(cells[c], widths[c]);
    const std::string padding(widths[c] - DisplayWidth(cell), ' ');
    line += c == 0 ? "" : std::string(kGap, ' ');
    line += columns_[c].align_right ? padding + cell : cell + padding;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  text += line + "\n";
}

std::string Table::Render(int width) const {
  const std::vector<std::size_t> widths = ColumnWidths(width);
  std::vector<std::string> titles;
  for (const Column& column : columns_) {
    titles.push_back(column.title);
  }
  std::string text;
  AppendLine(titles, widths, text);
  for (const auto& row : rows_) {
    AppendLine(row, widths, text);
  }
  return text;
}

std::string RenderPairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::size_t widest = 0;
  for (const auto& [name, value] : pairs) {
    widest = value.empty() ? widest : std::max(widest, DisplayWidth(name));
  }
  std::string text;
  for (const auto& [name, value] : pairs) {
    if (!value.empty()) {
      text += fmt::format("{}{}  {}\n", name, std::string(widest - DisplayWidth(name), ' '), Printable(value));
    }
  }
  return text;
}

}  // namespace slipway
