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

using SquareErrorsOfTile = void (*)(const float*, const float*, std::size_t, float*);

// Blocks that lie next to each other, their scales found together.
class BlockRow {
 public:
  BlockRow(const QuantizeJob& job, const Division& division, SquareErrorsOfTile square_errors)
      : job_(job),
        division_(division),
        square_errors_(square_errors),
        candidates_(Candidates(job.coding)),
        lanes_(hwy::AllocateAligned<float>((division.across + 2) * kBlockLanes)),
        used_(hwy::AllocateAligned<float>(Room())),
        stored_(hwy::AllocateAligned<std::uint32_t>(Room())) {
    if (candidates_ > 1) {
      trial_used_ = hwy::AllocateAligned<float>(Room());
      trial_stored_ = hwy::AllocateAligned<std::uint32_t>(Room());
      errors_ = hwy::AllocateAligned<double>(Room());
      least_ = hwy::AllocateAligned<double>(Room());
    }
  }

  // What values of the blocks are divided by, one a block.
  [[nodiscard]] const float* scales() const { return used_.get(); }

  // Of the blocks whose rows are `first` to `end`, the `number`th from above; stores them if that is wanted.
  void Find(Tiles& tiles, std::size_t number, std::size_t first, std::size_t end) {
    FindAmaxes(tiles, number, first, end);
    MakeScales(job_.coding, job_.tensor_scale, 0, lanes_.get(), division_.across, stored_.get(), used_.get());
    if (candidates_ > 1) {
      Search(tiles, first, end);
    }
    if (!job_.scales.empty()) {
      Store(number);
    }
  }

 private:
  [[nodiscard]] std::size_t Room() const { return RoundedUp(division_.across, kBlockLanes); }

  // Of a block, the number of its scale.
  [[nodiscard]] std::size_t NumberOf(std::size_t row, std::size_t block) const {
    const Packing packing = job_.coding.packing;
    const bool transposed = PacksColumns(packing);
    return transposed ? block * static_cast<std::size_t>(job_.values.rows) + row : row * division_.across + block;
  }

  void FindAmaxes(Tiles& tiles, std::size_t number, std::size_t first, std::size_t end) {
    float* const lanes = lanes_.get();
    std::fill(lanes, lanes + (division_.across + 2) * kBlockLanes, 0.0F);
    if (!job_.amaxes.empty()) {
      for (std::size_t block = 0; block < division_.across; ++block) {
        lanes[block] = job_.amaxes[NumberOf(number, block)];
      }
      return;
    }
    for (std::size_t row = first; row < end; ++row) {
      tiles.ForEach(row, [&](std::size_t column, std::size_t count, const float* values) HWY_ATTR {
        RaiseLanes(values, division_.columns, count, lanes + column / division_.columns * kBlockLanes);
      });
    }
    CollapseLanes(lanes, division_.across);
  }

  // The squared errors of the blocks under `scales`.
  void FindErrors(Tiles& tiles, std::size_t first, std::size_t end, const float* scales, double* errors) {
    const std::size_t width = division_.columns;
    std::fill(errors, errors + division_.across, 0.0);
    for (std::size_t row = first; row < end; ++row) {
      tiles.ForEach(row, [&](std::size_t column, std::size_t count, const float* values) HWY_ATTR {
        const std::size_t block = column / width;
        SpreadScales(scales + block, width, count, spread_);
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
    FindErrors(tiles, first, end, used_.get(), least_.get());
    for (std::size_t candidate = 1; candidate < candidates_; ++candidate) {
      MakeScales(job_.coding, job_.tensor_scale, candidate, lanes_.get(), division_.across, trial_stored_.get(),
                 trial_used_.get());
      FindErrors(tiles, first, end, trial_used_.get(), errors_.get());
      for (std::size_t block = 0; block < division_.across; ++block) {
        if (errors_[block] < least_[block]) {
          least_[block] = errors_[block];
          stored_[block] = trial_stored_[block];
          used_[block] = trial_used_[block];
        }
      }
    }
  }

  void Store(std::size_t number) {
    const auto size = static_cast<std::size_t>(InfoOf(job_.coding.scale_dtype).bytes);
    for (std::size_t block = 0; block < division_.across; ++block) {
      std::memcpy(job_.scales.data() + NumberOf(number, block) * size, &stored_[block], size);
    }
  }

  const QuantizeJob& job_;
  const Division division_;
  SquareErrorsOfTile square_errors_;
  std::size_t candidates_;
  hwy::AlignedFreeUniquePtr<float[]> lanes_;  // of each block; then the largest magnitudes, one each
  hwy::AlignedFreeUniquePtr<float[]> used_;
  hwy::AlignedFreeUniquePtr<std::uint32_t[]> stored_;
  hwy::AlignedFreeUniquePtr<float[]> trial_used_;
  hwy::AlignedFreeUniquePtr<std::uint32_t[]> trial_stored_;
  hwy::AlignedFreeUniquePtr<double[]> errors_;
  hwy::AlignedFreeUniquePtr<double[]> least_;
  alignas(64) float spread_[kTile];
  alignas(64) float squares_[kTile];
};

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLIPWAY_QUANTIZE_SIMD_BLOCKS_INL_H_
