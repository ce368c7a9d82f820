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
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "worker/engine/checkpoint/dist_index.h"
#include "worker/engine/storage/source.h"

namespace {

constexpr std::string_view kMetadataModule = "torch.distributed.checkpoint.metadata";

// Writes what Python's pickler writes: each value is followed by MEMOIZE, each repeated text or class is fetched.
class PickleWriter {
 public:
  PickleWriter() { bytes_ = "\x80\x04"; }

  void Raw(std::string_view bytes) { bytes_ += bytes; }
  void Memoize() {
    bytes_ += '\x94';
    ++memo_;
  }
  void Get(std::uint32_t number) {
    if (number < 256) {
      bytes_ += 'h';
      bytes_ += static_cast<char>(number);
    } else {
      bytes_ += 'j';
      Little(number, 4);
    }
  }
  void Text(std::string_view text) {
    const auto [known, is_new] = texts_.emplace(std::string(text), memo_);
    if (!is_new) {
      Get(known->second);
      return;
    }
    bytes_ += '\x8c';
    bytes_ += static_cast<char>(text.size());
    bytes_ += text;
    Memoize();
  }
  void Class(std::string_view module, std::string_view name) {
    const std::string key = fmt::format("{}.{}", module, name);
    if (const auto known = classes_.find(key); known != classes_.end()) {
      Get(known->second);
      return;
    }
    Text(module);
    Text(name);
    bytes_ += '\x93';
    classes_.emplace(key, memo_);
    Memoize();
  }
  void Integer(std::int64_t value) {
    if (value < 256) {
      bytes_ += 'K';
      Little(value, 1);
    } else if (value < 65536) {
      bytes_ += 'M';
      Little(value, 2);
    } else if (value < (std::int64_t{1} << 31)) {
      bytes_ += 'J';
      Little(value, 4);
    } else {
      bytes_ += "\x8a\x08";
      Little(value, 8);
    }
  }
  // torch.Size of three numbers.
  void Size(std::int64_t a, std::int64_t b, std::int64_t c) {
    Class("torch", "Size");
    Integer(a);
    Integer(b);
    Integer(c);
    bytes_ += '\x87';
    Memoize();
    bytes_ += '\x85';
    Memoize();
    bytes_ += 'R';
    Memoize();
  }
  // A dataclass up to its first field; EndObject() closes it.
  void BeginObject(std::string_view module, std::string_view name) {
    Class(module, name);
    bytes_ += ")\x81";
    Memoize();
    bytes_ += '}';
    Memoize();
    bytes_ += '(';
  }
  void EndObject() { bytes_ += "ub"; }

  [[nodiscard]] std::string& bytes() { return bytes_; }

 private:
  void Little(std::int64_t value, int size) {
    for (int i = 0; i < size; ++i) {
      bytes_ += static_cast<char>((value >> (8 * i)) & 0xff);
    }
  }

  std::string bytes_;
  std::uint32_t memo_ = 0;
  std::map<std::string, std::uint32_t, std::less<>> texts_;
  std::map<std::string, std::uint32_t, std::less<>> classes_;
};

constexpr int kBatch = 1000;  // Python pickles containers in batches of this many

void WriteTensor(PickleWriter& out, const std::string& name, std::int64_t blocks) {
  out.Text(name);
  out.BeginObject(kMetadataModule, "TensorStorageMetadata");
  out.Text("properties");
  out.Class(kMetadataModule, "TensorProperties");
  out.Raw(")\x81");
  out.Memoize();
  out.Raw("(");
  out.Class("torch", "bfloat16");
  out.Class("torch", "strided");
  out.Raw("\x89");
  out.Class(kMetadataModule, "_MEM_FORMAT_ENCODING");
  out.Raw(std::string_view("K\0\x85", 3));
  out.Memoize();
  out.Raw("R");
  out.Memoize();
  out.Raw("\x89t");
  out.Memoize();
  out.Raw("b");
  out.Text("size");
  out.Size(blocks, 4096, 1024);
  out.Text("chunks");
  out.Raw("]");
  out.Memoize();
  for (std::int64_t i = 0; i < blocks; ++i) {
    if (i % kBatch == 0) {
      out.Raw("(");
    }
    out.BeginObject(kMetadataModule, "ChunkStorageMetadata");
    out.Text("offsets");
    out.Size(i, 0, 0);
    out.Text("sizes");
    out.Size(1, 4096, 1024);
    out.EndObject();
    if (i % kBatch == kBatch - 1 || i + 1 == blocks) {
      out.Raw("e");
    }
  }
  out.EndObject();
}

void WriteStorage(PickleWriter& out, const std::string& name, std::int64_t block, std::int64_t number) {
  constexpr std::int64_t kBlockBytes = 8'390'000;
  constexpr std::int64_t kFiles = 64;
  out.BeginObject(kMetadataModule, "MetadataIndex");
  out.Text("fqn");
  out.Text(name);
  out.Text("index");
  out.Raw("N");
  out.Text("offset");
  out.Size(block, 0, 0);
  out.EndObject();
  out.BeginObject("torch.distributed.checkpoint.filesystem", "_StorageInfo");
  out.Text("relative_path");
  out.Text(fmt::format("__{}_0.distcp", number % kFiles));
  out.Text("offset");
  out.Integer(number / kFiles * kBlockBytes);
  out.Text("length");
  out.Integer(kBlockBytes);
  out.EndObject();
}

std::string MakeMetadata(std::int64_t blocks, std::int64_t per_tensor) {
  PickleWriter out;
  out.BeginObject(kMetadataModule, "Metadata");
  out.Text("state_dict_metadata");
  out.Raw("}");
  out.Memoize();
  const auto name_of = [](std::int64_t tensor) {
    return fmt::format("decoder.layers.mlp.experts.experts.{}.linear_fc1.weight", tensor);
  };
  const std::int64_t tensors = (blocks + per_tensor - 1) / per_tensor;
  for (std::int64_t tensor = 0; tensor < tensors; ++tensor) {
    out.Raw(tensor % kBatch == 0 ? "(" : "");
    WriteTensor(out, name_of(tensor), std::min(per_tensor, blocks - tensor * per_tensor));
    out.Raw(tensor % kBatch == kBatch - 1 || tensor + 1 == tensors ? "u" : "");
  }
  out.Text("planner_data");
  out.Raw("N");
  out.Text("storage_data");
  out.Raw("}");
  out.Memoize();
  for (std::int64_t i = 0; i < blocks; ++i) {
    out.Raw(i % kBatch == 0 ? "(" : "");
    WriteStorage(out, name_of(i / per_tensor), i % per_tensor, i);
    out.Raw(i % kBatch == kBatch - 1 || i + 1 == blocks ? "u" : "");
  }
  out.EndObject();
  out.Raw(".");
  return std::move(out.bytes());
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
