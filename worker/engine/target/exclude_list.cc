#include "worker/engine/target/exclude_list.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace slipway::engine {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

// Numbers are all alike: names of a large model become few.
std::string WithoutNumbers(std::string_view name) {
  std::string text;
  for (const char letter : name) {
    if (std::isdigit(static_cast<unsigned char>(letter)) == 0) {
      text += letter;
    } else if (!text.ends_with('#')) {
      text += '#';
    }
  }
  return text;
}

class QuantizedNames {
 public:
  explicit QuantizedNames(std::vector<std::string_view> names) : sorted_(std::move(names)) {
    std::ranges::sort(sorted_);
    for (const std::string_view name : sorted_) {
      kinds_.insert(WithoutNumbers(name));
    }
  }

  [[nodiscard]] bool AnyStartsWith(std::string_view prefix) const {
    const auto next = std::ranges::lower_bound(sorted_, prefix);
    return next != sorted_.end() && next->starts_with(prefix);
  }

  [[nodiscard]] bool AnyContains(std::string_view text) const {
    const std::string kind = WithoutNumbers(text);
    return std::ranges::any_of(kinds_, [&](const std::string& other) { return other.find(kind) != kNone; }) &&
           std::ranges::any_of(sorted_, [&](std::string_view name) { return name.find(text) != kNone; });
  }

 private:
  std::vector<std::string_view> sorted_;
  std::set<std::string> kinds_;
};

std::string EntryFor(std::string_view module, const QuantizedNames& quantized) {
  for (std::size_t dot = module.find('.'); dot != kNone; dot = module.find('.', dot + 1)) {
    const std::string_view prefix = module.substr(0, dot);
    if (!quantized.AnyContains(prefix)) {
      return fmt::format("{}*", prefix);
    }
    if (!quantized.AnyStartsWith(module.substr(0, dot + 1))) {
      return fmt::format("{}.*", prefix);
    }
  }
  if (!quantized.AnyContains(module)) {
    return std::string(module);
  }
  // A pattern of this one name, which is no part of a longer one.
  return fmt::format("{}[{}]", module.substr(0, module.size() - 1), module.back());
}

}  // namespace

std::vector<std::string> ExcludeList(const std::vector<std::string_view>& kept,
                                     std::vector<std::string_view> quantized) {
  const QuantizedNames names(std::move(quantized));
  std::set<std::string> entries;
  for (const std::string_view module : kept) {
    entries.insert(EntryFor(module, names));
  }
  return {entries.begin(), entries.end()};
}

}  // namespace slipway::engine
