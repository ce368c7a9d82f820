#include "worker/engine/plan/transforms.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

std::vector<RowRange> AllRows(const TensorRule& rule, std::size_t, const ModelConfiguration& c) {
  return {{0, SourceShape(rule, c).front()}};
}

std::vector<RowRange> VocabularyRows(const TensorRule&, std::size_t, const ModelConfiguration& c) {
  return {{0, c.vocabulary_size}};
}

std::vector<RowRange> QkvRows(const TensorRule&, std::size_t target, const ModelConfiguration& c) {
  const std::int64_t heads_a_group = c.attention_heads / c.query_groups;
  const std::int64_t block = (heads_a_group + 2) * c.head_dimension;
  const std::int64_t queries = heads_a_group * c.head_dimension;
  const std::int64_t key_or_value = static_cast<std::int64_t>(target) - 1;
  const std::int64_t begin = target == 0 ? 0 : queries + key_or_value * c.head_dimension;
  const std::int64_t count = target == 0 ? queries : c.head_dimension;

  std::vector<RowRange> rows;
  rows.reserve(static_cast<std::size_t>(c.query_groups));
  for (std::int64_t group = 0; group < c.query_groups; ++group) {
    rows.push_back({group * block + begin, count});
  }
  return rows;
}

std::vector<RowRange> GatedRows(const TensorRule&, std::size_t target, const ModelConfiguration& c) {
  return {{static_cast<std::int64_t>(target) * c.ffn_hidden_size, c.ffn_hidden_size}};
}

// Appends rows of one part, whose axes before the rows are fixed.
void Append(const CanonicalPart& part, const Shape& stored, RowRange rows, std::vector<SourceRegion>& regions) {
  const std::size_t axis = part.fixed.size();
  if (!regions.empty()) {
    SourceRegion& last = regions.back();
    if (last.tensor == part.stored && std::equal(part.fixed.begin(), part.fixed.end(), last.offsets.begin()) &&
        last.offsets[axis] + last.sizes[axis] == rows.begin) {
      last.sizes[axis] += rows.count;
      return;
    }
  }
  SourceRegion region{.tensor = part.stored, .offsets = part.fixed, .sizes = Shape(axis, 1)};
  region.offsets.resize(stored.size(), 0);
  region.sizes.insert(region.sizes.end(), stored.begin() + static_cast<std::ptrdiff_t>(axis), stored.end());
  region.offsets[axis] = rows.begin;
  region.sizes[axis] = rows.count;
  regions.push_back(std::move(region));
}

}  // namespace

std::vector<RowRange> RowsOf(const TensorRule& rule, std::size_t target, const ModelConfiguration& configuration) {
  switch (rule.transform) {
    case Transform::kCopy:
    case Transform::kNorm:
      return AllRows(rule, target, configuration);
    case Transform::kVocabulary:
      return VocabularyRows(rule, target, configuration);
    case Transform::kQkv:
      return QkvRows(rule, target, configuration);
    case Transform::kGated:
      return GatedRows(rule, target, configuration);
  }
  return {};
}

absl::StatusOr<std::vector<SourceRegion>> RegionsOf(const CanonicalTensor& tensor, const std::vector<RowRange>& rows,
                                                    const Checkpoint& checkpoint) {
  std::vector<SourceRegion> regions;
  for (RowRange wanted : rows) {
    std::int64_t first = 0;  // of the part
    for (const CanonicalPart& part : tensor.parts) {
      const Shape& stored = checkpoint.tensors[static_cast<std::size_t>(part.stored)].shape;
      if (part.fixed.size() >= stored.size()) {
        return Error(Reason::kInternal, "a part has no rows", {.tensor = tensor.name});
      }
      const std::int64_t part_rows = stored[part.fixed.size()];
      if (wanted.begin < first + part_rows && wanted.count > 0) {
        const std::int64_t count = std::min(wanted.count, first + part_rows - wanted.begin);
        Append(part, stored, {wanted.begin - first, count}, regions);
        wanted = {wanted.begin + count, wanted.count - count};
      }
      first += part_rows;
    }
    if (wanted.count > 0) {
      return Error(Reason::kInternal, fmt::format("has no row {}", wanted.begin), {.tensor = tensor.name});
    }
  }
  return regions;
}

}  // namespace slipway::engine
