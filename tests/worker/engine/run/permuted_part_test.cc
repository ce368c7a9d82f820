// Permuted outputs against their definitions: Hugging Face's layouts index by index, and any permutation of any pieces.
#include "worker/engine/run/permuted_part.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/memory_source.h"
#include "tests/support/random_export.h"
#include "worker/engine/run/loaded_segment.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/run/publication.h"
#include "worker/engine/run/segment_cutter.h"
#include "worker/engine/run/shard_writer.h"
#include "worker/engine/run/staging.h"

namespace slipway::engine {
namespace {

using Element = std::uint16_t;  // bits of a BF16
using Elements = std::vector<Element>;

// Stored tensors in memory, and one output of them.
class Export {
 public:
  Export() : checkpoint_(std::make_shared<Checkpoint>()) {}

  // A tensor of one piece: element i, in row-major order, has the bits first + i.
  void Store(const Shape& shape, Element first) {
    Piece piece{.offsets = Shape(shape.size(), 0), .sizes = shape, .strides = {}};
    AddPiece(piece, Count(shape, first));
    checkpoint_->tensors.push_back({.name = "t", .dtype = DType::kBF16, .shape = shape, .pieces = {piece}});
  }

  // The same matrix in two pieces: the first `left` columns row by row, and the others column by column.
  void StoreInTwo(std::int64_t rows, std::int64_t columns, std::int64_t left, Element first) {
    const auto value = [&](std::int64_t row, std::int64_t column) {
      return static_cast<Element>(first + row * columns + column);
    };
    Elements by_row;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t column = 0; column < left; ++column) {
        by_row.push_back(value(row, column));
      }
    }
    Elements by_column;
    for (std::int64_t column = left; column < columns; ++column) {
      for (std::int64_t row = 0; row < rows; ++row) {
        by_column.push_back(value(row, column));
      }
    }
    Piece piece{.offsets = {0, 0}, .sizes = {rows, left}, .strides = {}};
    Piece strided{.offsets = {0, left}, .sizes = {rows, columns - left}, .strides = {1, rows}};
    AddPiece(piece, by_row);
    AddPiece(strided, by_column);
    checkpoint_->tensors.push_back(
        {.name = "t", .dtype = DType::kBF16, .shape = {rows, columns}, .pieces = {piece, strided}});
  }

  // All of the stored tensors, one after the other.
  void Permute(AxisPermutation permutation, ElementTransform transform = {}) {
    OutputTensor& output = plan_.tensors.emplace_back();
    std::int64_t elements = 0;
    for (std::size_t i = 0; i < checkpoint_->tensors.size(); ++i) {
      const Shape& shape = checkpoint_->tensors[i].shape;
      output.regions.push_back(
          {.tensor = static_cast<std::int32_t>(i), .offsets = Shape(shape.size(), 0), .sizes = shape});
      elements += Volume(shape);
    }
    output.permutation = std::move(permutation);
    output.transform = transform;
    output.dtype = transform.to;
    output.shape = {elements};
    output.bytes = elements * InfoOf(transform.to).bytes;
    plan_.checkpoint = checkpoint_;
    plan_.shards.push_back({.file = "model.safetensors", .header = {}, .bytes = output.bytes, .tensor_count = 1});
  }

  [[nodiscard]] const ExportPlan& plan() const { return plan_; }
  OutputTensor& output() { return plan_.tensors.at(0); }

  // The output's bytes, in segments of at most `segment_bytes`.
  std::string Write(std::int64_t segment_bytes) {
    SegmentCutter cutter(plan_, 0, segment_bytes);
    MemoryBudget budget(MinimumMemoryBudget(plan_));
    BufferPool buffers(budget);
    std::string bytes;
    segments = 0;
    rounding = {};
    while (true) {
      auto segment = cutter.Next();
      EXPECT_TRUE(segment.ok()) << Describe(segment.status());
      if (!segment.ok() || !*segment) {
        return bytes;
      }
      EXPECT_LE((*segment)->memory(), budget.total());
      EXPECT_LE((*segment)->bytes, std::max<std::int64_t>(3 * segment_bytes, InfoOf(output().transform.to).bytes));
      auto buffer = buffers.Take(LoadedSegment::BufferBytes(**segment), (*segment)->memory());
      const auto loaded = LoadedSegment::Load(plan_, plan_.shards[0], **std::move(segment), std::move(buffer), nullptr);
      EXPECT_TRUE(loaded.ok()) << Describe(loaded.status());
      for (const iovec& piece : (*loaded)->pieces()) {
        bytes.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
      }
      for (const Rounding& part : (*loaded)->roundings()) {
        rounding.Merge(part);
      }
      ++segments;
    }
  }
  int segments = 0;   // of the last Write
  Rounding rounding;  // and of all their parts

