#include "worker/engine/target/huggingface.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/target/hf_directory.h"
#include "worker/engine/target/huggingface_config.h"
#include "worker/engine/target/token_ids.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaximumText = 64 << 20;

// What is taken along, where it is there.
constexpr std::array<std::string_view, 17> kSidecarNames = {"tokenizer.json",
                                                            "tokenizer_config.json",
                                                            "special_tokens_map.json",
                                                            "tokenizer.model",
                                                            "vocab.json",
                                                            "merges.txt",
                                                            "vocab.txt",
                                                            "added_tokens.json",
                                                            "chat_template.jinja",
                                                            "chat_template.json",
                                                            "generation_config.json",
                                                            "preprocessor_config.json",
                                                            "processor_config.json",
                                                            "video_preprocessor_config.json",
                                                            "spiece.model",
                                                            "sentencepiece.bpe.model",
                                                            "tekken.json"};

// One of these makes a tokenizer.
constexpr std::array<std::string_view, 4> kVocabularies = {"tokenizer.json", "tokenizer.model", "vocab.json",
                                                           "vocab.txt"};

bool HasVocabulary(const HfDirectory& directory) {
  return std::ranges::any_of(kVocabularies, [&](std::string_view name) { return directory.Has(std::string(name)); });
}

std::string Print(const json& value) { return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n"; }

class FileCollector {
 public:
  explicit FileCollector(HuggingFaceFiles& files) : files_(files) {}

  absl::Status TakeAll(const HfDirectory& directory) {
    for (const std::string_view name : kSidecarNames) {
      if (directory.Has(std::string(name)) && !Taken(name)) {
        SLIPWAY_RETURN_IF_ERROR(Take(directory, std::string(name)));
      }
    }
    return absl::OkStatus();
  }

  absl::Status TakeCode(const HfDirectory& directory, std::string_view origin, bool allowed) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::vector<std::string> names, directory.Files());
    std::int64_t left = 0;
    for (const std::string& name : names) {
      if (!name.ends_with(".py")) {
        continue;
      }
      if (allowed) {
        SLIPWAY_RETURN_IF_ERROR(Take(directory, name));
      }
      left += allowed ? 0 : 1;
    }
    if (left > 0) {
      files_.warnings.push_back(fmt::format(
          "{} Python file(s) of {} are left out: give --allow-custom-code to take them along", left, origin));
    }
    return absl::OkStatus();
  }

  [[nodiscard]] bool Taken(std::string_view name) const {
    return std::ranges::find(files_.sidecars, name, &SidecarFile::path) != files_.sidecars.end();
  }

 private:
  absl::Status Take(const HfDirectory& directory, const std::string& name) {
    SLIPWAY_ASSIGN_OR_RETURN(SidecarFile sidecar, directory.Sidecar(name));
    files_.sidecars.push_back(std::move(sidecar));
    return absl::OkStatus();
  }

  HuggingFaceFiles& files_;
};

// Where the tokenizer comes from; nullopt: nowhere.
absl::StatusOr<std::optional<HfDirectory>> TokenizerDirectory(const std::optional<HfDirectory>& hf_config,
                                                              const Checkpoint& checkpoint) {
  if (hf_config && HasVocabulary(*hf_config)) {
    return hf_config;
  }
  if (checkpoint.directory == nullptr || !checkpoint.directory->Exists("tokenizer")) {
    return std::nullopt;
  }
  SLIPWAY_ASSIGN_OR_RETURN(HfDirectory saved, HfDirectory::Open(checkpoint.directory->path() + "/tokenizer"));
  return HasVocabulary(saved) ? std::optional(std::move(saved)) : std::nullopt;
}

absl::StatusOr<json> TokenIds(const std::optional<HfDirectory>& tokenizer) {
  if (!tokenizer || !tokenizer->Has("tokenizer_config.json")) {
    return json::object();
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::string text, tokenizer->Read("tokenizer_config.json", kMaximumText));
  return TokenIdsOf(json::parse(text, nullptr, /*allow_exceptions=*/false));
}

// What transformers itself would derive from the configuration.
json GenerationConfig(const json& config) {
  json generation = {{"_from_model_config", true}};
  for (const char* name : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (const auto id = config.find(name); id != config.end() && !id->is_null()) {
      generation[name] = *id;
    }
  }
  return generation;
}

}  // namespace

absl::StatusOr<HuggingFaceFiles> MakeHuggingFaceFiles(const Model& model, const Checkpoint& checkpoint,
                                                      const ExportOptions& options, DType dtype) {
  HuggingFaceFiles files;
  FileCollector collector(files);
  std::optional<HfDirectory> hf_config;
  if (!options.hf_config.empty()) {
    SLIPWAY_ASSIGN_OR_RETURN(hf_config, HfDirectory::Open(options.hf_config));
    SLIPWAY_RETURN_IF_ERROR(collector.TakeAll(*hf_config));
    SLIPWAY_RETURN_IF_ERROR(collector.TakeCode(*hf_config, "--hf-config", options.allow_custom_code));
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::optional<HfDirectory> tokenizer, TokenizerDirectory(hf_config, checkpoint));
  if (tokenizer) {
    SLIPWAY_RETURN_IF_ERROR(collector.TakeAll(*tokenizer));
  } else {
    files.warnings.emplace_back(
        "the export has no tokenizer: the checkpoint holds none; give the model's Hugging Face directory with "
        "--hf-config, or put tokenizer files into the output");
  }
  SLIPWAY_ASSIGN_OR_RETURN(const json token_ids, TokenIds(tokenizer));
  const json config = MakeHuggingFaceConfig(model, token_ids, dtype, options.allow_custom_code, files.warnings);
  files.texts.push_back({.path = "config.json", .content = Print(config)});
  if (!collector.Taken("generation_config.json")) {
    files.texts.push_back({.path = "generation_config.json", .content = Print(GenerationConfig(config))});
  }
  std::ranges::sort(files.sidecars, {}, &SidecarFile::path);
  return files;
}

absl::Status TakeFilesAlong(const HfDirectory& directory, std::string_view origin, bool allow_custom_code,
                            HuggingFaceFiles& files) {
  FileCollector collector(files);
  SLIPWAY_RETURN_IF_ERROR(collector.TakeAll(directory));
  SLIPWAY_RETURN_IF_ERROR(collector.TakeCode(directory, origin, allow_custom_code));
  std::ranges::sort(files.sidecars, {}, &SidecarFile::path);
  return absl::OkStatus();
}

}  // namespace slipway::engine
