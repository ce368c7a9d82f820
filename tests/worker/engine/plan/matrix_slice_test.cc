// Slices of an output against the elements that its regions stand for, one by one.
#include "worker/engine/plan/matrix_slice.h"

#include <cstddef>
#include <cstdint>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

// Where an element is stored: the tensor, and its place on each axis.
using Element = std::tuple<std::int32_t, Shape>;

void AppendElements(const SourceRegion& region, std::vector<Element>& elements) {
  Shape place(region.sizes.size(), 0);
  for (const std::int64_t size : region.sizes) {
    if (size == 0) {
      return;
    }
  }
  while (true) {
    Shape stored = region.offsets;
    for (std::size_t axis = 0; axis < place.size(); ++axis) {
      stored[axis] += place[axis];
    }
    elements.emplace_back(region.tensor, stored);
    std::size_t axis = place.size();
    while (axis > 0 && ++place[axis - 1] == region.sizes[axis - 1]) {
      place[--axis] = 0;
    }
    if (axis == 0) {
      return;
    }
  }
}

std::vector<Element> ElementsOf(const std::vector<SourceRegion>& regions) {
  std::vector<Element> elements;
  for (const SourceRegion& region : regions) {
    AppendElements(region, elements);
  }
  return elements;
}

// The elements of a row-major matrix that the part takes.
std::vector<Element> Expected(const std::vector<Element>& matrix, std::int64_t columns, const MatrixPart& part) {
  std::vector<Element> taken;
  for (std::int64_t row = part.first_row; row < part.first_row + part.rows; ++row) {
    for (std::int64_t column = part.first_column; column < part.first_column + part.columns; ++column) {
      taken.push_back(matrix[static_cast<std::size_t>(row * columns + column)]);
    }
  }
  return taken;
}

OutputTensor OfRegions(Shape shape, std::vector<SourceRegion> regions) {
  OutputTensor tensor;
  tensor.name = "m";
  tensor.shape = std::move(shape);
  tensor.regions = std::move(regions);
  return tensor;
}

struct Case {
  OutputTensor tensor;
  std::int64_t rows;
  std::int64_t columns;
};

std::vector<Case> Cases() {
  return {
      // Two blocks of rows, and one of a stack of layers.
      {OfRegions({7, 6}, {{0, {2, 1}, {3, 6}}, {1, {0, 0}, {4, 6}}}), 7, 6},
      {OfRegions({4, 5}, {{2, {3, 0, 0}, {1, 4, 5}}}), 4, 5},
      // Rows on two axes: grouped heads.
      {OfRegions({6, 4}, {{0, {0, 1, 0}, {2, 3, 4}}}), 6, 4},
      {OfRegions({2, 3, 4}, {{0, {0, 0, 0}, {2, 3, 4}}}), 6, 4},
      {OfRegions({9}, {{0, {5}, {4}}, {1, {0}, {5}}}), 9, 1},
  };
}

TEST(MatrixSlice, HoldsTheElementsOfItsRowsAndColumns) {
  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same slices in each run
  const auto up_to = [&random](std::int64_t last) {
    return std::uniform_int_distribution<std::int64_t>(0, last)(random);
  };
  for (const Case& a_case : Cases()) {
    const std::vector<Element> whole = ElementsOf(a_case.tensor.regions);
    ASSERT_EQ(static_cast<std::int64_t>(whole.size()), a_case.rows * a_case.columns);
    for (int i = 0; i < 200; ++i) {
      MatrixPart part;
      part.first_row = up_to(a_case.rows - 1);
      part.rows = 1 + up_to(a_case.rows - part.first_row - 1);
      part.first_column = up_to(a_case.columns - 1);
      part.columns = 1 + up_to(a_case.columns - part.first_column - 1);
      std::vector<SourceRegion> regions;
      const absl::Status status = AppendSlice(a_case.tensor, part, regions);
      ASSERT_TRUE(status.ok()) << Describe(status);
      EXPECT_EQ(ElementsOf(regions), Expected(whole, a_case.columns, part))
          << part.first_row << " + " << part.rows << ", " << part.first_column << " + " << part.columns;
    }
  }
}

TEST(MatrixSlice, OutsideTheMatrixIsRefused) {
  const OutputTensor matrix = OfRegions({4, 6}, {{0, {0, 0}, {4, 6}}});
  for (const MatrixPart& part : {MatrixPart{"", 0, 5, 0, 6}, MatrixPart{"", 4, 1, 0, 6}, MatrixPart{"", 0, 4, 1, 6},
                                 MatrixPart{"", -1, 2, 0, 6}, MatrixPart{"", 0, 1, 0, -1}}) {
    std::vector<SourceRegion> regions;
    EXPECT_EQ(ReasonOf(AppendSlice(matrix, part, regions)), Reason::kInternal);
  }
}

TEST(MatrixSlice, OfRowsThatAreNoRowsInTheCheckpointIsRefusedByName) {
  const OutputTensor matrix = OfRegions({4, 6}, {{0, {0, 0}, {8, 3}}});
  std::vector<SourceRegion> regions;
  const absl::Status status = AppendSlice(matrix, {"", 0, 2, 0, 6}, regions);
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointUnsupported);
  EXPECT_EQ(WhereOf(status).tensor, "m");
}

}  // namespace
}  // namespace slipway::engine
