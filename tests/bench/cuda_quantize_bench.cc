// Quantization on a GPU: how near its kernels come to the bandwidth of a copy of as many bytes, and how near whole
// calls of several threads come to the rate at which the values reach the GPU. cuda_quantize_bench [GPU]
#include <cstdio>
#include <cstdlib>

#ifdef SLIPWAY_HAVE_CUDA

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/cuda_bench_kernels.h"
#include "tests/worker/engine/quantize/codings.h"
#include "worker/engine/quantize/cuda/cuda_quantizer.h"
#include "worker/engine/quantize/cuda/kernels.h"
#include "worker/engine/quantize/cuda/pinned_memory.h"

namespace slipway::bench {
namespace {

using engine::Coding;
using engine::DeviceJob;
using engine::DType;

constexpr int kLaunches = 10;  // timed together
constexpr int kRounds = 9;     // of which the median counts
constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;

void Check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    std::exit(1);
  }
}

void* Allocate(std::int64_t bytes) {
  void* address = nullptr;
  Check(cudaMalloc(&address, static_cast<std::size_t>(bytes)), "cudaMalloc");
  return address;
}

// Seconds of one launch.
double SecondsOf(cudaStream_t stream, const std::function<void()>& launch) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  Check(cudaEventCreate(&begin), "event");
  Check(cudaEventCreate(&end), "event");
  std::vector<double> seconds;
  for (int round = -2; round < kRounds; ++round) {  // the first two warm up
    Check(cudaEventRecord(begin, stream), "record");
    for (int i = 0; i < kLaunches; ++i) {
      launch();
    }
    Check(cudaEventRecord(end, stream), "record");
    Check(cudaEventSynchronize(end), "kernel");
    Check(cudaGetLastError(), "launch");
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, begin, end), "elapsed");
    if (round >= 0) {
      seconds.push_back(milliseconds / 1e3 / kLaunches);
    }
  }
  std::ranges::sort(seconds);
  Check(cudaEventDestroy(begin), "event");
  Check(cudaEventDestroy(end), "event");
  return seconds[seconds.size() / 2];
}

struct Format {
  const char* name;
  Coding coding;
};

std::vector<Format> Formats() {
  using namespace slipway::test;  // codings.h
  Coding int4_pairs = kInt4Words;
  int4_pairs.packing = engine::Packing::kNibblePairs;
  return {{"fp8 (tensor)", kFp8Tensor},
          {"fp8-per-channel", kFp8Row},
          {"fp8-block", kFp8Square},
          {"int8 (row)", kInt8Row},
          {"int4 rows g128", kInt4Rows},
          {"int4 words g128", kInt4Words},
          {"int4 pairs g128", int4_pairs},
          {"nvfp4", kNvfp4},
          {"nvfp4 reciprocal", kNvfp4Reciprocal},
          {"mxfp4", kMxfp4},
          {"mxfp8", kMxfp8},
          {"awq g32", kAwq},
          {"gptq g32", kGptq},
          {"nvfp4 searched", Searched(kNvfp4)},
          {"int4 searched", Searched(kInt4Words)}};
}

// One tensor in device memory, and all that kernels make of it.
class KernelBench {
 public:
  KernelBench(std::int64_t rows, std::int64_t columns) : rows_(rows), columns_(columns) {
    Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    values_ = Allocate(value_bytes());
    codes_ = Allocate(value_bytes());
    scales_ = Allocate(value_bytes() / 2);
    statistics_ = Allocate(rows_ * std::int64_t{sizeof(engine::DeviceRowStatistics)});
    measured_ = Allocate(256);
    Check(LaunchFill(values_, rows_ * columns_, 1, stream_), "fill");
    Check(cudaMemset(measured_, 0, 256), "memset");
  }
  KernelBench(const KernelBench&) = delete;
  KernelBench& operator=(const KernelBench&) = delete;
  ~KernelBench() {
    for (void* address : {values_, codes_, scales_, statistics_, measured_}) {
      cudaFree(address);
    }
    cudaStreamDestroy(stream_);
  }

