#include "worker/engine/quantize/format.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "worker/engine/quantize/formats/tables.h"

namespace slipway::engine {
namespace {

constexpr std::array kFormats = std::to_array<const Format*>({
    &kFp8,
    &kFp8PerChannel,
    &kFp8Block,
    &kInt8,
    &kInt8SmoothQuant,
    &kInt4,
    &kInt4Awq,
    &kInt4Gptq,
    &kW4A8Awq,
    &kNvfp4,
    &kNvfp4Awq,
    &kMxfp4,
    &kMxfp8,
});

constexpr int kConsumers = 4;  // kLoads*

constexpr std::array<std::string_view, 4> kFormNames = {"modelopt", "compressed-tensors", "native", "tensorrt-llm"};
constexpr std::size_t kChosenForms = 3;  // the first ones
constexpr std::array<std::string_view, 3> kActivationNames = {"none", "dynamic", "static"};

std::string Multiple(std::int64_t extent, std::string_view what, std::int64_t unit) {
  return fmt::format("its {} {} are no multiple of {}", extent, what, unit);
}

// What columns and rows are multiples of because of how codes lie in memory.
struct Units {
  std::int64_t rows = 1;
  std::int64_t columns = 1;
};

Units UnitsOf(const Layout& layout) {
  switch (layout.coding.packing) {
    case Packing::kBytes:
      return {};
    case Packing::kNibblePairs:
      return {.columns = 2};
    case Packing::kNibbleRows:
      return {.rows = 2};
    case Packing::kWords:
      return {.rows = HasZeroPoints(layout.coding.rule) ? 8 : 1,  // of a word of zero points
              .columns = layout.coding.element == Element::kInt8 ? 4 : 8};
    case Packing::kWordsColumns:
      return {.rows = 8};
    case Packing::kWordsRows:
      return {.rows = 8, .columns = 8};  // rows: the zero points
  }
  return {};
}

// ModelOpt's scales of blocks: no block is cut, and one alone would have a scale without axes, which nothing loads.
std::optional<std::string> WhyNotSquares(const Layout& layout, std::int64_t rows, std::int64_t columns) {
  const std::int64_t side = layout.coding.group;
  if (layout.form != ConfigForm::kModelOpt) {
    return std::nullopt;
  }
  if (rows % side != 0) {
    return Multiple(rows, "rows", side);
  }
  if (columns % side != 0) {
    return Multiple(columns, "columns", side);
  }
  return rows == side && columns == side ? std::optional<std::string>("it is a single block") : std::nullopt;
}

bool Fits(const Layout& layout, const LayoutWish& wish) {
  const bool form = wish.form ? layout.form == *wish.form : !layout.stacked_experts;
  const bool activations = !wish.activations || layout.activations == *wish.activations;
  const bool symmetric = !wish.symmetric || *wish.symmetric != HasZeroPoints(layout.coding.rule);
  return form && activations && symmetric && (layout.activations != Activations::kStatic || wish.has_ranges);
}

int Consumers(const Layout& layout, bool has_experts) {
  int count = 0;
  for (unsigned loaders = has_experts ? layout.expert_loaders : layout.loaders; loaders != 0; loaders &= loaders - 1) {
    ++count;
  }
  return count;
}

}  // namespace

std::string_view NameOf(ConfigForm form) { return kFormNames[static_cast<std::size_t>(form)]; }

std::optional<ConfigForm> ConfigFormOf(std::string_view name) {
  const auto end = kFormNames.begin() + kChosenForms;
  const auto found = std::find(kFormNames.begin(), end, name);
  return found == end ? std::nullopt : std::optional(static_cast<ConfigForm>(found - kFormNames.begin()));
}

std::string_view NameOf(Activations activations) { return kActivationNames[static_cast<std::size_t>(activations)]; }

std::span<const Format* const> Formats() { return kFormats; }

const Format* FindFormat(std::string_view name) {
  const auto found = std::ranges::find(kFormats, name, &Format::name);
  return found == kFormats.end() ? nullptr : *found;
}

bool Stores(const Layout& layout, StoredRole role) {
  return std::ranges::find(layout.tensors, role, &LayoutTensor::role) != layout.tensors.end();
}

std::optional<std::string> WhyNot(const Format& format, const Layout& layout, std::int64_t rows, std::int64_t columns,
                                  std::int32_t group) {
  if (rows <= 0 || columns <= 0) {
    return "it is empty";
  }
  const Coding& coding = layout.coding;
  const Units units = UnitsOf(layout);
  const std::int64_t group_size = group != 0 ? group : coding.group;
  if (coding.sharing == Sharing::kGroup && columns % group_size != 0) {
    return fmt::format("its {} columns are no whole groups of {}", columns, group_size);
  }
  for (const std::int64_t unit : {format.column_multiple, units.columns}) {
    if (columns % unit != 0) {
      return Multiple(columns, "columns", unit);
    }
  }
  for (const std::int64_t unit : {format.row_multiple, units.rows}) {
    if (rows % unit != 0) {
      return Multiple(rows, "rows", unit);
    }
  }
  return coding.sharing == Sharing::kSquare ? WhyNotSquares(layout, rows, columns) : std::nullopt;
}

const Layout* ChooseLayout(const Format& format, const LayoutWish& wish) {
  const Activations preferred = format.layouts.front().activations;
  const auto rank = [&](const Layout& layout) {
    return std::pair(layout.activations == preferred, Consumers(layout, wish.has_experts));
  };
  const Layout* best = nullptr;
  for (const Layout& layout : format.layouts) {
    if (Fits(layout, wish) && (best == nullptr || rank(layout) > rank(*best))) {
      best = &layout;
    }
  }
  return best;
}

std::string WhyNoLayout(const Format& format, const LayoutWish& wish) {
  LayoutWish with_ranges = wish;
  with_ranges.has_ranges = true;
  if (!wish.has_ranges && ChooseLayout(format, with_ranges) != nullptr) {
    return fmt::format(
        "{} {}has scales of activations, which need ranges of inputs: give --ranges, --calibration or a "
        "calibrated checkpoint, or take a form without (--config-form auto).",
        format.name, wish.form ? fmt::format("in the form {} ", NameOf(*wish.form)) : "");
  }
  std::string has;
  for (const Layout& layout : format.layouts) {
    const std::string one = fmt::format("{} with activations {}{}", NameOf(layout.form), NameOf(layout.activations),
                                        HasZeroPoints(layout.coding.rule) ? " and zero points" : "");
    if (has.find(one) == std::string::npos) {
      has += (has.empty() ? "" : ", ") + one;
    }
  }
  return fmt::format("{} has no layout{}{}{}; there are: {}.", format.name,
                     wish.form ? fmt::format(" in the form {}", NameOf(*wish.form)) : "",
                     wish.symmetric ? (*wish.symmetric ? " without zero points" : " with zero points") : "",
                     wish.activations ? fmt::format(" with activations {}", NameOf(*wish.activations)) : "", has);
}

std::optional<ConfigForm> ChooseForm(std::span<const FormatChoice> formats, const LayoutWish& wish) {
  LayoutWish here = wish;
  here.form.reset();
  if (std::ranges::all_of(formats, [&](const FormatChoice& choice) { return choice == formats.front(); })) {
    here.symmetric = formats.empty() ? std::nullopt : formats.front().symmetric;
    const Layout* const layout = formats.empty() ? nullptr : ChooseLayout(*formats.front().format, here);
    return layout == nullptr ? std::nullopt : std::optional(layout->form);
  }
  std::optional<ConfigForm> best;
  int most = -1;
  for (const ConfigForm form : {ConfigForm::kModelOpt, ConfigForm::kCompressedTensors}) {
    here.form = form;
    int fewest = kConsumers;
    for (const FormatChoice& choice : formats) {
      here.symmetric = choice.symmetric;
      const Layout* const layout = ChooseLayout(*choice.format, here);
      fewest = std::min(fewest, layout == nullptr ? -1 : Consumers(*layout, wish.has_experts));
    }
    if (fewest > most) {
      best = form;
      most = fewest;
    }
  }
  return best;
}

}  // namespace slipway::engine