 private:
  static std::int64_t Volume(const Shape& shape) {
    std::int64_t volume = 1;
    for (const std::int64_t extent : shape) {
      volume *= extent;
    }
    return volume;
  }
  static Elements Count(const Shape& shape, Element first) {
    Elements elements(static_cast<std::size_t>(Volume(shape)));
    for (Element& element : elements) {
      element = first++;
    }
    return elements;
  }
  // In a file of its own, behind three bytes.
  void AddPiece(Piece& piece, const Elements& elements) {
    std::string bytes(3 + elements.size() * sizeof(Element), 'x');
    if (!elements.empty()) {  // whose data may be null, which memcpy does not take
      std::memcpy(bytes.data() + 3, elements.data(), elements.size() * sizeof(Element));
    }
    piece.file = static_cast<std::int32_t>(checkpoint_->files.size());
    piece.position = 3;
    piece.length = static_cast<std::int64_t>(elements.size() * sizeof(Element));
    auto file = std::make_shared<test::MemoryFile>(std::move(bytes));
    checkpoint_->files.push_back({.name = file->name(), .identity = file->identity(), .file = file});
  }

  std::shared_ptr<Checkpoint> checkpoint_;
  ExportPlan plan_;
};

// `expected` element by element, in segments of all kinds of sizes.
void ExpectElements(Export& made, const Elements& expected) {
  const std::string bytes(reinterpret_cast<const char*>(expected.data()), expected.size() * sizeof(Element));
  for (const std::int64_t segment :
       {std::int64_t{1}, std::int64_t{10}, std::int64_t{100}, std::int64_t{777}, std::int64_t{4000}, kSegmentBytes}) {
    ASSERT_EQ(made.Write(segment), bytes) << "in segments of " << segment;
  }
}

constexpr std::int64_t kExperts = 3;
constexpr std::int64_t kHidden = 10;
constexpr std::int64_t kFfn = 7;

// gate_up[e][h][2 f] is gate f of expert e, gate_up[e][h][2 f + 1] up f; expert e's elements begin with e * 1000.
Elements InterleavedGateUp() {
  Elements expected;
  for (std::int64_t e = 0; e < kExperts; ++e) {
    for (std::int64_t h = 0; h < kHidden; ++h) {
      for (std::int64_t f = 0; f < kFfn; ++f) {
        expected.push_back(static_cast<Element>(e * 1000 + f * kHidden + h));
        expected.push_back(static_cast<Element>(e * 1000 + (kFfn + f) * kHidden + h));
      }
    }
  }
  return expected;
}

const AxisPermutation kGateUp{.view = {kExperts, 2, kFfn, kHidden}, .order = {0, 3, 2, 1}};

TEST(PermutedPart, GateAndUpOfExpertsAreInterleavedInColumns) {
  Export made;
  for (std::int64_t e = 0; e < kExperts; ++e) {
    made.Store({2 * kFfn, kHidden}, static_cast<Element>(e * 1000));
  }
  made.Permute(kGateUp);
  ExpectElements(made, InterleavedGateUp());
}

TEST(PermutedPart, RoundingIsThatOfTheSameElementsInAnyOrder) {
  // BF16 of 2^-14 and less: subnormal halves, some ties and some zeros among them.
  constexpr Element kFirst = 0x3880 - 10 * 256;
  Export made;
  made.Store({50, 60}, kFirst);
  made.Permute({.view = {50, 60}, .order = {1, 0}}, {.add_one = false, .from = DType::kBF16, .to = DType::kF16});
  Rounding expected;
  for (int bits = kFirst; bits < kFirst + 50 * 60; ++bits) {
    // A half's subnormals have steps of 2^-24; of its numbers BF16 has no more digits.
    const auto value = static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
    const double rounded = value < 0x1p-14 ? std::nearbyint(value * 0x1p24) * 0x1p-24 : value;
    expected.inexact += rounded != value ? 1 : 0;
    expected.underflows += rounded == 0 ? 1 : 0;
    expected.largest_absolute = std::max(expected.largest_absolute, static_cast<float>(std::fabs(rounded - value)));
    expected.largest_relative =
        std::max(expected.largest_relative, static_cast<float>(std::fabs(rounded - value) / value));
  }
  ASSERT_GT(expected.underflows, 0);
  ASSERT_GT(expected.inexact, expected.underflows);
  for (const std::int64_t segment : {std::int64_t{1}, std::int64_t{100}, std::int64_t{777}, kSegmentBytes}) {
    made.Write(segment);
    EXPECT_EQ(made.rounding, expected) << "in segments of " << segment;
  }
}

