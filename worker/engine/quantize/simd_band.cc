// Compiled without contraction (worker/CMakeLists.txt): a fused multiply-add would round differently.
#include "worker/engine/quantize/simd_band.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "worker/engine/quantize/simd_band.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// What every processor has, one lane, is left to the reference.
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "worker/engine/quantize/simd_blocks-inl.h"
#include "worker/engine/quantize/simd_strip-inl.h"

HWY_BEFORE_NAMESPACE();
namespace slipway::engine::HWY_NAMESPACE {

// What the element decides.
struct Kernels {
  decltype(&EncodeTile<E4M3>) encode;
  decltype(&EncodeAndJudgeTile<E4M3>) encode_and_judge;
  SquareErrorsOfTile square_errors;
};

template <class ElementKind>
Kernels KernelsFor() {
  return {&EncodeTile<ElementKind>, &EncodeAndJudgeTile<ElementKind>, &SquareErrors<ElementKind>};
}

Kernels KernelsOf(Element element, bool has_zero_points) {
  switch (element) {
    case Element::kE4M3:
      return KernelsFor<E4M3>();
    case Element::kE2M1:
      return KernelsFor<E2M1>();
    case Element::kInt8:
      return KernelsFor<Int8>();
    case Element::kInt4:
      break;
  }
  return has_zero_points ? KernelsFor<ShiftedInt4>() : KernelsFor<Int4>();
}

// A row of codes or statistics under scales that are known.
class RowEncoder {
 public:
  RowEncoder(const QuantizeJob& job, const Division& division, const Kernels& kernels)
      : job_(job), division_(division), kernels_(kernels), strip_(job) {}

  void Encode(Tiles& tiles, std::size_t row, const BlockGrids& grids) {
    const bool judged = !job_.statistics.empty();
    RowStatistics statistics;
    std::uint8_t* const codes = strip_.Row(row);
    tiles.ForEach(row, [&](std::size_t column, std::size_t count, const float* values) HWY_ATTR {
      grids.Spread(column, division_.columns, count, spread_);
      if (judged) {
        kernels_.encode_and_judge(values, spread_, count, codes + column, statistics);
      } else {
        kernels_.encode(values, spread_, count, codes + column);
      }
    });
    if (judged) {
      job_.statistics[row] = statistics;
    }
    strip_.Finish(row);
  }

 private:
  const QuantizeJob& job_;
  const Division division_;
  const Kernels kernels_;
  Strip strip_;
  TileGrid spread_;
};

bool QuantizeBand(const QuantizeJob& job) {
  const auto rows = static_cast<std::size_t>(job.values.rows);
  const Division division = Division::Of(job.coding, static_cast<std::size_t>(job.values.columns));
  if (division.tile == 0) {
    return false;
  }
  const Kernels kernels = KernelsOf(job.coding.element, HasZeroPoints(job.coding.rule));
  const bool per_tensor = job.coding.sharing == Sharing::kTensor;
  const bool encodes = !job.codes.empty() || !job.statistics.empty();
  Tiles tiles(job.values, division);
  BlockRow blocks(job, division, kernels.square_errors);
  RowEncoder encoder(job, division, kernels);
  for (std::size_t first = 0, number = 0; first < rows; first += division.rows, ++number) {
    const std::size_t end = std::min(rows, first + division.rows);
    if (!per_tensor) {
      blocks.Find(tiles, number, first, end);
    }
    for (std::size_t row = first; encodes && row < end; ++row) {
      encoder.Encode(tiles, row, per_tensor ? BlockGrids{.scales = &job.tensor_scale} : blocks.grids());
    }
  }
  return true;
}

bool SquaredErrorsOfBand(const Coding& coding, const Values& values, const float* scales, std::size_t count_of_scales,
                         double* errors) {
  const Division division = Division::Of({.sharing = Sharing::kTensor}, static_cast<std::size_t>(values.columns));
  const SquareErrorsOfTile square_errors = KernelsOf(coding.element, false).square_errors;
  Tiles tiles(values, division);
  TileGrid spread;
  HWY_ALIGN float squares[kTile];
  for (std::size_t row = 0; row < static_cast<std::size_t>(values.rows); ++row, errors += count_of_scales) {
    std::fill(errors, errors + count_of_scales, 0.0);
    tiles.ForEach(row, [&](std::size_t /*column*/, std::size_t count, const float* tile) HWY_ATTR {
      for (std::size_t i = 0; i < count_of_scales; ++i) {
        SpreadScales(scales + i, division.columns, count, spread.scales);
        square_errors(tile, spread, count, squares);
        errors[i] = AddChunks(squares, count, errors[i]);
      }
    });
  }
  return true;
}

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#else
namespace slipway::engine::HWY_NAMESPACE {

bool QuantizeBand(const QuantizeJob& /*job*/) { return false; }

bool SquaredErrorsOfBand(const Coding& /*coding*/, const Values& /*values*/, const float* /*scales*/,
                         std::size_t /*count_of_scales*/, double* /*errors*/) {
  return false;
}

}  // namespace slipway::engine::HWY_NAMESPACE
#endif

#if HWY_ONCE
namespace slipway::engine {

HWY_EXPORT(QuantizeBand);
HWY_EXPORT(SquaredErrorsOfBand);

bool QuantizeSimd(const QuantizeJob& job) { return HWY_DYNAMIC_DISPATCH(QuantizeBand)(job); }

bool SquaredErrorsSimd(const Coding& coding, const Values& values, std::span<const float> scales,
                       std::span<double> errors) {
  return HWY_DYNAMIC_DISPATCH(SquaredErrorsOfBand)(coding, values, scales.data(), scales.size(), errors.data());
}

}  // namespace slipway::engine
#endif  // HWY_ONCE
