#include "worker/engine/target/sharded_state/note.h"

#include <fmt/format.h>

namespace slipway::engine::sharded_state {

std::string ServeCommand(const Engine& engine, const RankRequest& request) {
  std::string command = fmt::format("{} {} {}", engine.serve, engine.tensor_parallel_option, request.tensor_parallel);
  if (request.pipeline_parallel > 1) {
    command += fmt::format(" {} {}", engine.pipeline_parallel_option, request.pipeline_parallel);
  }
  return command;
}

std::string FilePattern(const RankRequest& request) {
  return request.pipeline_parallel > 1 ? "model-pp-{stage}-tp-{rank}-part-{part}.safetensors"
                                       : "model-rank-{rank}-part-{part}.safetensors";
}

TextFile MakeNote(const Engine& engine, const RankRequest& request, const std::vector<std::int64_t>& layers_of_stages) {
  const nlohmann::ordered_json note{{"load_format", "sharded_state"},
                                    {"engine", engine.word},
                                    {"engine_version", engine.version},
                                    {"tensor_parallel", request.tensor_parallel},
                                    {"pipeline_parallel", request.pipeline_parallel},
                                    {"layers_of_stages", layers_of_stages},
                                    {"files", FilePattern(request)},
                                    {"serve", ServeCommand(engine, request)}};
  return {kNoteFile, note.dump(2) + "\n"};
}

}  // namespace slipway::engine::sharded_state
