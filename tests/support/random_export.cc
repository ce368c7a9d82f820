#include "tests/support/random_export.h"

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp is not in <cstdlib>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/digest.h"
#include "tests/support/brute_force.h"
#include "worker/engine/storage/source.h"
#include "worker/engine/write/safetensors.h"

namespace slipway::test {
namespace {

using engine::DType;
using engine::Piece;
using engine::Shape;
using engine::SourceRegion;

constexpr int kFiles = 3;
constexpr std::size_t kElement = 2;

template <class T>
T Value(absl::StatusOr<T> value) {
  if (!value.ok()) {
    throw std::runtime_error(Describe(value.status()));
  }
  return *std::move(value);
}

std::int64_t Volume(const Shape& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), std::int64_t{1}, std::multiplies<>());
}

// All multi-indices of `sizes`, the last axis fastest.
std::vector<Shape> AllIndices(const Shape& sizes) {
  std::vector<Shape> indices;
  Shape index(sizes.size(), 0);
  for (std::int64_t i = 0; i < Volume(sizes); ++i) {
    indices.push_back(index);
    for (std::size_t axis = sizes.size(); axis-- > 0;) {
      if (++index[axis] < sizes[axis]) {
        break;
      }
      index[axis] = 0;
    }
  }
  return indices;
}

std::int64_t Linear(const Shape& index, const Shape& strides) {
  return std::inner_product(index.begin(), index.end(), strides.begin(), std::int64_t{0});
}

// Strides of a dense block whose axes lie in `order`, outermost first.
Shape StridesOf(const Shape& sizes, const std::vector<std::size_t>& order) {
  Shape strides(sizes.size(), 1);
  std::int64_t stride = 1;
  for (std::size_t i = order.size(); i-- > 0;) {
    strides[order[i]] = stride;
    stride *= sizes[order[i]];
  }
  return strides;
}

std::vector<std::size_t> Axes(std::size_t rank) {
  std::vector<std::size_t> axes(rank);
  std::iota(axes.begin(), axes.end(), std::size_t{0});
  return axes;
}

Shape Plus(const Shape& a, const Shape& b) {
  Shape sum = a;
  for (std::size_t axis = 0; axis < sum.size(); ++axis) {
    sum[axis] += b[axis];
  }
  return sum;
}

class Builder {
 public:
  Builder(std::string directory, const RandomExportOptions& options)
      : directory_(std::move(directory)),
        options_(options),
        random_(options.seed),
        random_axes_(options.seed),
        files_(kFiles) {}

  RandomExport Build() {
    auto checkpoint = std::make_shared<engine::Checkpoint>();
    for (int i = 0; i < options_.tensors; ++i) {
      checkpoint->tensors.push_back(MakeTensor(fmt::format("source.{}", i)));
    }
    std::filesystem::create_directories(directory_);
    auto opened = Value(engine::OpenLocalDirectory(directory_));
    for (int i = 0; i < kFiles; ++i) {
      const std::string name = fmt::format("data_{}", i);
      WriteFile(directory_ + "/" + name, files_[static_cast<std::size_t>(i)]);
      std::shared_ptr<const engine::SourceFile> file = Value(opened->Open(name));
      checkpoint->files.push_back({.name = name, .identity = file->identity(), .file = file});
    }
    checkpoint->path = directory_;
    checkpoint->arguments = std::make_shared<nlohmann::json>(nlohmann::json::object());
    checkpoint->directory = std::move(opened);
    checkpoint->root = checkpoint->directory;
    return MakePlan(std::move(checkpoint));
  }

 private:
  std::int64_t AxesBelow(std::int64_t end) {
    return std::uniform_int_distribution<std::int64_t>(0, end - 1)(random_axes_);
  }
  std::int64_t Below(std::int64_t end) { return std::uniform_int_distribution<std::int64_t>(0, end - 1)(random_); }

  std::string RandomBytes(std::size_t count) {
    std::string bytes(count, '\0');
    std::ranges::generate(bytes, [this] { return static_cast<char>(random_()); });
    return bytes;
  }

  // Cuts `size` at up to two places.
  std::vector<std::int64_t> Cuts(std::int64_t size) {
    std::vector<std::int64_t> cuts{0, size};
    for (std::int64_t i = Below(3); i > 0; --i) {
      cuts.push_back(Below(size));
    }
    std::ranges::sort(cuts);
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    return cuts;
  }