TEST(PermutedPart, GateAndUpMayBeStoredApartAndInPiecesOfAnyLayout) {
  Export made;
  for (std::int64_t e = 0; e < kExperts; ++e) {
    made.Store({kFfn, kHidden}, static_cast<Element>(e * 1000));
    made.StoreInTwo(kFfn, kHidden, 4, static_cast<Element>(e * 1000 + kFfn * kHidden));
  }
  made.Permute(kGateUp);
  ExpectElements(made, InterleavedGateUp());
}

TEST(PermutedPart, ABiasOfGateAndUpIsInterleaved) {
  Export made;
  Elements expected;
  for (std::int64_t e = 0; e < kExperts; ++e) {
    made.Store({2 * kFfn}, static_cast<Element>(e * 1000));
    for (std::int64_t f = 0; f < kFfn; ++f) {
      expected.push_back(static_cast<Element>(e * 1000 + f));
      expected.push_back(static_cast<Element>(e * 1000 + kFfn + f));
    }
  }
  made.Permute({.view = {kExperts, 2, kFfn}, .order = {0, 2, 1}});
  ExpectElements(made, expected);
}

TEST(PermutedPart, TheMatrixOfEachExpertIsTransposed) {
  Export stacked;
  stacked.Store({kExperts, kHidden, kFfn}, 0);
  stacked.Permute({.view = {kExperts, kHidden, kFfn}, .order = {0, 2, 1}});
  Export in_pieces;
  for (std::int64_t e = 0; e < kExperts; ++e) {
    in_pieces.StoreInTwo(kHidden, kFfn, 2, static_cast<Element>(e * kHidden * kFfn));
  }
  in_pieces.Permute({.view = {kExperts, kHidden, kFfn}, .order = {0, 2, 1}});
  Elements expected;
  for (std::int64_t e = 0; e < kExperts; ++e) {
    for (std::int64_t f = 0; f < kFfn; ++f) {
      for (std::int64_t h = 0; h < kHidden; ++h) {
        expected.push_back(static_cast<Element>((e * kHidden + h) * kFfn + f));
      }
    }
  }
  ExpectElements(stacked, expected);
  ExpectElements(in_pieces, expected);
}

TEST(PermutedPart, GroupedHeadsBecomeColumnsOfQueriesThenKeysThenValues) {
  constexpr std::int64_t kGroups = 4;
  constexpr std::int64_t kDimension = 3;
  Export made;
  made.Store({kGroups * 3 * kDimension, kHidden}, 0);
  made.Permute({.view = {kGroups, 3, kDimension, kHidden}, .order = {3, 1, 0, 2}});
  Elements expected;
  for (std::int64_t h = 0; h < kHidden; ++h) {
    for (std::int64_t which = 0; which < 3; ++which) {
      for (std::int64_t g = 0; g < kGroups; ++g) {
        for (std::int64_t d = 0; d < kDimension; ++d) {
          expected.push_back(static_cast<Element>(((g * 3 + which) * kDimension + d) * kHidden + h));
        }
      }
    }
  }
  ExpectElements(made, expected);
}

