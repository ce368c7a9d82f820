#include "worker/engine/plan/stored_values.h"

#include <cstddef>
#include <cstring>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/transform/element_transform.h"
#include "worker/engine/transform/region_reader.h"

namespace slipway::engine {

std::vector<SourceRegion> WholeOf(const CanonicalTensor& tensor, const Checkpoint& checkpoint) {
  std::vector<SourceRegion> regions;
  for (const CanonicalPart& part : tensor.parts) {
    const Shape& stored = checkpoint.tensors[static_cast<std::size_t>(part.stored)].shape;
    const std::size_t fixed = part.fixed.size();
    SourceRegion region{.tensor = part.stored, .offsets = part.fixed, .sizes = Shape(fixed, 1)};
    region.offsets.resize(stored.size(), 0);
    region.sizes.insert(region.sizes.end(), stored.begin() + static_cast<std::ptrdiff_t>(fixed), stored.end());
    regions.push_back(std::move(region));
  }
  return regions;
}

absl::StatusOr<std::vector<float>> ReadStoredValues(const CanonicalTensor& tensor, const Checkpoint& checkpoint) {
  const auto count = CheckedVolume(tensor.shape);
  if (!count || *count > kMaximumStoredValues) {
    return Error(Reason::kLimitExceeded, fmt::format("has more than {} values", kMaximumStoredValues),
                 {.tensor = tensor.name});
  }
  const ElementTransform transform{.from = tensor.dtype, .to = DType::kF32};
  if (!CanTransform(transform)) {
    return Error(Reason::kCheckpointUnsupported,
                 fmt::format("is {}, where ranges are F32, BF16 or F16", InfoOf(tensor.dtype).safetensors_name),
                 {.tensor = tensor.name});
  }
  OutputTensor output;
  output.name = tensor.name;
  output.regions = WholeOf(tensor, checkpoint);
  std::vector<std::byte> bytes(static_cast<std::size_t>(*count * InfoOf(tensor.dtype).bytes));
  std::span<std::byte> rest(bytes);
  RegionReader reader(checkpoint);
  std::vector<SourceRun> runs;
  for (std::int64_t done = 0; done < *count;) {
    runs.clear();
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t found, reader.Read(output, done, *count - done, 64, runs));
    for (const SourceRun& run : runs) {
      const SourceFile& file = *checkpoint.files[static_cast<std::size_t>(run.file)].file;
      SLIPWAY_RETURN_IF_ERROR(AddWhere(file.ReadAt(run.position, rest.first(static_cast<std::size_t>(run.bytes))),
                                       {.tensor = tensor.name, .file = file.name(), .offset = run.position}));
      rest = rest.subspan(static_cast<std::size_t>(run.bytes));
    }
    done += found;
  }
  std::vector<float> values(static_cast<std::size_t>(*count));
  TransformElements(transform, bytes, std::as_writable_bytes(std::span(values)));
  return values;
}

}  // namespace slipway::engine
