// How fast and in how much memory the index of a very large checkpoint is read: writes a ".metadata" of N blocks as
// torch.distributed.checkpoint pickles it (protocol 4, every value memoized), reads it as a worker does, and prints
// seconds and the peak resident size of the reading process.
//
//   metadata_bench [BLOCKS] [BLOCKS_A_TENSOR]
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "tests/support/dist_index_writer.h"
#include "worker/engine/checkpoint/dist_index.h"
#include "worker/engine/storage/source.h"

namespace {

std::string MakeMetadata(std::int64_t blocks, std::int64_t per_tensor) {
  constexpr std::int64_t kBlockBytes = 8'390'000;
  constexpr std::int64_t kFiles = 64;
  std::vector<slipway::test::IndexedEntry> entries;
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t within = block % per_tensor;
    if (within == 0) {
      entries.push_back({.name = fmt::format("decoder.layers.mlp.experts.experts.{}.linear_fc1.weight", entries.size()),
                         .dtype = "bfloat16",
                         .shape = {std::min(per_tensor, blocks - block), 4096, 1024},
                         .blocks = {}});
    }
    entries.back().blocks.push_back({.offsets = {within, 0, 0},
                                     .sizes = {1, 4096, 1024},
                                     .file = fmt::format("__{}_0.distcp", block % kFiles),
                                     .position = block / kFiles * kBlockBytes,
                                     .length = kBlockBytes});
  }
  return slipway::test::DistIndexWriter().Write(entries);
}

int Read(const std::string& directory) {
  using namespace slipway::engine;
  const auto start = std::chrono::steady_clock::now();
  const auto source = OpenLocalDirectory(directory);
  const auto file = (*source)->Open(".metadata");
  auto window = (*file)->Map(0, (*file)->size());
  const auto index = DistIndex::Read(*std::move(window), ".metadata");
  if (!index.ok()) {
    fmt::print(stderr, "{}\n", slipway::Describe(index.status()));
    return EXIT_FAILURE;
  }
  std::size_t blocks = 0;
  for (const DistEntry& entry : (*index)->entries()) {
    const auto of_entry = (*index)->Blocks(entry);
    blocks += of_entry.ok() ? of_entry->size() : 0;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto processor = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  fmt::print("{} blocks of {} tensors, {:.1f} MB: {:.2f} s ({:.2f} s of processor), peak resident size {} MiB\n",
             blocks, (*index)->entries().size(), static_cast<double>((*file)->size()) / 1e6, seconds.count(),
             processor(usage.ru_utime) + processor(usage.ru_stime), usage.ru_maxrss / 1024);
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "--read") {
    return Read(argv[2]);
  }
  const std::int64_t blocks = argc > 1 ? std::atoll(argv[1]) : 1'000'000;
  const std::int64_t per_tensor = argc > 2 ? std::atoll(argv[2]) : 64;
  char directory[] = "/tmp/metadata_bench.XXXXXX";
  if (::mkdtemp(directory) == nullptr || blocks < 1 || per_tensor < 1) {
    return EXIT_FAILURE;
  }
  const std::string file = fmt::format("{}/.metadata", directory);
  std::ofstream(file, std::ios::binary) << MakeMetadata(blocks, per_tensor);
  const pid_t child = ::fork();
  if (child == 0) {  // a process of its own: the peak is the reader's
    ::execl("/proc/self/exe", argv[0], "--read", directory, nullptr);
    ::_exit(EXIT_FAILURE);
  }
  int status = EXIT_FAILURE;
  ::waitpid(child, &status, 0);
  ::unlink(file.c_str());
  ::rmdir(directory);
  return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}
