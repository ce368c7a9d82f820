#include "worker/engine/plan/transforms.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

using Rows = std::vector<RowRange>;
using Configuration = ModelConfiguration;

Rows AllRows(const TensorRule& rule, std::size_t, const Configuration& c) {
  return {{0, SourceShape(rule, c).front()}};
}

Rows VocabularyRows(const TensorRule&, std::size_t, const Configuration& c) { return {{0, c.vocabulary_size}}; }

// Targets one after the other.
Rows SplitRows(const TensorRule& rule, std::size_t target, const Configuration& c) {
  std::int64_t begin = 0;
  for (std::size_t before = 0; before < target; ++before) {
    begin += SelectedShape(rule, rule.targets[before], c).front();
  }
  return {{begin, SelectedShape(rule, rule.targets[target], c).front()}};
}

// Of each group's block of `block` heads, `count` heads from `first` on.
void AppendHeads(std::int64_t block, std::int64_t first, std::int64_t count, const Configuration& c, Rows& rows) {
  for (std::int64_t group = 0; group < c.query_groups; ++group) {
    rows.push_back({(group * block + first) * c.head_dimension, count * c.head_dimension});
  }
}

Rows QkvRows(const TensorRule&, std::size_t target, const Configuration& c) {
  const std::int64_t queries = c.attention_heads / c.query_groups;
  Rows rows;
  if (target == 0) {
    AppendHeads(queries + 2, 0, queries, c, rows);
  } else {
    AppendHeads(queries + 2, queries + static_cast<std::int64_t>(target) - 1, 1, c, rows);
  }
  return rows;
}

Rows JoinedQkvRows(const TensorRule& rule, std::size_t, const Configuration& c) {
  Rows rows;
  for (std::size_t part = 0; part < 3; ++part) {
    const Rows more = QkvRows(rule, part, c);
    rows.insert(rows.end(), more.begin(), more.end());
  }
  return rows;
}

Rows VisionQkvRows(const TensorRule&, std::size_t, const Configuration& c) {
  const std::int64_t heads = c.vision.heads.value_or(1);
  const std::int64_t dimension = c.vision.hidden_size.value_or(0) / heads;
  Rows rows;
  for (std::int64_t part = 0; part < 3; ++part) {
    for (std::int64_t head = 0; head < heads; ++head) {
      rows.push_back({(3 * head + part) * dimension, dimension});
    }
  }
  return rows;
}

// Hugging Face has each query head followed by its gate.
Rows GatedQkvRows(const TensorRule&, std::size_t target, const Configuration& c) {
  const std::int64_t queries = c.attention_heads / c.query_groups;
  const std::int64_t block = 2 * queries + 2;
  Rows rows;
  if (target > 0) {
    AppendHeads(block, 2 * queries + static_cast<std::int64_t>(target) - 1, 1, c, rows);
    return rows;
  }
  for (std::int64_t group = 0; group < c.query_groups; ++group) {
    for (std::int64_t head = 0; head < queries; ++head) {
      rows.push_back({(group * block + head) * c.head_dimension, c.head_dimension});
      rows.push_back({(group * block + queries + head) * c.head_dimension, c.head_dimension});
    }
  }
  return rows;
}

Rows DeltaNetRows(const TensorRule&, std::size_t target, const Configuration& c) {
  const LinearAttentionConfiguration& linear = c.linear_attention;
  const std::int64_t heads = linear.key_heads.value_or(1);
  const std::int64_t key = linear.key_dimension.value_or(0);
  const std::int64_t value_heads = linear.value_heads.value_or(0) / heads;  // a key head
  const std::int64_t value = value_heads * linear.value_dimension.value_or(0);
  struct Section {
    std::int64_t begin;
    std::int64_t rows;  // a key head
  };
  const std::array sections = {Section{0, key},
                               Section{heads * key, key},
                               Section{2 * heads * key, value},
                               Section{heads * (2 * key + value), value},
                               Section{heads * (2 * key + 2 * value), value_heads},
                               Section{heads * (2 * key + 2 * value + value_heads), value_heads}};
  constexpr std::size_t kOfFirstTarget = 4;
  const std::span<const Section> taken = target == 0 ? std::span<const Section>(sections).first(kOfFirstTarget)
                                                     : std::span<const Section>(sections).subspan(kOfFirstTarget);
  Rows rows;
  for (std::int64_t head = 0; head < heads; ++head) {
    for (const Section& section : taken) {
      rows.push_back({section.begin + head * section.rows, section.rows});
    }
  }
  return rows;
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
    case Transform::kPlainNorm:
      return AllRows(rule, target, configuration);
    case Transform::kVocabulary:
      return VocabularyRows(rule, target, configuration);
    case Transform::kSplit:
      return SplitRows(rule, target, configuration);
    case Transform::kQkv:
      return QkvRows(rule, target, configuration);
    case Transform::kQkvGated:
      return GatedQkvRows(rule, target, configuration);
    case Transform::kQkvJoined:
      return JoinedQkvRows(rule, target, configuration);
    case Transform::kVisionQkv:
      return VisionQkvRows(rule, target, configuration);
    case Transform::kDeltaNet:
      return DeltaNetRows(rule, target, configuration);
  }
  return {};
}

AxisPermutation PermutationOf(Axes axes, const Shape& shape) {
  AxisPermutation permutation;
  if (axes == Axes::kAsStored) {
    return permutation;
  }
  const std::size_t rank = shape.size();
  permutation.view = shape;
  permutation.order.resize(rank);
  std::iota(permutation.order.begin(), permutation.order.end(), std::uint8_t{0});
  if (axes == Axes::kTransposed) {
    std::swap(permutation.view[rank - 2], permutation.view[rank - 1]);
    std::swap(permutation.order[rank - 2], permutation.order[rank - 1]);
    return permutation;
  }
  // The last axis of the output is [rows, 2]; before, it was [2, rows], ahead of the other axis where that is
  // exchanged.
  permutation.view.back() /= 2;
  permutation.order.push_back(static_cast<std::uint8_t>(rank));
  if (axes == Axes::kInterleaved) {
    permutation.view.insert(permutation.view.end() - 1, 2);
    std::swap(permutation.order[rank - 1], permutation.order[rank]);
    return permutation;
  }
  const std::int64_t columns = permutation.view[rank - 2];
  permutation.view[rank - 2] = 2;
  permutation.view.push_back(columns);
  std::swap(permutation.order[rank - 2], permutation.order[rank]);
  return permutation;
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
