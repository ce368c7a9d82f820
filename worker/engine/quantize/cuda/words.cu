// AutoAWQ's and GPTQ's words: their eight codes lie across what a thread reads, so that a block of threads turns a tile
// of codes around in shared memory. The values are read once.
#include "worker/engine/quantize/cuda/geometry.h"
#include "worker/engine/quantize/cuda/group_scales.cuh"
#include "worker/engine/quantize/cuda/kernels.h"

namespace slipway::engine {
namespace {

constexpr int kTile = 128;                // rows and columns
constexpr int kAcross = kTile / kVector;  // threads of a row
constexpr int kDown = kBlockThreads / kAcross;
constexpr int kVectors = kTile / kDown;  // of a thread
constexpr int kWords = kTile / 8;        // of a row: codes of eight columns
constexpr int kPitch = kTile + 2;        // words of eight threads of a row and of four rows lie in different banks
constexpr std::uint32_t kOffset = 0x88888888U;

struct Arguments {
  const void* values;
  std::int64_t rows;
  std::int64_t columns;
  Coding coding;
  RuleDivisors divisors;
  void* codes;  // may be null
  void* scales;
  int shift;          // log2 of the threads of a group
  bool scales_given;  // `scales` is read, not written
};

struct Tile {
  std::uint32_t codes[kWords][kPitch];  // of a row, eight columns each
  std::uint32_t scales[kTile / kVector][kTile];
};

// An 8 x 8 square of codes, a row a word, to a column a word: row PlaceInUnit(i) in nibble i.
__device__ __forceinline__ void TurnAround(const std::uint32_t (&rows)[8], std::uint32_t (&columns)[8]) {
  std::uint32_t ordered[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    ordered[i] = rows[PlaceInUnit(Packing::kWordsColumns, i)];
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {  // four columns
    std::uint32_t both[4];                // of rows i and i + 4
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      both[i] = __byte_perm(ordered[i], ordered[i + 4], half == 0 ? 0x5410 : 0x7632);
    }
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {  // two columns
      const unsigned order = pair == 0 ? 0x6240 : 0x7351;
      const std::uint32_t even = __byte_perm(both[0], both[2], order);  // rows 0, 2, 4, 6
      const std::uint32_t odd = __byte_perm(both[1], both[3], order);
      columns[4 * half + 2 * pair] = (even & 0x0F0F0F0FU) | (odd & 0x0F0F0F0FU) << 4;
      columns[4 * half + 2 * pair + 1] = (even >> 4 & 0x0F0F0F0FU) | (odd & 0xF0F0F0F0U);
    }
  }
}

// The codes of the thread's vectors, and the scales of its groups, into the tile.
template <DType kType>
__device__ __forceinline__ void MakeCodes(const Arguments& a, std::int64_t first_row, std::int64_t first_column,
                                          Tile& tile) {
  const int across = static_cast<int>(threadIdx.x % kAcross);
  const int down = static_cast<int>(threadIdx.x / kAcross);
  const std::int64_t place = first_column / kVector + across;
  const std::int64_t row_vectors = a.columns / kVector;
  const std::int64_t group = place >> a.shift;
  Vector<kType> values[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const std::int64_t row = first_row + down + i * kDown;
    values[i].Clear();
    if (place < row_vectors && row < a.rows) {
      values[i].Load(a.values, row * row_vectors + place);
    }
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int in_tile = down + i * kDown;
    std::uint32_t largest = values[i].LargestMagnitudeBits();
    for (int step = 1; step < 1 << a.shift; step *= 2) {
      largest = max(largest, __shfl_xor_sync(kWholeWarp, largest, step));
    }
    const float amax = Vector<kType>::FromMagnitudeBits(largest);
    std::uint32_t stored = 0;
    if (!a.scales_given) {
      stored = RuleScaleOf<ScaleRule::kAmax, kType>(a.coding, a.divisors, amax, 1);
      tile.scales[across >> a.shift][in_tile] = stored;
    } else if (place < row_vectors && first_row + in_tile < a.rows) {
      stored = LoadScale(a.scales, group * a.rows + first_row + in_tile, a.coding.scale_dtype);
    }
    const float scale = EffectiveScaleOf<ScaleRule::kAmax>(a.coding, a.divisors, stored, 1);
    std::uint32_t words[2];
    EncodeNibbles<Element::kInt4>(values[i], MakeDivisor(scale, amax, kType), words);
    tile.codes[2 * across][in_tile] = words[0] ^ kOffset;
    tile.codes[2 * across + 1][in_tile] = words[1] ^ kOffset;
  }
}

template <DType kType, Packing kPacking>
__global__ void __launch_bounds__(kBlockThreads) CodeWords(const Arguments a) {
  __shared__ Tile tile;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.y) * kTile;
  MakeCodes<kType>(a, first_row, first_column, tile);
  __syncthreads();
  auto* codes = static_cast<std::uint32_t*>(a.codes);
  if (codes != nullptr && kPacking == Packing::kWordsRows) {
    const std::int64_t row = first_row + threadIdx.x % kTile;
#pragma unroll
    for (int i = 0; i < kWords * kTile / kBlockThreads; ++i) {
      const int word = static_cast<int>(threadIdx.x / kTile) + i * (kBlockThreads / kTile);
      const std::int64_t down = first_column / 8 + word;
      if (row < a.rows && down < a.columns / 8) {
        codes[down * a.rows + row] = tile.codes[word][threadIdx.x % kTile];
      }
    }
  } else if (codes != nullptr) {
    const int strip = static_cast<int>(threadIdx.x % (kTile / 8));
    const int word = static_cast<int>(threadIdx.x / (kTile / 8));
    std::uint32_t rows[8];
    std::uint32_t columns[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      rows[i] = tile.codes[word][8 * strip + i];
    }
    TurnAround(rows, columns);
    const std::int64_t column = first_column + 8 * word;
    if (first_row + 8 * strip < a.rows && column < a.columns) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        codes[(column + i) * (a.rows / 8) + first_row / 8 + strip] = columns[i];
      }
    }
  }
  if (!a.scales_given) {
    const int groups = kAcross >> a.shift;
    for (int i = static_cast<int>(threadIdx.x); i < groups * kTile; i += kBlockThreads) {
      const std::int64_t row = first_row + i % kTile;
      const std::int64_t group = (first_column / kVector >> a.shift) + i / kTile;
      if (row < a.rows && group < a.columns / kVector >> a.shift) {
        StoreScale(a.scales, group * a.rows + row, tile.scales[i / kTile][i % kTile], a.coding.scale_dtype);
      }
    }
  }
}

}  // namespace