  void Run() {
    std::printf("\n%lld x %lld BF16 in device memory, GB/s of bytes read and written\n", static_cast<long long>(rows_),
                static_cast<long long>(columns_));
    std::printf("%-20s %10s %10s %7s %14s\n", "kernel", "GB/s", "copy GB/s", "ratio", "with statistics");
    const double read = Rate(value_bytes(), [&] {
      Check(LaunchRead(values_, value_bytes(), static_cast<std::uint32_t*>(measured_) + 16, stream_), "read");
    });
    const double memcpy_rate = Rate(2 * value_bytes(), [&] {
      Check(
          cudaMemcpyAsync(codes_, values_, static_cast<std::size_t>(value_bytes()), cudaMemcpyDeviceToDevice, stream_),
          "memcpy");
    });
    std::printf("%-20s %10.0f %10s\n", "cudaMemcpy", memcpy_rate, "");
    const double measure = Rate(value_bytes(), [&] {
      Check(engine::LaunchMeasure(values(), 0, static_cast<engine::DeviceMeasured*>(measured_), stream_), "measure");
    });
    std::printf("%-20s %10.0f %10.0f %6.1f%% (against a read)\n", "measure", measure, read, 100 * measure / read);
    for (const Format& format : Formats()) {
      RunFormat(format);
    }
  }

 private:
  [[nodiscard]] std::int64_t value_bytes() const { return 2 * rows_ * columns_; }
  [[nodiscard]] engine::DeviceValues values() const {
    return {.dtype = DType::kBF16, .data = values_, .rows = rows_, .columns = columns_};
  }

  double Rate(std::int64_t bytes, const std::function<void()>& launch) {
    return static_cast<double>(bytes) / SecondsOf(stream_, launch) / 1e9;
  }

  void RunFormat(const Format& format) {
    const Coding& coding = format.coding;
    DeviceJob job{.coding = coding,
                  .values = values(),
                  .tensor_scale = TensorScale(coding, 0.07F),
                  .codes = codes_,
                  .scales = scales_};
    const std::int64_t bytes = value_bytes() + CodeBytes(coding, rows_, columns_) +
                               ScaleCount(coding, rows_, columns_) * engine::InfoOf(coding.scale_dtype).bytes;
    const std::int64_t half = std::min(bytes / 2 / 32 * 32, value_bytes());
    const double copy = Rate(2 * half, [&] { Check(LaunchCopy(values_, codes_, half, stream_), "copy"); });
    const double rate = Rate(bytes, [&] { Check(LaunchQuantize(job, stream_), format.name); });
    job.statistics = static_cast<engine::DeviceRowStatistics*>(statistics_);
    const double with_statistics = Rate(bytes, [&] { Check(LaunchQuantize(job, stream_), format.name); });
    std::printf("%-20s %10.0f %10.0f %6.1f%% %14.0f\n", format.name, rate, copy, 100 * rate / copy, with_statistics);
  }

  std::int64_t rows_;
  std::int64_t columns_;
  cudaStream_t stream_ = nullptr;
  void* values_ = nullptr;
  void* codes_ = nullptr;
  void* scales_ = nullptr;
  void* statistics_ = nullptr;
  void* measured_ = nullptr;
};

// GB/s of copies from pinned memory, which no call can exceed.
double UploadRate() {
  constexpr std::int64_t kBytes = 256 * kMebibyte;
  const auto host = engine::PinnedMemory::Allocate(kBytes);
  if (!host.ok()) {
    Check(cudaErrorMemoryAllocation, "pinned memory");
  }
  std::memset(host->bytes().data(), 1, host->bytes().size());
  void* device = Allocate(kBytes);
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  const double seconds = SecondsOf(stream, [&] {
    Check(cudaMemcpyAsync(device, host->bytes().data(), host->bytes().size(), cudaMemcpyHostToDevice, stream), "copy");
  });
  cudaStreamDestroy(stream);
  cudaFree(device);
  return static_cast<double>(kBytes) / seconds / 1e9;
}

// Host memory of one thread's band, pinned or not.
struct Band {
  engine::PinnedMemory pinned;
  std::vector<std::byte> plain;
  std::span<std::byte> bytes;

  Band(std::int64_t size, bool pin) {
    if (pin) {
      pinned = *engine::PinnedMemory::Allocate(size);
      bytes = pinned.bytes();
    } else {
      plain.resize(static_cast<std::size_t>(size));
      bytes = plain;
    }
  }
};

