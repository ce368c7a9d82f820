// The Hugging Face directory around the weights: config.json, generation_config.json, tokenizer and chat template.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/dtype.h"
#include "worker/engine/model/model.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/target/hf_directory.h"

namespace slipway::engine {

struct HuggingFaceFiles {
  std::vector<TextFile> texts;
  std::vector<SidecarFile> sidecars;
  std::vector<std::string> warnings;
};

// `dtype` is that of the exported weights. Files come from --hf-config where it has them, else from the tokenizer that
// Megatron saved beside the weights (<iteration>/tokenizer). Errors as HfDirectory.
absl::StatusOr<HuggingFaceFiles> MakeHuggingFaceFiles(const Model& model, const Checkpoint& checkpoint,
                                                      const ExportOptions& options, DType dtype);

// The files around the weights of `directory` that are taken along: tokenizer, chat template, generation config,
// processors; with `allow_custom_code` *.py. Fills files.sidecars (sorted) and files.warnings, which name the directory
// as `origin`. Errors as HfDirectory.
absl::Status TakeFilesAlong(const HfDirectory& directory, std::string_view origin, bool allow_custom_code,
                            HuggingFaceFiles& files);

}  // namespace slipway::engine
