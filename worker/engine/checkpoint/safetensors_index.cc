#include "worker/engine/checkpoint/safetensors_index.h"

#include <unordered_set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

// Of equal names an object keeps one; as events they are seen.
class RepeatedNames {
 public:
  bool operator()(int depth, json::parse_event_t event, const json& name) {
    if (event == json::parse_event_t::key && depth == 1) {
      seen_.clear();
    } else if (event == json::parse_event_t::key && depth == 2 && found_.empty()) {
      const auto& text = name.get_ref<const std::string&>();
      found_ = seen_.insert(text).second ? "" : text;
    }
    return true;
  }
  [[nodiscard]] const std::string& found() const { return found_; }

 private:
  std::unordered_set<std::string> seen_;
  std::string found_;
};

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view text,
                                                                         const std::string& file) {
  const auto corrupt = [&file](std::string_view message, const std::string& tensor = {}) {
    return Error(Reason::kCheckpointCorrupt, message, {.tensor = tensor, .file = file});
  };
  RepeatedNames names;
  const json index = json::parse(
      text, [&names](int depth, json::parse_event_t event, const json& parsed) { return names(depth, event, parsed); },
      /*allow_exceptions=*/false);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (map == index.end() || !map->is_object() || map->empty()) {
    return corrupt("is not an index of safetensors files: it has no weight_map");
  }
  if (!names.found().empty()) {
    return corrupt("the index names it twice", names.found());
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, home] : map->items()) {
    if (!home.is_string() || !home.get_ref<const std::string&>().ends_with(".safetensors")) {
      return corrupt("the index does not say in which safetensors file it is", tensor);
    }
    const auto& name = home.get_ref<const std::string&>();
    if (name.find('/') != std::string::npos) {
      return Error(Reason::kPathOutsideRoot,
                   fmt::format("the index says that it is in \"{}\", which is not directly in the directory", name),
                   {.tensor = tensor, .file = file});
    }
    files.emplace(tensor, name);
  }
  return files;
}

}  // namespace slipway::engine
