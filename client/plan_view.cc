#include "client/plan_view.h"

#include <cstdint>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "client/human.h"
#include "client/json_text.h"
#include "client/table.h"

namespace slipway {
namespace {

using Json = nlohmann::ordered_json;

std::string RenderFiles(const Json& plan, int width) {
  Table table({{.title = "FILE", .minimum = 16},
               {.title = "TENSORS", .align_right = true},
               {.title = "SIZE", .align_right = true}});
  for (const Json& file : At(plan, "files")) {
    table.AddRow(
        {TextAt(file, "file"), HumanCount(IntegerAt(file, "tensor_count")), HumanBytes(IntegerAt(file, "bytes"))});
  }
  return "\n" + table.Render(width);
}

std::string RenderPlanTensors(const Json& plan, int width) {
  Table table({{.title = "TENSOR", .minimum = 24},
               {.title = "DTYPE"},
               {.title = "SHAPE"},
               {.title = "FROM", .minimum = 16},
               {.title = "HOW"}});
  for (const Json& file : At(plan, "files")) {
    for (const Json& tensor : At(file, "tensors")) {
      const Json& sources = At(tensor, "sources");
      const std::string from = sources.is_array() && !sources.empty() ? TextAt(sources[0], "tensor") : "";
      table.AddRow({TextAt(tensor, "name"), TextAt(tensor, "dtype"), TextAt(tensor, "shape"), from,
                    TextAt(tensor, "transform")});
    }
  }
  return "\n" + table.Render(width);
}

}  // namespace

std::string RenderPlan(const Json& plan, bool tensors, int width) {
  std::int64_t tensor_count = 0;
  for (const Json& file : At(plan, "files")) {
    tensor_count += IntegerAt(file, "tensor_count");
  }
  std::vector<std::pair<std::string, std::string>> pairs = {
      {"model",
       fmt::format("{}, {} parameters", TextAt(plan, "architecture"), HumanParameters(IntegerAt(plan, "parameters")))},
      {"reads", HumanBytes(IntegerAt(plan, "input_bytes"))},
      {"writes",
       fmt::format("{}, {} in {}", HumanCount(tensor_count, "tensor"), HumanBytes(IntegerAt(plan, "output_bytes")),
                   HumanCount(static_cast<std::int64_t>(At(plan, "files").size()), "file"))},
      {"peak memory", HumanBytes(IntegerAt(plan, "peak_memory_bytes")) + " a worker"},
      {"plan", TextAt(plan, "hash")},
  };
  for (const Json& directory : At(plan, "directories")) {
    pairs.emplace_back("target", fmt::format("{}, in {}/", TextAt(directory, "target"), TextAt(directory, "path")));
  }
  for (const Json& warning : At(plan, "warnings")) {
    pairs.emplace_back("warning", TextOf(warning));
  }
  std::string text = RenderPairs(pairs, width);
  text += RenderFiles(plan, width);
  text += RenderIgnored(At(plan, "ignored"), width);
  return tensors ? text + RenderPlanTensors(plan, width) : text;
}

}  // namespace slipway
