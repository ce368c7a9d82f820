#include "client/table.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "client/terminal.h"

namespace slipway {
namespace {

constexpr std::size_t kGap = 2;
constexpr std::size_t kMinimumRoom = 24;  // for values, however narrow the terminal

// Lines of at most `columns`, but never less than a word.
std::vector<std::string> Wrap(std::string_view text, std::size_t columns) {
  std::vector<std::string> lines;
  std::string line;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    if (!line.empty() && DisplayWidth(line) + 1 + DisplayWidth(word) > columns) {
      lines.push_back(std::move(line));
      line.clear();
    } else if (begin > 0) {
      line += ' ';
    }
    line += word;
    begin = end + 1;
  }
  lines.push_back(std::move(line));
  return lines;
}

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

std::string RenderPairs(const std::vector<std::pair<std::string, std::string>>& pairs, int width) {
  std::size_t widest = 0;
  for (const auto& [name, value] : pairs) {
    widest = value.empty() ? widest : std::max(widest, DisplayWidth(name));
  }
  const std::size_t indent = widest + kGap;
  const auto columns = static_cast<std::size_t>(std::max(width, 0));
  const std::size_t room = columns == 0 ? std::string::npos : std::max(columns, indent + kMinimumRoom) - indent;
  std::string text;
  for (const auto& [name, value] : pairs) {
    if (value.empty()) {
      continue;  // its name may be wider than all that are shown
    }
    std::string line = name + std::string(indent - DisplayWidth(name), ' ');
    for (const std::string& part : Wrap(Printable(value), room)) {
      text += line + part + "\n";
      line = std::string(indent, ' ');
    }
  }
  return text;
}

}  // namespace slipway
