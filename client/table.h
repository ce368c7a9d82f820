// Tables that fit the terminal. Pure: rows and a width in, text out.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace slipway {

struct Column {
  std::string title;
  bool align_right = false;
  // May be cut (with "…") down to `minimum` columns where the table is too wide; 0: never.
  std::size_t minimum = 0;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // One cell a column; missing ones are empty. Cells are made printable.
  void AddRow(std::vector<std::string> cells);

  // Lines with a title line first, two spaces between columns, no trailing spaces. `width` 0: as wide as it needs.
  [[nodiscard]] std::string Render(int width) const;

 private:
  [[nodiscard]] std::vector<std::size_t> ColumnWidths(int width) const;
  void AppendLine(const std::vector<std::string>& cells, const std::vector<std::size_t>& widths,
                  std::string& text) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "name   value" lines with the values aligned; pairs with an empty value are left out. Where `width` is not 0, values
// that are too long go on below, broken at spaces.
std::string RenderPairs(const std::vector<std::pair<std::string, std::string>>& pairs, int width = 0);

}  // namespace slipway
