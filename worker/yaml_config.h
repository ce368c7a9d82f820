// --config files in YAML for CLI11: a flat mapping from the flags' long names to values.
#pragma once

#include <istream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace slipway::worker {

// Reads only. What is not a flat mapping of scalars is a CLI::FileError; names that no flag has are refused by the app.
class YamlConfig final : public CLI::Config {
 public:
  std::string to_config(const CLI::App* app, bool default_also, bool write_description,
                        std::string prefix) const override;
  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override;
};

}  // namespace slipway::worker
