// What permuting axes costs: the weights of experts, written as they are and with their matrices transposed or
// interleaved, from and to files in the page cache, without digests. Prints one line a case.
//
//   permutation_bench DIRECTORY [EXPERTS [THREADS]]
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/run/publication.h"
#include "worker/engine/run/shard_writer.h"
#include "worker/engine/run/staging.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kRows = 5760;
constexpr std::int64_t kColumns = 2880;

template <class T>
T Value(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::cerr << Describe(value.status()) << '\n';
    std::exit(1);
  }
  return *std::move(value);
}

std::shared_ptr<ExportPlan> PlanOf(const std::string& directory, std::int64_t experts, AxisPermutation permutation) {
  auto checkpoint = std::make_shared<Checkpoint>();
  const std::int64_t bytes = experts * kRows * kColumns * 2;
  std::shared_ptr<SourceDirectory> opened = Value(OpenLocalDirectory(directory));
  std::shared_ptr<const SourceFile> file = Value(opened->Open("weights"));
  const Shape shape{experts, kRows, kColumns};
  const Piece piece{.offsets = {0, 0, 0}, .sizes = shape, .strides = {}, .length = bytes};
  checkpoint->tensors.push_back({.name = "experts", .dtype = DType::kBF16, .shape = shape, .pieces = {piece}});
  checkpoint->files.push_back({.name = "weights", .identity = file->identity(), .file = file});
  checkpoint->path = directory;
  auto plan = std::make_shared<ExportPlan>();
  plan->options.digest = DigestAlgorithm::kNone;
  plan->checkpoint = checkpoint;
  plan->tensors.push_back({.name = "experts",
                           .shape = shape,
                           .regions = {{.tensor = 0, .offsets = {0, 0, 0}, .sizes = shape}},
                           .permutation = std::move(permutation),
                           .transform = {},
                           .scales = {},
                           .update = {},
                           .column_factors = {},
                           .quantized = {},
                           .bytes = bytes});
  plan->shards.push_back({.file = "model.safetensors", .header = {}, .bytes = bytes, .tensor_count = 1});
  plan->hash = plan->output_hash = std::string(64, 'a');
  return plan;
}

double Seconds(ExportPlan& plan, const std::string& directory, int threads) {
  MemoryBudget memory(std::int64_t{256} << 20);
  const RunResources resources{
      .files = &PosixFileSystem(Durability::kPageCache), .memory = &memory, .threads = threads};
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const std::string staging = Value(PrepareStaging(plan, directory + "/out", false, PosixFileSystem()));
    const auto begin = std::chrono::steady_clock::now();
    Value(WriteShard(plan, 0, staging, "a", resources, {}));
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    std::filesystem::remove_all(staging);
  }
  return best;
}

void Run(const std::string& directory, std::int64_t experts, int threads) {
  std::filesystem::create_directories(directory);
  {
    std::ofstream out(directory + "/weights", std::ios::binary);
    std::string row(kColumns * 2, '\0');
    for (std::int64_t i = 0; i < experts * kRows; ++i) {
      std::ranges::generate(row, [state = static_cast<std::uint32_t>(i)]() mutable {
        state = state * 1664525 + 1013904223;
        return static_cast<char>(state >> 24);
      });
      out << row;
    }
  }
  const std::vector<std::pair<std::string, AxisPermutation>> cases = {
      {"copied", {}},
      {"transposed", {.view = {experts, kRows, kColumns}, .order = {0, 2, 1}}},
      {"interleaved", {.view = {experts, 2, kRows / 2, kColumns}, .order = {0, 3, 2, 1}}},
      {"grouped heads", {.view = {experts * kRows / 192, 3, 64, kColumns}, .order = {3, 1, 0, 2}}},
  };
  double copied = 0;
  for (const auto& [name, permutation] : cases) {
    const auto plan = PlanOf(directory, experts, permutation);
    const double seconds = Seconds(*plan, directory, threads);
    copied = copied == 0 ? seconds : copied;
    std::cout << fmt::format("{:14} {:7.1f} ms {:6.2f} GB/s {:5.2f} of a copy\n", name, seconds * 1e3,
                             static_cast<double>(plan->output_bytes + plan->shards[0].bytes) / seconds / 1e9,
                             seconds / copied);
  }
  std::filesystem::remove(directory + "/weights");
}

}  // namespace
}  // namespace slipway::engine

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: permutation_bench DIRECTORY [EXPERTS [THREADS]]\n";
    return 2;
  }
  slipway::engine::Run(argv[1], argc > 2 ? std::atoll(argv[2]) : 4, argc > 3 ? std::atoi(argv[3]) : 1);
  return 0;
}
