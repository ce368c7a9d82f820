// The note beside the files of a sharded state, for people and for `slipway verify`. Nothing else in such a directory
// says for how many ranks it was made, and an engine that is started with another number may load it without an error
// and answer nonsense.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/engine/target/rank_layout.h"
#include "worker/engine/target/sharded_state/families.h"

namespace slipway::engine::sharded_state {

inline constexpr const char* kNoteFile = "slipway_sharded_state.json";

// "vllm serve DIRECTORY --load-format sharded_state --tensor-parallel-size 2".
std::string ServeCommand(const Engine& engine, const RankRequest& request);

// "model-rank-{rank}-part-{part}.safetensors"; with stages "model-pp-{stage}-tp-{rank}-part-{part}.safetensors". The
// words in braces are replaced by numbers from 0.
std::string FilePattern(const RankRequest& request);

// {"load_format": "sharded_state", "engine": "vllm", "engine_version": "0.32", "tensor_parallel", "pipeline_parallel",
// "layers_of_stages": [N, ...], "files": the pattern, "serve": the command}.
TextFile MakeNote(const Engine& engine, const RankRequest& request, const std::vector<std::int64_t>& layers_of_stages);

}  // namespace slipway::engine::sharded_state
