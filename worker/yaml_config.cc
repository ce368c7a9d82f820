#include "worker/yaml_config.h"

#include <yaml-cpp/yaml.h>

namespace slipway::worker {

std::string YamlConfig::to_config(const CLI::App* /*app*/, bool /*default_also*/, bool /*write_description*/,
                                  std::string /*prefix*/) const {
  return {};
}

std::vector<CLI::ConfigItem> YamlConfig::from_config(std::istream& input) const {
  std::vector<CLI::ConfigItem> settings;
  try {
    const YAML::Node root = YAML::Load(input);
    if (root.IsNull()) {
      return settings;
    }
    if (!root.IsMap()) {
      throw CLI::FileError("the configuration is not a mapping of names to values");
    }
    for (const auto& entry : root) {
      if (!entry.second.IsScalar()) {
        throw CLI::FileError("configuration: '" + entry.first.as<std::string>() + "' is not a single value");
      }
      CLI::ConfigItem& setting = settings.emplace_back();
      setting.name = entry.first.as<std::string>();
      setting.inputs = {entry.second.as<std::string>()};
    }
  } catch (const YAML::Exception& error) {
    throw CLI::FileError(std::string("configuration: ") + error.what());
  }
  return settings;
}

}  // namespace slipway::worker
