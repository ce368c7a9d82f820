#include "worker/engine/model/model.h"

#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/model/identify.h"
#include "worker/engine/model/resolve.h"
#include "worker/engine/model/stated_configuration.h"
#include "worker/engine/target/hf_directory.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMaximumConfig = 16 << 20;

absl::StatusOr<nlohmann::json> LoadHfConfig(const std::string& path, std::vector<std::string>& notes) {
  if (path.empty()) {
    return nlohmann::json();
  }
  SLIPWAY_ASSIGN_OR_RETURN(const HfDirectory directory, HfDirectory::Open(path));
  if (!directory.Has("config.json")) {
    notes.emplace_back("--hf-config has no config.json: only its other files are taken along");
    return nlohmann::json();
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::string text, directory.Read("config.json", kMaximumConfig));
  nlohmann::json config = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return Error(Reason::kConfigurationInvalid, "config.json of --hf-config is not a JSON object",
                 {.file = path + "/config.json"});
  }
  return config;
}

}  // namespace

absl::StatusOr<Model> LearnModel(const Checkpoint& checkpoint, const std::map<std::string, CanonicalTensor>& tensors,
                                 const ModelOptions& options) {
  Model model;
  SLIPWAY_ASSIGN_OR_RETURN(model.hf_config, LoadHfConfig(options.hf_config, model.notes));
  StatedConfiguration arguments;
  if (checkpoint.arguments != nullptr) {
    SLIPWAY_ASSIGN_OR_RETURN(arguments, ReadArguments(*checkpoint.arguments));
  }
  StatedConfiguration hf_config;
  if (!model.hf_config.is_null()) {
    SLIPWAY_ASSIGN_OR_RETURN(hf_config, ReadHfConfig(model.hf_config));
  }
  std::vector<std::string> unsupported = arguments.unsupported;
  unsupported.insert(unsupported.end(), hf_config.unsupported.begin(), hf_config.unsupported.end());
  if (model.hf_config.is_null() && (checkpoint.arguments == nullptr || checkpoint.arguments->empty())) {
    return Error(Reason::kConfigurationInvalid,
                 fmt::format("the checkpoint, by {}, has no training arguments: give the model's Hugging Face "
                             "directory with --hf-config",
                             checkpoint.writer));
  }
  const Architecture* const of_config =
      FindArchitecture(options.architecture.empty() ? ClassOf(model.hf_config) : options.architecture);
  SLIPWAY_ASSIGN_OR_RETURN(
      model.configuration,
      ResolveConfiguration(arguments, hf_config, of_config != nullptr && of_config->beyond_arguments, tensors,
                           model.notes));
  for (const std::string& fact : unsupported) {
    model.configuration.special.emplace(fact.substr(0, fact.find(' ')), fact);
  }
  SLIPWAY_RETURN_IF_ERROR(RefuseUnknownFacts(model.configuration));
  SLIPWAY_ASSIGN_OR_RETURN(model.architecture,
                           ChooseArchitecture(model.configuration, options.architecture, model.hf_config, model.notes));
  if (model.architecture->beyond_arguments && model.hf_config.is_null()) {
    return NeedsConfig(*model.architecture);
  }
  return model;
}

}  // namespace slipway::engine
