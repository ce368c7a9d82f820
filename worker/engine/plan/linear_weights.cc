#include "worker/engine/plan/linear_weights.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"
#include "worker/engine/model/architecture.h"
#include "worker/engine/plan/region_rows.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kStackedGateUp = "experts.gate_up_proj";
constexpr std::string_view kStackedDown = "experts.down_proj";

// Of one model class, whose linear layers are stored [in, out].
constexpr std::string_view kConv1d = "GPT2LMHeadModel";

struct Sibling {
  std::string_view name;
  std::string_view fused;
};
constexpr auto kSiblings = std::to_array<Sibling>({
    {"q_proj", "q+k+v"},
    {"k_proj", "q+k+v"},
    {"v_proj", "q+k+v"},
    {"gate_proj", "gate+up"},
    {"up_proj", "gate+up"},
    {"w1", "w1+w3"},
    {"w3", "w1+w3"},
    {"q_a_proj", "q_a+kv_a"},
    {"kv_a_proj_with_mqa", "q_a+kv_a"},
    {"in_proj_qkv", "qkv+z"},
    {"in_proj_z", "qkv+z"},
    {"in_proj_b", "b+a"},
    {"in_proj_a", "b+a"},
});

// Of stacked experts: how one's matrices lie in the stored order.
struct Stack {
  std::int64_t experts = 0;
  std::int64_t rows = 0;  // of all of an expert's matrices
  std::int64_t columns = 0;
};

std::int64_t ElementsOf(const SourceRegion& region) {
  std::int64_t elements = 1;
  for (const std::int64_t size : region.sizes) {
    elements *= size;
  }
  return elements;
}

// Elements [first, first + count) of the regions, whole rows of `columns`: none where a region has other rows.
std::optional<std::vector<SourceRegion>> Slice(const std::vector<SourceRegion>& regions, std::int64_t first,
                                               std::int64_t count, std::int64_t columns) {
  std::vector<SourceRegion> slice;
  for (const SourceRegion& region : regions) {
    const std::int64_t elements = ElementsOf(region);
    if (count > 0 && first < elements) {
      const std::int64_t taken = std::min(count, elements - first);
      const std::size_t rank = region.sizes.size();
      if (first == 0 && taken == elements) {
        slice.push_back(region);
      } else if (rank >= 2 && region.sizes[rank - 1] == columns && first % columns == 0 && taken % columns == 0) {
        AppendRows(region, rank - 2, first / columns, taken / columns, slice);
      } else {
        return std::nullopt;
      }
      first += taken;
      count -= taken;
    }
    first -= elements;
  }
  return count == 0 ? std::optional(std::move(slice)) : std::nullopt;
}

OutputTensor Matrix(const OutputTensor& from, std::string name, std::int64_t rows, std::int64_t columns) {
  OutputTensor matrix;
  matrix.name = std::move(name);
  matrix.dtype = from.dtype;
  matrix.shape = {rows, columns};
  matrix.transform = from.transform;
  matrix.bytes = rows * columns * InfoOf(from.dtype).bytes;
  return matrix;
}

// The axes of a stack as its family's table has them; nothing where the family is not known.
std::optional<Axes> TableAxes(const ExportPlan& plan, const OutputTensor& tensor) {
  const Architecture* const architecture = FindArchitecture(plan.architecture);
  if (architecture == nullptr) {
    return std::nullopt;
  }
  for (const RuleBlock& block : architecture->blocks) {
    for (const TensorRule& rule : block.rules) {
      for (const TargetRule& target : rule.targets) {
        if (target.name.ends_with(kStackedGateUp) || target.name.ends_with(kStackedDown)) {
          if (tensor.name.ends_with(target.name)) {
            return rule.axes;
          }
        }
      }
    }
  }
  return std::nullopt;
}

bool HasMovedAxes(Axes axes) { return axes == Axes::kTransposed || axes == Axes::kInterleavedTransposed; }

class StackSplitter {
 public:
  StackSplitter(const ExportPlan& plan, const OutputTensor& tensor) : plan_(plan), tensor_(tensor) {}

  absl::StatusOr<std::vector<LinearWeight>> Split(bool packed) {
    const std::optional<Axes> axes = TableAxes(plan_, tensor_);
    if (!axes || tensor_.shape.size() != 3 || tensor_.scales || tensor_.update) {
      return Unknown();
    }
    const bool moved = HasMovedAxes(*axes);
    stack_ = {
        .experts = tensor_.shape[0], .rows = tensor_.shape[moved ? 2 : 1], .columns = tensor_.shape[moved ? 1 : 2]};
    interleaved_ = *axes == Axes::kInterleaved || *axes == Axes::kInterleavedTransposed;
    // Of Megatron's tensors the regions are in the order before the axes were moved; a Hugging Face directory has them
    // as they are written.
    as_written_ = tensor_.permutation.IsNone() && *axes != Axes::kAsStored;
    return packed ? Packed() : Apart();
  }

 private:
  [[nodiscard]] absl::Status Unknown() const {
    return Error(Reason::kCheckpointUnsupported,
                 fmt::format("holds stacked experts of shape [{}], and how is not known of {}",
                             fmt::join(tensor_.shape, ", "), plan_.architecture),
                 {.tensor = tensor_.name});
  }