// GB/s of values through whole calls of `threads` threads.
double CallRate(engine::Quantizer& quantizer, const Coding& coding, int threads, bool pinned, bool statistics) {
  constexpr std::int64_t kRows = 1024;
  constexpr std::int64_t kColumns = 8192;  // 16 MiB
  constexpr int kCalls = 40;
  std::vector<std::thread> running;
  std::vector<Band> values;
  std::vector<Band> codes;
  for (int i = 0; i < threads; ++i) {
    values.emplace_back(2 * kRows * kColumns, pinned);
    codes.emplace_back(CodeBytes(coding, kRows, kColumns), pinned);
    auto* bits = reinterpret_cast<std::uint16_t*>(values.back().bytes.data());
    for (std::int64_t j = 0; j < kRows * kColumns; ++j) {
      bits[j] = static_cast<std::uint16_t>(0x3C00 + (j * 2654435761U >> 7) % 512 + (j % 2) * 0x8000);
    }
  }
  const auto call_all = [&](int calls) {
    running.clear();
    for (int i = 0; i < threads; ++i) {
      running.emplace_back([&, i] {
        std::vector<std::byte> scales(static_cast<std::size_t>(4 * ScaleCount(coding, kRows, kColumns)));
        std::vector<engine::RowStatistics> rows(statistics ? kRows : 0);
        for (int call = 0; call < calls; ++call) {
          const absl::Status status =
              quantizer.Quantize({.coding = coding,
                                  .values = {.dtype = DType::kBF16,
                                             .bytes = values[static_cast<std::size_t>(i)].bytes,
                                             .rows = kRows,
                                             .columns = kColumns},
                                  .tensor_scale = 1e-4F,
                                  .codes = codes[static_cast<std::size_t>(i)].bytes,
                                  .scales = std::span(scales).first(static_cast<std::size_t>(
                                      ScaleCount(coding, kRows, kColumns) * engine::InfoOf(coding.scale_dtype).bytes)),
                                  .statistics = rows});
          if (!status.ok()) {
            std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
            std::exit(1);
          }
        }
      });
    }
    for (std::thread& thread : running) {
      thread.join();
    }
  };
  call_all(4);
  const auto begin = std::chrono::steady_clock::now();
  call_all(kCalls);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  return 2.0 * kRows * kColumns * kCalls * threads / seconds.count() / 1e9;
}

void RunCalls(int device) {
  using namespace slipway::test;  // codings.h
  const double upload = UploadRate();
  const auto quantizer = engine::MakeCudaQuantizer(device, 1024 * kMebibyte);
  if (!quantizer.ok()) {
    std::fprintf(stderr, "%s\n", std::string(quantizer.status().message()).c_str());
    std::exit(1);
  }
  std::printf("\nwhole calls, 1024 x 8192 BF16 each: GB/s of values, and of the upload rate (%.1f GB/s)\n", upload);
  std::printf("%-16s %8s %18s %18s %22s\n", "format", "threads", "pinned", "not pinned", "pinned, statistics");
  for (const Format& format :
       {Format{"fp8 (tensor)", kFp8Tensor}, Format{"fp8-block", kFp8Square}, Format{"nvfp4", kNvfp4}}) {
    for (const int threads : {1, 2, 4, 8}) {
      const double pinned = CallRate(**quantizer, format.coding, threads, true, false);
      const double plain = CallRate(**quantizer, format.coding, threads, false, false);
      const double statistics = CallRate(**quantizer, format.coding, threads, true, true);
      std::printf("%-16s %8d %10.1f (%4.1f%%) %10.1f (%4.1f%%) %14.1f (%4.1f%%)\n", format.name, threads, pinned,
                  100 * pinned / upload, plain, 100 * plain / upload, statistics, 100 * statistics / upload);
    }
  }
}

}  // namespace
}  // namespace slipway::bench

int main(int argc, char** argv) {
  using namespace slipway::bench;
  const int device = argc > 1 ? std::atoi(argv[1]) : 0;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || device >= count) {
    std::printf("skipped: no GPU\n");
    return 0;
  }
  cudaDeviceProp properties{};
  Check(cudaGetDeviceProperties(&properties, device), "properties");
  Check(cudaSetDevice(device), "device");
  std::printf("%s, %d multiprocessors, %d MiB of L2\n", properties.name, properties.multiProcessorCount,
              properties.l2CacheSize >> 20);
  KernelBench(8192, 8192).Run();
  KernelBench(28672, 8192).Run();
  KernelBench(8192, 28672).Run();
  RunCalls(device);
  return 0;
}

#else

int main() {
  std::puts("skipped: built without CUDA");
  return 0;
}

#endif
