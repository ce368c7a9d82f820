// The scales of a band's blocks: the largest magnitudes, what a rule makes of them, the search among neighbours.
#if defined(SLIPWAY_QUANTIZE_SIMD_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIPWAY_QUANTIZE_SIMD_BLOCKS_INL_H_
#undef SLIPWAY_QUANTIZE_SIMD_BLOCKS_INL_H_
#else
#define SLIPWAY_QUANTIZE_SIMD_BLOCKS_INL_H_
#endif

#include <algorithm>
#include <cstring>
#include <numeric>

#include "hwy/aligned_allocator.h"
#include "worker/engine/quantize/quantizer.h"
#include "worker/engine/quantize/simd_encode-inl.h"
#include "worker/engine/quantize/simd_scales-inl.h"

HWY_BEFORE_NAMESPACE();
namespace slipway::engine::HWY_NAMESPACE {

// How rows fall into blocks and tiles.
struct Division {
  std::size_t rows = 1;     // of a block
  std::size_t columns = 0;  // of a block
  std::size_t across = 1;   // blocks in a row
  std::size_t tile = 0;  // columns of a tile: whole blocks, or a part of the only one; whole chunks of squared errors

  // A tile of 0 where vector code has none.
  static Division Of(const Coding& coding, std::size_t all_columns) {
    if (coding.sharing == Sharing::kTensor || coding.sharing == Sharing::kRow) {
      return {.rows = 1, .columns = all_columns, .across = 1, .tile = kTile};
    }
    const auto group = static_cast<std::size_t>(coding.group);
    const std::size_t unit = group > kTile ? kTile + 1 : std::lcm(group, kChunk);
    return {.rows = coding.sharing == Sharing::kSquare ? group : 1,
            .columns = group,
            .across = (all_columns + group - 1) / group,
            .tile = group % kBlockLanes == 0 ? kTile / unit * unit : 0};
  }
};

// A row's values, tile by tile.
class Tiles {
 public:
  Tiles(const Values& values, const Division& division)
      : dtype_(values.dtype),
        size_(values.dtype == DType::kF32 ? 4 : 2),
        columns_(static_cast<std::size_t>(values.columns)),
        tile_(division.tile),
        bytes_(values.bytes.data()) {}

  // Calls use(first column, count, values).
  template <class Use>
  HWY_INLINE void ForEach(std::size_t row, const Use& use) {
    for (std::size_t first = 0; first < columns_; first += tile_) {
      const std::size_t count = std::min(tile_, columns_ - first);
      LoadTile(dtype_, bytes_ + (row * columns_ + first) * size_, count, values_);
      use(first, count, static_cast<const float*>(values_));
    }
  }

 private:
  DType dtype_;
  std::size_t size_;
  std::size_t columns_;
  std::size_t tile_;
  const std::byte* bytes_;
  alignas(64) float values_[kTile];
};

using SquareErrorsOfTile = void (*)(const float*, const TileGrid&, std::size_t, float*);

// What the values of neighbouring blocks are divided by, one a block, and their zero points, or null.
struct BlockGrids {
  const float* scales = nullptr;
  const float* zero_points = nullptr;

  // For `count` columns from `column` on, of blocks that are `width` wide.
  HWY_INLINE void Spread(std::size_t column, std::size_t width, std::size_t count, TileGrid& tile) const {
    SpreadScales(scales + column / width, width, count, tile.scales);
    if (zero_points != nullptr) {
      SpreadScales(zero_points + column / width, width, count, tile.zero_points);
    }
  }
};

// The grids of neighbouring blocks, and what is stored of their scales; room for both.
struct FoundGrids {
  FoundGrids() = default;
  FoundGrids(std::size_t room, bool has_zero_points)
      : used(hwy::AllocateAligned<float>(room)), stored(hwy::AllocateAligned<std::uint32_t>(room)) {
    if (has_zero_points) {
      zero_points = hwy::AllocateAligned<float>(room);
    }
  }
  [[nodiscard]] BlockGrids grids() const { return {used.get(), zero_points.get()}; }

  // Takes over a block's.
  void Take(const FoundGrids& other, std::size_t block) {
    used[block] = other.used[block];
    stored[block] = other.stored[block];
    if (zero_points != nullptr) {
      zero_points[block] = other.zero_points[block];
    }
  }

  hwy::AlignedFreeUniquePtr<float[]> used;
  hwy::AlignedFreeUniquePtr<std::uint32_t[]> stored;
  hwy::AlignedFreeUniquePtr<float[]> zero_points;
};

// Blocks that lie next to each other, their scales found together.
class BlockRow {
 public:
  BlockRow(const QuantizeJob& job, const Division& division, SquareErrorsOfTile square_errors)
      : job_(job),
        division_(division),
        square_errors_(square_errors),
        candidates_(CandidateCount(job.coding)),
        has_zero_points_(HasZeroPoints(job.coding.rule)),
        lanes_(hwy::AllocateAligned<float>(Lanes())),
        found_(Room(), has_zero_points_) {
    if (has_zero_points_) {
      below_ = hwy::AllocateAligned<float>(Lanes());
    }
    if (candidates_ > 1) {
      trial_ = FoundGrids(Room(), has_zero_points_);
      errors_ = hwy::AllocateAligned<double>(Room());
      least_ = hwy::AllocateAligned<double>(Room());
    }
  }

  [[nodiscard]] BlockGrids grids() const { return found_.grids(); }

