#include "worker/engine/checkpoint/legacy_split.h"

#include <array>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/checkpoint/canonical_name.h"

namespace slipway::engine {
namespace {

// Many tensors may view one small storage, so a small file cannot unfold into a huge model.
constexpr std::size_t kMaximumViews = 2'000'000;

struct NamedTensor {
  std::string name;
  LegacyRankTensor tensor;
};
using Views = std::vector<NamedTensor>;

struct Component {
  std::string_view name;
  std::int64_t rows = 0;
};

class Splitter {
 public:
  Splitter(const std::string& file, std::int64_t tensor_ranks, std::int64_t expert_ranks, const RankModel& model)
      : file_(file), tensor_ranks_(tensor_ranks), expert_ranks_(expert_ranks), model_(model) {}

  // What takes the place of `name`; nullopt: it stays.
  absl::StatusOr<std::optional<Views>> Split(const std::string& name) const {
    using Rule = absl::StatusOr<Views> (Splitter::*)(const std::string&, const std::string&) const;
    struct Row {
      std::string_view ending;
      Rule rule;
      bool of_one_rank;
    };
    static constexpr auto kRules = std::to_array<Row>({
        {".mixer.in_proj.weight", &Splitter::MambaProjection, false},
        {".mixer.conv1d.weight", &Splitter::MambaConvolution, false},
        {".mixer.conv1d.bias", &Splitter::MambaConvolution, false},
        {".self_attention.in_proj.weight", &Splitter::DeltaProjection, false},
        {".self_attention.conv1d.weight", &Splitter::DeltaConvolution, false},
        {".self_attention.linear_qkv_down_proj.weight", &Splitter::FusedDownProjection, true},
        {".mlp.experts.weight1", &Splitter::GroupedFirstLinears, true},
        {".mlp.experts.weight2", &Splitter::GroupedSecondLinears, true},
    });
    for (const Row& row : kRules) {
      if (name.ends_with(row.ending) && (row.of_one_rank || tensor_ranks_ > 1)) {
        // The module, with the dot: "decoder.layers.0.mixer."
        const std::size_t inside = name.size() - row.ending.size() + row.ending.find('.', 1) + 1;
        return (this->*row.rule)(name, name.substr(0, inside));
      }
    }
    return std::nullopt;
  }

 private:
  [[nodiscard]] absl::StatusOr<std::int64_t> Extent(const std::string& name, std::size_t axis) const {
    const auto found = model_.find(name);
    if (found == model_.end()) {
      return Error(Reason::kTensorMissing, "its size would tell how its neighbours are to be split",
                   {.tensor = name, .file = file_});
    }
    if (axis >= found->second.view.shape.size()) {
      return Mismatch(name, "it has too few axes");
    }
    return found->second.view.shape[axis];
  }

  [[nodiscard]] absl::Status Mismatch(const std::string& name, std::string_view message) const {
    return Error(Reason::kTensorShapeMismatch, message, {.tensor = name, .file = file_});
  }