TEST(PermutedPart, ElementsAreTransformedOnTheWay) {
  Export made;
  made.Store({5, 4}, 0x3F80);  // 1, 1 + 2^-7, ...
  made.Permute({.view = {5, 4}, .order = {1, 0}}, {.add_one = true, .from = DType::kBF16, .to = DType::kF32});
  std::string expected;
  for (int column = 0; column < 4; ++column) {
    for (int row = 0; row < 5; ++row) {
      const float value = 2.0F + static_cast<float>(row * 4 + column) / 128.0F;
      expected.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
  }
  for (const std::int64_t segment : {std::int64_t{1}, std::int64_t{24}, kSegmentBytes}) {
    EXPECT_EQ(made.Write(segment), expected);
  }
}

TEST(PermutedPart, WhatIsReadInTooManyPlacesForOneSegmentIsCutSmaller) {
  constexpr std::int64_t kRows = 20'000;
  static_assert(kRows > static_cast<std::int64_t>(kMaximumPermutedRows));
  Export made;
  made.Store({kRows, 3}, 0);
  made.Permute({.view = {kRows, 3}, .order = {1, 0}});
  made.output().regions.clear();
  Elements expected;
  for (std::int64_t row = 0; row < kRows; ++row) {
    made.output().regions.push_back({.tensor = 0, .offsets = {row, 0}, .sizes = {1, 3}});
  }
  for (std::int64_t column = 0; column < 3; ++column) {
    for (std::int64_t row = 0; row < kRows; ++row) {
      expected.push_back(static_cast<Element>(row * 3 + column));
    }
  }
  EXPECT_EQ(made.Write(kSegmentBytes),
            std::string(reinterpret_cast<const char*>(expected.data()), expected.size() * sizeof(Element)));
  EXPECT_GT(made.segments, 1);
}

TEST(PermutedPart, ATensorLargerThanTheMemoryOfASegmentIsReadInRowsOfManyColumns) {
  Export made;
  constexpr std::int64_t kRows = 4000;
  constexpr std::int64_t kColumns = 3000;
  made.Store({kRows, kColumns}, 0);
  made.Permute({.view = {kRows, kColumns}, .order = {1, 0}});
  Elements expected;
  for (std::int64_t column = 0; column < kColumns; ++column) {
    for (std::int64_t row = 0; row < kRows; ++row) {
      expected.push_back(static_cast<Element>(row * kColumns + column));
    }
  }
  // Not EXPECT_EQ, which would print them.
  EXPECT_TRUE(made.Write(kSegmentBytes) ==
              std::string(reinterpret_cast<const char*>(expected.data()), expected.size() * sizeof(Element)));
  EXPECT_EQ(made.segments, 2);  // 24 MB
}

TEST(PermutedPart, AnEmptyTensorHasNoBytes) {
  Export made;
  made.Store({0, 5}, 0);
  made.Permute({.view = {0, 5}, .order = {1, 0}});
  EXPECT_EQ(made.Write(100), "");
}

TEST(PermutedPart, APermutationThatIsNoneIsAnErrorRatherThanACrash) {
  Export made;
  made.Store({4, 5}, 0);
  made.Permute({.view = {4, 5}, .order = {1, 7}});
  SegmentCutter cutter(made.plan(), 0, kSegmentBytes);
  EXPECT_EQ(ReasonOf(cutter.Next().status()), Reason::kInternal);
}

// Random tensors in random pieces, regions, views and orders.
TEST(PermutedPart, AnyPermutationOfAnythingIsWhatItsDefinitionSays) {
  test::TemporaryDirectory directory;
  MemoryBudget memory(kMaximumSegmentMemory);
  int permuted = 0;
  for (std::uint32_t seed = 1000; seed < 1060; ++seed) {
    const test::RandomExport made =
        test::MakeRandomExport(directory / std::to_string(seed), {.seed = seed,
                                                                  .tensors = 4,
                                                                  .shards = 1,
                                                                  .largest_extent = seed % 2 == 0 ? 9 : 25,
                                                                  .digest = DigestAlgorithm::kNone});
    for (const OutputTensor& tensor : made.plan->tensors) {
      permuted += tensor.permutation.IsNone() ? 0 : 1;
    }
    const auto staging = PrepareStaging(*made.plan, directory / "out", false, PosixFileSystem());
    ASSERT_TRUE(staging.ok()) << Describe(staging.status());
    for (const std::int64_t segment : {std::int64_t{100}, std::int64_t{2000} + seed % 77, kSegmentBytes}) {
      const RunResources resources{.files = &PosixFileSystem(Durability::kPageCache),
                                   .memory = &memory,
                                   .threads = 1 + static_cast<int>(seed % 3),
                                   .segment_bytes = segment};
      const auto result = WriteShard(*made.plan, 0, *staging, std::to_string(segment), resources, {});
      ASSERT_TRUE(result.ok()) << Describe(result.status());
      ASSERT_TRUE(test::ReadFile(*staging + "/" + result->file) == made.expected[0])
          << "seed " << seed << " in segments of " << segment;
      made.plan->hash += "again";
    }
    std::filesystem::remove_all(*staging);
  }
  EXPECT_GT(permuted, 60);
}

}  // namespace
}  // namespace slipway::engine