  // Of the blocks whose rows are `first` to `end`, the `number`th from above; stores them if that is wanted.
  void Find(Tiles& tiles, std::size_t number, std::size_t first, std::size_t end) {
    FindAmaxes(tiles, number, first, end);
    Make(0, found_);
    if (candidates_ > 1) {
      Search(tiles, first, end);
    }
    Store(number);
  }

 private:
  [[nodiscard]] std::size_t Room() const { return RoundedUp(division_.across, kBlockLanes); }

  [[nodiscard]] std::size_t Lanes() const { return (division_.across + 2) * kBlockLanes; }

  // Of a block, the number of its scale.
  [[nodiscard]] std::size_t NumberOf(std::size_t row, std::size_t block) const {
    const Packing packing = job_.coding.packing;
    const bool transposed = PacksColumns(packing);
    return transposed ? block * static_cast<std::size_t>(job_.values.rows) + row : row * division_.across + block;
  }

  void FindAmaxes(Tiles& tiles, std::size_t number, std::size_t first, std::size_t end) {
    float* const lanes = lanes_.get();
    float* const below = below_.get();
    std::fill(lanes, lanes + Lanes(), 0.0F);
    if (has_zero_points_) {
      std::fill(below, below + Lanes(), 0.0F);
    }
    if (!job_.amaxes.empty()) {
      for (std::size_t block = 0; block < division_.across; ++block) {
        lanes[block] = job_.amaxes[NumberOf(number, block)];
      }
      if (has_zero_points_) {
        std::copy(lanes, lanes + division_.across, below);
      }
      return;
    }
    for (std::size_t row = first; row < end; ++row) {
      tiles.ForEach(row, [&](std::size_t column, std::size_t count, const float* values) HWY_ATTR {
        const std::size_t at = column / division_.columns * kBlockLanes;
        if (has_zero_points_) {
          WidenLanes(values, division_.columns, count, lanes + at, below + at);
        } else {
          RaiseLanes(values, division_.columns, count, lanes + at);
        }
      });
    }
    CollapseLanes(lanes, division_.across);
    if (has_zero_points_) {
      CollapseLanes(below, division_.across);
    }
  }

  // What `candidate` makes of the ends that were found.
  void Make(std::size_t candidate, FoundGrids& made) {
    if (has_zero_points_) {
      MakeRangeScales(job_.coding, candidate, lanes_.get(), below_.get(), division_.across, made.stored.get(),
                      made.used.get(), made.zero_points.get());
    } else {
      MakeScales(job_.coding, job_.tensor_scale, candidate, lanes_.get(), division_.across, made.stored.get(),
                 made.used.get());
    }
  }

  // The squared errors of the blocks under `grids`.
  void FindErrors(Tiles& tiles, std::size_t first, std::size_t end, const BlockGrids& grids, double* errors) {
    const std::size_t width = division_.columns;
    std::fill(errors, errors + division_.across, 0.0);
    for (std::size_t row = first; row < end; ++row) {
      tiles.ForEach(row, [&](std::size_t column, std::size_t count, const float* values) HWY_ATTR {
        const std::size_t block = column / width;
        grids.Spread(column, width, count, spread_);
        square_errors_(values, spread_, count, squares_);
        if (division_.across == 1 && division_.rows == 1) {
          errors[0] = AddChunks(squares_, count, errors[0]);
          return;
        }
        for (std::size_t i = 0; i < count; i += width) {
          errors[block + i / width] += AddChunks(squares_ + i, std::min(width, count - i), 0);
        }
      });
    }
  }

  // Takes the neighbour of least squared error, the first of equals.
  void Search(Tiles& tiles, std::size_t first, std::size_t end) {
    FindErrors(tiles, first, end, found_.grids(), least_.get());
    for (std::size_t candidate = 1; candidate < candidates_; ++candidate) {
      Make(candidate, trial_);
      FindErrors(tiles, first, end, trial_.grids(), errors_.get());
      for (std::size_t block = 0; block < division_.across; ++block) {
        if (errors_[block] < least_[block]) {
          least_[block] = errors_[block];
          found_.Take(trial_, block);
        }
      }
    }
  }

  void Store(std::size_t number) {
    const auto size = static_cast<std::size_t>(InfoOf(job_.coding.scale_dtype).bytes);
    for (std::size_t block = 0; block < division_.across && !job_.scales.empty(); ++block) {
      std::memcpy(job_.scales.data() + NumberOf(number, block) * size, &found_.stored[block], size);
    }
    for (std::size_t block = 0; block < division_.across && !job_.zero_points.empty(); ++block) {
      job_.zero_points[NumberOf(number, block)] =
          static_cast<std::byte>(static_cast<std::int32_t>(found_.zero_points[block]));
    }
  }

  const QuantizeJob& job_;
  const Division division_;
  SquareErrorsOfTile square_errors_;
  std::size_t candidates_;
  bool has_zero_points_;
  // Of each block; then the largest magnitudes, one each; of ranges, how far they reach above 0 and below it.
  hwy::AlignedFreeUniquePtr<float[]> lanes_;
  hwy::AlignedFreeUniquePtr<float[]> below_;
  FoundGrids found_;
  FoundGrids trial_;
  hwy::AlignedFreeUniquePtr<double[]> errors_;
  hwy::AlignedFreeUniquePtr<double[]> least_;
  TileGrid spread_;
  alignas(64) float squares_[kTile];
};

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLIPWAY_QUANTIZE_SIMD_BLOCKS_INL_H_