bool LaunchWords(const DeviceJob& job, bool scales_given, cudaStream_t stream) {
  const Coding& coding = job.coding;
  const DeviceValues& values = job.values;
  const bool packed = PacksColumns(coding.packing);
  int shift = 0;
  while (kVector << shift < coding.group) {
    ++shift;
  }
  const bool by_rule = job.amaxes == nullptr && coding.search == ScaleSearch::kAmax;
  const dim3 grid(static_cast<unsigned>(CeilingOf(values.rows, kTile)),
                  static_cast<unsigned>(CeilingOf(values.columns, kTile)));
  if (!packed || coding.element != Element::kInt4 || coding.sharing != Sharing::kGroup ||
      coding.rule != ScaleRule::kAmax || coding.group != kVector << shift || coding.group > kTile ||
      (!scales_given && !by_rule) || CeilingOf(values.rows, kTile) > 0x7FFFFFFF ||
      CeilingOf(values.columns, kTile) > 0xFFFF) {
    return false;
  }
  const Arguments arguments{values.data, values.rows, values.columns, coding,      RuleDivisorsOf(coding, 1),
                            job.codes,   job.scales,  shift,          scales_given};
  WithValueType(values.dtype, [&]<DType kType>() {
    if (coding.packing == Packing::kWordsRows) {
      CodeWords<kType, Packing::kWordsRows><<<grid, kBlockThreads, 0, stream>>>(arguments);
    } else {
      CodeWords<kType, Packing::kWordsColumns><<<grid, kBlockThreads, 0, stream>>>(arguments);
    }
  });
  return true;
}

}  // namespace slipway::engine
