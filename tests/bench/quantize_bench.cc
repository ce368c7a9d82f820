// How fast one thread quantizes: bands of BF16 that fit the second-level cache, by the reference and by vector code,
// beside memcpy of the same bytes. Prints GB of input a second, the best of several rounds.
//
//   quantize_bench [NAME]      codings whose name has NAME in it
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "worker/engine/quantize/reference.h"
#include "worker/engine/quantize/simd.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kElements = std::int64_t{1} << 18;

struct Case {
  std::string_view name;
  std::int64_t columns;
  Coding coding;
};

const std::vector<Case>& Cases() {
  using enum Element;
  using enum Packing;
  using enum ScaleRule;
  constexpr auto kSearched = ScaleSearch::kSquaredError;
  const auto group = [](Element element, std::int32_t size, float bound, DType scale, Packing packing,
                        ScaleRule rule = kAmax, ScaleSearch search = ScaleSearch::kAmax) {
    return Coding{element, Sharing::kGroup, size, rule, bound, scale, packing, search};
  };
  static const std::vector<Case> cases = {
      {"fp8 tensor", 4096, {}},
      {"fp8 row", 4096, {.sharing = Sharing::kRow}},
      {"fp8 row searched", 4096, {.sharing = Sharing::kRow, .search = kSearched}},
      {"fp8 square 128", 2048, {.sharing = Sharing::kSquare, .group = 128}},
      {"mxfp8", 4096, group(kE4M3, 32, 448, DType::kU8, kBytes, kPowerOfTwo)},
      {"nvfp4", 4096, group(kE2M1, 16, 6, DType::kF8E4M3, kNibblePairs, kTwoLevel)},
      {"nvfp4 reciprocal", 4096, group(kE2M1, 16, 6, DType::kF8E4M3, kNibblePairs, kTwoLevelReciprocal)},
      {"nvfp4 searched", 4096, group(kE2M1, 16, 6, DType::kF8E4M3, kNibblePairs, kTwoLevel, kSearched)},
      {"mxfp4", 4096, group(kE2M1, 32, 6, DType::kU8, kNibblePairs, kPowerOfTwo)},
      {"int8 row bytes", 4096, {.element = kInt8, .sharing = Sharing::kRow, .bound = 127}},
      {"int8 row words", 4096, {.element = kInt8, .sharing = Sharing::kRow, .bound = 127, .packing = kWords}},
      {"int4 nibble rows", 4096, group(kInt4, 128, 7, DType::kF32, kNibbleRows)},
      {"int4 words", 4096, group(kInt4, 128, 7.5, DType::kBF16, kWords)},
      {"int4 words searched", 4096, group(kInt4, 128, 7.5, DType::kBF16, kWords, kAmax, kSearched)},
      {"int4 awq", 128, group(kInt4, 128, 7, DType::kF16, kWordsColumns)},
      {"int4 gptq", 128, group(kInt4, 128, 7, DType::kF16, kWordsRows)},
  };
  return cases;
}

// Seconds of the fastest of some rounds, about `budget` seconds of them.
template <class Work>
double Best(double budget, const Work& work) {
  double best = 1e9;
  double sum = 0;
  for (int round = 0; round < 3 || sum < budget; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::min(best, seconds);
    sum += seconds;
  }
  return best;
}

double Gigabytes(std::size_t bytes, double seconds) { return static_cast<double>(bytes) / seconds / 1e9; }

std::vector<std::byte> Weights(std::size_t size) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02F);
  std::vector<std::byte> bytes(static_cast<std::size_t>(kElements) * 4);
  for (std::size_t i = 0; i < static_cast<std::size_t>(kElements); ++i) {
    const float value = normal(random);
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    bits = size == 4 ? bits : bits >> 16;
    std::memcpy(bytes.data() + i * size, &bits, size);
  }
  bytes.resize(static_cast<std::size_t>(kElements) * size);
  return bytes;
}

void MeasureAll(Quantizer& reference, Quantizer& simd) {
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    const std::vector<std::byte> bytes = Weights(static_cast<std::size_t>(InfoOf(dtype).bytes));
    const Values values{.dtype = dtype, .bytes = bytes, .rows = kElements / 4096, .columns = 4096};
    const double slow = Best(0.02, [&] { (void)reference.Measure(values); });
    const double fast = Best(0.1, [&] { (void)simd.Measure(values); });
    std::cout << fmt::format("measure {:20} {:9.3f} {:8.2f}\n", InfoOf(dtype).safetensors_name,
                             Gigabytes(bytes.size(), slow), Gigabytes(bytes.size(), fast));
  }
}

void Run(std::string_view wanted) {
  const auto reference = MakeReferenceQuantizer();
  const auto simd = MakeSimdQuantizer();
  std::cout << fmt::format("{} and {}; GB of input a second\n{:28} {:>9} {:>8} {:>10} {:>8} {:>10} {:>8} {:>8}\n",
                           reference->name(), simd->name(), "", "reference", "codes", "+statist.", "scales",
                           "statist. %", "memcpy", "of it");
  MeasureAll(*reference, *simd);
  const std::vector<std::byte> bytes = Weights(2);
  std::vector<std::byte> copy(bytes.size());
  for (const auto& [name, columns, coding] : Cases()) {
    if (name.find(wanted) == std::string_view::npos) {
      continue;
    }
    const std::int64_t rows = kElements / columns;
    std::vector<std::byte> codes(static_cast<std::size_t>(CodeBytes(coding, rows, columns)));
    std::vector<std::byte> scales(static_cast<std::size_t>(ScaleCount(coding, rows, columns)) * 4);
    std::vector<RowStatistics> statistics(static_cast<std::size_t>(rows));
    QuantizeJob job;
    job.coding = coding;
    job.values = {.dtype = DType::kBF16, .bytes = bytes, .rows = rows, .columns = columns};
    job.tensor_scale = TensorScale(coding, 0.09F);
    job.codes = codes;
    job.scales = scales;
    const auto speed = [&](Quantizer& quantizer, double budget) {
      return Gigabytes(bytes.size(), Best(budget, [&] { (void)quantizer.Quantize(job); }));
    };
    const double slow = speed(*reference, 0.02);
    const double fast = speed(*simd, 0.2);
    job.statistics = statistics;
    const double judged = speed(*simd, 0.2);
    job.statistics = {};
    job.codes = {};
    const double scales_only = scales.empty() ? 0 : speed(*simd, 0.1);
    const double copied =
        Gigabytes(bytes.size(), Best(0.05, [&] { std::memcpy(copy.data(), bytes.data(), bytes.size()); }));
    std::cout << fmt::format("{:28} {:9.3f} {:8.2f} {:10.2f} {:8.2f} {:9.0f}% {:8.2f} {:8.2f}\n", name, slow, fast,
                             judged, scales_only, 100 * (fast / judged - 1), copied, fast / copied);
  }
}

}  // namespace
}  // namespace slipway::engine

int main(int argc, char** argv) {
  slipway::engine::Run(argc > 1 ? argv[1] : "");
  return 0;
}