  // [z, x, B, C, dt]: two of the inner width, two of the groups' states, one of the heads.
  [[nodiscard]] absl::StatusOr<Views> MambaProjection(const std::string& name, const std::string& module) const {
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t inner, Extent(module + "out_proj.weight", 1));
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t heads, Extent(module + "A_log", 0));
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t states, HalfOfTheRest(name, {inner, inner, heads}));
    return Rows(name, {{".z", inner}, {".x", inner}, {".B", states}, {".C", states}, {".dt", heads}});
  }

  [[nodiscard]] absl::StatusOr<Views> MambaConvolution(const std::string& name, const std::string& module) const {
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t inner, Extent(module + "out_proj.weight", 1));
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t states, HalfOfTheRest(name, {inner}));
    return Rows(name, {{".x", inner}, {".B", states}, {".C", states}});
  }

  [[nodiscard]] absl::StatusOr<Views> DeltaProjection(const std::string& name, const std::string& module) const {
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t value, Extent(module + "out_proj.weight", 1));
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t heads, Extent(module + "A_log", 0));
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t key, HalfOfTheRest(name, {value, value, heads, heads}));
    return Rows(
        name, {{".query", key}, {".key", key}, {".value", value}, {".z", value}, {".beta", heads}, {".alpha", heads}});
  }

  [[nodiscard]] absl::StatusOr<Views> DeltaConvolution(const std::string& name, const std::string& module) const {
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t value, Extent(module + "out_proj.weight", 1));
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t key, HalfOfTheRest(name, {value}));
    return Rows(name, {{".query", key}, {".key", key}, {".value", value}});
  }

  // Half of the rows of `name` that are left once those of `known` are taken.
  [[nodiscard]] absl::StatusOr<std::int64_t> HalfOfTheRest(const std::string& name,
                                                           std::initializer_list<std::int64_t> known) const {
    SLIPWAY_ASSIGN_OR_RETURN(std::int64_t rest, Extent(name, 0));
    for (const std::int64_t rows : known) {
      rest = rows > rest ? -1 : rest - rows;
    }
    if (rest < 0 || rest % 2 != 0) {
      return Mismatch(name, "its rows are not the components that the layer's other tensors tell of");
    }
    return rest / 2;
  }

  // [q; key and value]. The up projections see the whole latent width, so they tell whether ranks share the rows.
  [[nodiscard]] absl::StatusOr<Views> FusedDownProjection(const std::string& name, const std::string& module) const {
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t rows, Extent(name, 0));
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t query, Extent(module + "linear_q_up_proj.weight", 1));
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t key, Extent(module + "linear_kv_up_proj.weight", 1));
    const auto both = CheckedAdd(query, key);
    const bool shared = both && rows < *both;
    const std::int64_t mine = shared ? query / tensor_ranks_ : query;
    if (!both || mine > rows || (shared && query % tensor_ranks_ != 0)) {
      return Mismatch(name, "its rows do not go with the columns of the up projections");
    }
    Views views;
    views.push_back({module + "linear_q_down_proj.weight", RowsOf(name, 0, mine)});
    views.push_back({module + "linear_kv_down_proj.weight", RowsOf(name, mine, rows - mine)});
    return views;
  }

  // Memory is [experts, hidden, rows], whatever the shape says.
  [[nodiscard]] absl::StatusOr<Views> GroupedFirstLinears(const std::string& name, const std::string& module) const {
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t hidden, Extent(name, 0));
    return Transposed(name, module, "linear_fc1.weight", {.known = hidden, .known_is_columns = true});
  }

  // Memory is [experts, columns, hidden].
  [[nodiscard]] absl::StatusOr<Views> GroupedSecondLinears(const std::string& name, const std::string& module) const {
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t hidden, Extent(name, 1));
    return Transposed(name, module, "linear_fc2.weight", {.known = hidden, .known_is_columns = false});
  }

  struct Orientation {
    std::int64_t known = 0;  // the extent that the tensor's shape shows
    bool known_is_columns = false;
  };

  [[nodiscard]] absl::StatusOr<Views> Transposed(const std::string& name, const std::string& module,
                                                 std::string_view parameter, Orientation orientation) const {
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t all, Extent(module + "router.weight", 0));
    const LegacyRankTensor& tensor = model_.at(name);
    const Shape& shape = tensor.view.shape;
    const std::int64_t experts = all / expert_ranks_;
    const std::int64_t volume = CheckedVolume(shape).value_or(0);  // it lies in its storage
    if (shape.size() != 2 || tensor.view.strides != Shape{shape[1], 1} || experts <= 0 || all % expert_ranks_ != 0 ||
        orientation.known <= 0 || volume <= 0 || volume % orientation.known != 0 ||
        volume / orientation.known % experts != 0) {
      return Mismatch(name, fmt::format("shape [{}] is not the weights of {} experts on {} ranks",
                                        fmt::join(shape, ", "), all, expert_ranks_));
    }
    if (experts > kMaximumExperts) {
      return Error(Reason::kLimitExceeded, fmt::format("{} experts; the most is {}", experts, kMaximumExperts),
                   {.tensor = name, .file = file_});
    }
    const std::int64_t derived = volume / orientation.known / experts;
    const std::int64_t rows = orientation.known_is_columns ? derived : orientation.known;
    Views views;
    for (std::int64_t expert = 0; expert < experts; ++expert) {
      LegacyRankTensor view = tensor;
      view.view.shape = {rows, volume / experts / rows};
      view.view.strides = {1, rows};
      view.view.storage_offset += expert * (volume / experts);
      views.push_back({fmt::format("{}experts.experts.{}.{}", module, expert, parameter), std::move(view)});
    }
    return views;
  }

  [[nodiscard]] LegacyRankTensor RowsOf(const std::string& name, std::int64_t first, std::int64_t count) const {
    LegacyRankTensor part = model_.at(name);
    part.view.shape[0] = count;
    part.view.storage_offset += first * part.view.strides[0];
    return part;
  }

  // `components` sum up to the rows of `name`.
  [[nodiscard]] Views Rows(const std::string& name, const std::vector<Component>& components) const {
    Views views;
    std::int64_t first = 0;
    for (const Component& component : components) {
      views.push_back({name + std::string(component.name), RowsOf(name, first, component.rows)});
      first += component.rows;
    }
    return views;
  }

  const std::string& file_;
  std::int64_t tensor_ranks_;
  std::int64_t expert_ranks_;
  const RankModel& model_;
};

}  // namespace

absl::Status SplitRankModel(const std::string& file, std::int64_t tensor_ranks, std::int64_t expert_ranks,
                            RankModel& model) {
  std::vector<std::pair<std::string, Views>> splits;
  std::size_t count = 0;
  const Splitter splitter(file, tensor_ranks, expert_ranks, model);
  for (const auto& [name, tensor] : model) {
    SLIPWAY_ASSIGN_OR_RETURN(std::optional<Views> views, splitter.Split(name));
    if (views) {
      count += views->size();
      if (count > kMaximumViews) {
        return Error(Reason::kLimitExceeded, fmt::format("more than {} weights in parts", kMaximumViews),
                     {.tensor = name, .file = file});
      }
      splits.emplace_back(name, *std::move(views));
    }
  }
  for (auto& [name, views] : splits) {
    model.erase(name);
    for (NamedTensor& view : views) {
      if (!model.emplace(view.name, std::move(view.tensor)).second) {
        return Error(Reason::kTensorDuplicated, fmt::format("{} holds this weight, too", name),
                     {.tensor = view.name, .file = file});
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine
