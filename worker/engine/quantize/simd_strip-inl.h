// Codes of rows that are packed together, kept until they are all there.
#if defined(SLIPWAY_QUANTIZE_SIMD_STRIP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIPWAY_QUANTIZE_SIMD_STRIP_INL_H_
#undef SLIPWAY_QUANTIZE_SIMD_STRIP_INL_H_
#else
#define SLIPWAY_QUANTIZE_SIMD_STRIP_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/aligned_allocator.h"
#include "worker/engine/quantize/quantizer.h"
#include "worker/engine/quantize/simd_pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace slipway::engine::HWY_NAMESPACE {

class Strip {
 public:
  // Of the band of `job`, which must outlive it. A job that wants no codes has a strip of one row.
  explicit Strip(const QuantizeJob& job)
      : packing_(job.codes.empty() ? Packing::kBytes : job.coding.packing),
        wide_(job.coding.element == Element::kE4M3 || job.coding.element == Element::kInt8),
        rows_(static_cast<std::size_t>(job.values.rows)),
        columns_(static_cast<std::size_t>(job.values.columns)),
        stride_(RoundedUp(columns_, kStep) + kStep),
        strip_rows_(StripRows()),
        out_(reinterpret_cast<std::uint8_t*>(job.codes.data())),
        codes_(hwy::AllocateAligned<std::uint8_t>(strip_rows_ * stride_)) {
    if (PacksColumns(packing_)) {
      words_ = hwy::AllocateAligned<std::uint32_t>(kLine * stride_);
    }
  }

  // Room for a row's codes, one a byte, up to a multiple of kStep.
  std::uint8_t* Row(std::size_t row) { return codes_.get() + row % strip_rows_ * stride_; }

  // The row's codes are there. Rows come in order.
  void Finish(std::size_t row) {
    const std::size_t in_strip = row % strip_rows_;
    if (out_ != nullptr && (in_strip + 1 == strip_rows_ || row + 1 == rows_)) {
      Pack(row - in_strip, in_strip + 1);
    }
  }

 private:
  static constexpr std::size_t kLine = 16;           // words that are neighbours where words lie transposed
  static constexpr std::size_t kStripBytes = 65536;  // what a strip of more rows than it needs may take

  std::size_t StripRows() const {
    const std::size_t least = packing_ == Packing::kNibbleRows ? 2 : packing_ == Packing::kWordsColumns ? 8 : 1;
    const bool transposed = PacksColumns(packing_);
    return least * (transposed ? std::clamp<std::size_t>(kStripBytes / (least * stride_), 1, kLine) : 1);
  }

  void Pack(std::size_t first, std::size_t rows) {
    std::uint8_t* const codes = codes_.get();
    switch (packing_) {
      case Packing::kBytes:
        return PackBytes(codes, columns_, 0, out_ + first * columns_);
      case Packing::kNibblePairs:
        return PackPairs(codes, columns_ / 2, 0, out_ + first * (columns_ / 2));
      case Packing::kNibbleRows:
        return PackRows(codes, codes + stride_, columns_, out_ + first / 2 * columns_);
      case Packing::kWords:
        return PackWords(codes, first);
      case Packing::kWordsColumns:
        for (std::size_t i = 0; i < rows / 8; ++i) {
          PackColumns(codes + 8 * i * stride_, stride_, columns_, words_.get() + i * stride_);
        }
        return StoreTransposed(words_.get(), rows / 8, columns_, stride_, out_ + first / 8 * sizeof(std::uint32_t),
                               rows_ / 8);
      case Packing::kWordsRows:
        for (std::size_t i = 0; i < rows; ++i) {
          PackPairs(codes + i * stride_, columns_ / 2, 8, reinterpret_cast<std::uint8_t*>(words_.get() + i * stride_));
        }
        return StoreTransposed(words_.get(), rows, columns_ / 8, stride_, out_ + first * sizeof(std::uint32_t), rows_);
    }
  }

  // The bits behind a row's last code are 0.
  void PackWords(std::uint8_t* codes, std::size_t row) {
    const std::size_t in_word = wide_ ? 4 : 8;
    const std::size_t bytes = (columns_ + in_word - 1) / in_word * sizeof(std::uint32_t);
    const std::uint8_t flip = wide_ ? 0x80 : 0x08;
    std::fill(codes + columns_, codes + stride_, flip);
    wide_ ? PackBytes(codes, bytes, flip, out_ + row * bytes) : PackPairs(codes, bytes, flip, out_ + row * bytes);
  }

  Packing packing_;
  bool wide_;
  std::size_t rows_;
  std::size_t columns_;
  std::size_t stride_;
  std::size_t strip_rows_;
  std::uint8_t* out_;
  hwy::AlignedFreeUniquePtr<std::uint8_t[]> codes_;
  hwy::AlignedFreeUniquePtr<std::uint32_t[]> words_;
};

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLIPWAY_QUANTIZE_SIMD_STRIP_INL_H_