  engine::StoredTensor MakeTensor(const std::string& name) {
    engine::StoredTensor tensor{.name = name, .dtype = DType::kBF16, .shape = {}, .pieces = {}};
    for (std::int64_t rank = 1 + Below(3); rank > 0; --rank) {
      tensor.shape.push_back(1 + Below(options_.largest_extent));
    }
    contents_.push_back(RandomBytes(static_cast<std::size_t>(Volume(tensor.shape)) * kElement));
    std::vector<std::vector<std::int64_t>> cuts;
    Shape cells;
    for (const std::int64_t size : tensor.shape) {
      cuts.push_back(Cuts(size));
      cells.push_back(static_cast<std::int64_t>(cuts.back().size()) - 1);
    }
    for (const Shape& cell : AllIndices(cells)) {
      Piece piece;
      for (std::size_t axis = 0; axis < cell.size(); ++axis) {
        const auto at = static_cast<std::size_t>(cell[axis]);
        piece.offsets.push_back(cuts[axis][at]);
        piece.sizes.push_back(cuts[axis][at + 1] - cuts[axis][at]);
      }
      StorePiece(tensor, piece);
      tensor.pieces.push_back(piece);
    }
    return tensor;
  }

  // Appends the piece's elements to a file, now and then with its axes in another order.
  void StorePiece(const engine::StoredTensor& tensor, Piece& piece) {
    std::vector<std::size_t> order = Axes(piece.sizes.size());
    if (Below(4) == 0) {
      std::ranges::shuffle(order, random_);
      piece.strides = StridesOf(piece.sizes, order);
    }
    const Shape strides = StridesOf(piece.sizes, order);
    const Shape whole = StridesOf(tensor.shape, Axes(tensor.shape.size()));
    std::string bytes(static_cast<std::size_t>(Volume(piece.sizes)) * kElement, '\0');
    for (const Shape& index : AllIndices(piece.sizes)) {
      std::memcpy(
          bytes.data() + static_cast<std::size_t>(Linear(index, strides)) * kElement,
          contents_.back().data() + static_cast<std::size_t>(Linear(Plus(index, piece.offsets), whole)) * kElement,
          kElement);
    }
    piece.file = static_cast<std::int32_t>(Below(kFiles));
    std::string& file = files_[static_cast<std::size_t>(piece.file)];
    file += RandomBytes(static_cast<std::size_t>(Below(9000)));
    piece.position = static_cast<std::int64_t>(file.size());
    piece.length = static_cast<std::int64_t>(bytes.size());
    file += bytes;
  }

  std::vector<SourceRegion> RandomRegions(std::int32_t index, const Shape& shape) {
    std::vector<SourceRegion> regions;
    for (std::int64_t i = 1 + Below(3); i > 0; --i) {
      SourceRegion region{.tensor = index, .offsets = {}, .sizes = {}};
      for (const std::int64_t extent : shape) {
        const bool whole = Below(2) == 0;
        region.offsets.push_back(whole ? 0 : Below(extent));
        region.sizes.push_back(whole ? extent : 1 + Below(extent - region.offsets.back()));
      }
      regions.push_back(std::move(region));
    }
    return regions;
  }

  // Now and then the elements are seen as an array of up to four axes, and these are shuffled.
  engine::AxisPermutation RandomPermutation(std::int64_t elements) {
    engine::AxisPermutation permutation;
    if (AxesBelow(2) == 0) {
      return permutation;
    }
    for (std::int64_t axes = AxesBelow(4); axes > 0; --axes) {
      std::vector<std::int64_t> divisors;
      for (std::int64_t divisor = 1; divisor <= elements && divisor <= 200; ++divisor) {
        if (elements % divisor == 0) {
          divisors.push_back(divisor);
        }
      }
      permutation.view.push_back(
          divisors[static_cast<std::size_t>(AxesBelow(static_cast<std::int64_t>(divisors.size())))]);
      elements /= permutation.view.back();
    }
    permutation.view.push_back(elements);
    std::ranges::shuffle(permutation.view, random_axes_);
    for (std::size_t axis = 0; axis < permutation.view.size(); ++axis) {
      permutation.order.push_back(static_cast<std::uint8_t>(axis));
    }
    std::ranges::shuffle(permutation.order, random_axes_);
    return permutation;
  }

  std::string Assemble(const engine::Checkpoint& checkpoint, const std::vector<SourceRegion>& regions) {
    std::string bytes;
    for (const SourceRegion& region : regions) {
      const auto tensor = static_cast<std::size_t>(region.tensor);
      const Shape& shape = checkpoint.tensors[tensor].shape;
      const Shape strides = StridesOf(shape, Axes(shape.size()));
      for (const Shape& index : AllIndices(region.sizes)) {
        const std::int64_t element = Linear(Plus(index, region.offsets), strides);
        bytes += contents_[tensor].substr(static_cast<std::size_t>(element) * kElement, kElement);
      }
    }
    return bytes;
  }