  absl::StatusOr<std::vector<LinearWeight>> Packed() {
    LinearWeight weight{.module = tensor_.name,
                        .values = Matrix(tensor_, tensor_.name, stack_.experts * stack_.rows, stack_.columns),
                        .rows = stack_.experts * stack_.rows,
                        .columns = stack_.columns};
    weight.values.regions = tensor_.regions;
    AxisPermutation& permutation = weight.values.permutation;
    if (as_written_) {
      permutation = {.view = {stack_.experts, stack_.columns, stack_.rows}, .order = {0, 2, 1}};
    } else if (interleaved_) {
      permutation = {.view = {stack_.experts, 2, stack_.rows / 2, stack_.columns}, .order = {0, 2, 1, 3}};
    }
    return std::vector<LinearWeight>{std::move(weight)};
  }

  absl::StatusOr<std::vector<LinearWeight>> Apart() {
    const bool gate_up = tensor_.name.ends_with(kStackedGateUp);
    const std::string prefix = tensor_.name.substr(0, tensor_.name.rfind('.'));
    std::vector<LinearWeight> weights;
    for (std::int64_t expert = 0; expert < stack_.experts; ++expert) {
      const std::int64_t parts = gate_up ? 2 : 1;
      for (std::int64_t part = 0; part < parts; ++part) {
        const std::string_view name = !gate_up ? "down_proj" : part == 0 ? "gate_proj" : "up_proj";
        LinearWeight weight{.module = fmt::format("{}.{}.{}", prefix, expert, name),
                            .values = {},
                            .rows = stack_.rows / parts,
                            .columns = stack_.columns};
        weight.values = Matrix(tensor_, weight.module + std::string(kWeight), weight.rows, weight.columns);
        SLIPWAY_RETURN_IF_ERROR(SetRegions(expert, part, weight));
        weights.push_back(std::move(weight));
      }
    }
    return weights;
  }

  absl::Status SetRegions(std::int64_t expert, std::int64_t part, LinearWeight& weight) {
    if (!as_written_) {
      auto slice = Slice(tensor_.regions, (expert * stack_.rows + part * weight.rows) * stack_.columns,
                         weight.rows * weight.columns, weight.columns);
      if (!slice) {
        return Unknown();
      }
      weight.values.regions = *std::move(slice);
      return absl::OkStatus();
    }
    if (interleaved_ || tensor_.regions.size() != 1 || tensor_.regions[0].sizes != tensor_.shape) {
      return Unknown();
    }
    SourceRegion region = tensor_.regions[0];
    region.offsets = {expert, 0, part * weight.rows};
    region.sizes = {1, weight.columns, weight.rows};
    weight.values.regions = {std::move(region)};
    weight.values.permutation = {.view = {weight.columns, weight.rows}, .order = {1, 0}};
    return absl::OkStatus();
  }

  const ExportPlan& plan_;
  const OutputTensor& tensor_;
  Stack stack_;
  bool interleaved_ = false;
  bool as_written_ = false;
};

}  // namespace

std::optional<std::string> ModuleOf(const OutputTensor& tensor) {
  if (IsStackedExperts(tensor)) {
    return tensor.name;
  }
  if (!tensor.name.ends_with(kWeight) || tensor.shape.size() != 2) {
    return std::nullopt;
  }
  return tensor.name.substr(0, tensor.name.size() - kWeight.size());
}

bool IsStackedExperts(const OutputTensor& tensor) {
  return tensor.shape.size() == 3 && (tensor.name.ends_with(kStackedGateUp) || tensor.name.ends_with(kStackedDown));
}

absl::StatusOr<std::vector<LinearWeight>> LinearWeightsOf(const ExportPlan& plan, const OutputTensor& tensor,
                                                          bool packed) {
  if (IsStackedExperts(tensor)) {
    return StackSplitter(plan, tensor).Split(packed);
  }
  LinearWeight weight{.module = ModuleOf(tensor).value_or(tensor.name),
                      .values = tensor,
                      .rows = tensor.shape[0],
                      .columns = tensor.shape[1],
                      .transposed = plan.architecture == kConv1d};
  return std::vector<LinearWeight>{std::move(weight)};
}

std::optional<std::int64_t> LayerOfModule(std::string_view module) {
  for (const std::string_view holder : {"layers.", "h.", "blocks.", "block."}) {
    for (std::size_t at = module.find(holder); at != std::string_view::npos; at = module.find(holder, at + 1)) {
      if (at > 0 && module[at - 1] != '.') {
        continue;
      }
      const std::string_view number = module.substr(at + holder.size());
      std::int64_t layer = 0;
      const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), layer);
      if (error == std::errc() && (end == number.data() + number.size() || *end == '.')) {
        return layer;
      }
    }
  }
  return std::nullopt;
}

std::string FusedNameOf(std::string_view module) {
  const std::size_t dot = module.rfind('.');
  const std::string_view last = dot == std::string_view::npos ? module : module.substr(dot + 1);
  const auto sibling = std::ranges::find(kSiblings, last, &Sibling::name);
  return sibling == kSiblings.end()
             ? std::string(module)
             : fmt::format("{}{}", module.substr(0, module.size() - last.size()), sibling->fused);
}

}  // namespace slipway::engine