  // Widening BF16 to F32 appends its bits to two zero bytes: no arithmetic to get wrong here.
  static std::string Widened(const std::string& bytes) {
    std::string wide;
    for (std::size_t i = 0; i < bytes.size(); i += kElement) {
      wide += std::string(2, '\0') + bytes.substr(i, kElement);
    }
    return wide;
  }

  // No signalling NaNs: widening makes them quiet.
  static bool HasNan(const std::string& bytes) {
    for (std::size_t i = 0; i < bytes.size(); i += kElement) {
      std::uint16_t bits = 0;
      std::memcpy(&bits, bytes.data() + i, kElement);
      if ((bits & 0x7FFF) > 0x7F80) {
        return true;
      }
    }
    return false;
  }

  RandomExport MakePlan(std::shared_ptr<engine::Checkpoint> checkpoint) {
    RandomExport made{.plan = std::make_shared<engine::ExportPlan>(), .expected = {}};
    engine::ExportPlan& plan = *made.plan;
    plan.options.digest = options_.digest;
    plan.architecture = "LlamaForCausalLM";
    plan.texts = {{"config.json", "{\"a\": 1}\n"}, {"generation_config.json", "{}\n"}};
    for (int i = 0; i < options_.shards; ++i) {
      made.expected.push_back(AddShard(plan, *checkpoint, i));
    }
    plan.checkpoint = std::move(checkpoint);
    plan.output_hash = Sha256(fmt::format("output {}", options_.seed));
    plan.hash = Sha256(fmt::format("plan {}", options_.seed));
    return made;
  }

  std::string AddShard(engine::ExportPlan& plan, const engine::Checkpoint& checkpoint, int index) {
    engine::Shard shard;
    shard.file = fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, options_.shards);
    shard.first_tensor = static_cast<std::int32_t>(plan.tensors.size());
    std::vector<engine::SafetensorsEntry> entries;
    std::string data;
    for (std::size_t i = static_cast<std::size_t>(index); i < checkpoint.tensors.size();
         i += static_cast<std::size_t>(options_.shards)) {
      engine::OutputTensor tensor;
      tensor.name = fmt::format("output.{}", i);
      tensor.regions = RandomRegions(static_cast<std::int32_t>(i), checkpoint.tensors[i].shape);
      tensor.shard = index;
      std::string bytes = Assemble(checkpoint, tensor.regions);
      tensor.shape = {static_cast<std::int64_t>(bytes.size() / kElement)};
      tensor.permutation = RandomPermutation(tensor.shape[0]);
      if (!tensor.permutation.IsNone()) {
        bytes = Permuted(bytes, kElement, tensor.permutation.view, tensor.permutation.order);
      }
      if (Below(3) == 0 && !HasNan(bytes)) {
        bytes = Widened(bytes);
        tensor.dtype = tensor.transform.to = DType::kF32;
      }
      tensor.bytes = static_cast<std::int64_t>(bytes.size());
      tensor.file_offset = static_cast<std::int64_t>(data.size());
      data += bytes;
      entries.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape});
      plan.tensors.push_back(std::move(tensor));
    }
    shard.tensor_count = static_cast<std::int32_t>(plan.tensors.size()) - shard.first_tensor;
    shard.header = Value(engine::MakeSafetensorsHeader(entries));
    for (std::size_t i = static_cast<std::size_t>(shard.first_tensor); i < plan.tensors.size(); ++i) {
      plan.tensors[i].file_offset += static_cast<std::int64_t>(shard.header.size());
    }
    shard.bytes = static_cast<std::int64_t>(shard.header.size() + data.size());
    plan.output_bytes += shard.bytes;
    plan.shards.push_back(shard);
    return shard.header + data;
  }

  const std::string directory_;
  const RandomExportOptions options_;
  std::mt19937 random_;
  std::mt19937 random_axes_;  // of its own: the rest of an export does not depend on what is permuted
  std::vector<std::string> files_;
  std::vector<std::string> contents_;  // of each stored tensor, row-major
};

}  // namespace

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  if (!file.flush()) {
    throw std::runtime_error("cannot write " + path);
  }
}

std::vector<std::string> NamesIn(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

RandomExport MakeRandomExport(const std::string& directory, const RandomExportOptions& options) {
  return Builder(directory, options).Build();
}

}  // namespace slipway::test
