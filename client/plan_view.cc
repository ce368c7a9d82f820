#include "client/plan_view.h"

#include <cstdint>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "client/human.h"
#include "client/table.h"
#include "client/terminal.h"

namespace slipway {
namespace {

using Json = nlohmann::ordered_json;
using Pairs = std::vector<std::pair<std::string, std::string>>;

// A member, or null: what comes from a server may lack anything.
const Json& At(const Json& object, const char* key) {
  static const Json kNull;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : kNull;
}

std::int64_t IntegerAt(const Json& object, const char* key) {
  const Json& value = At(object, key);
  return value.is_number() ? value.get<std::int64_t>() : 0;
}

// A value in one line: strings as they are, arrays as [1, 2].
std::string TextOf(const Json& value) {
  if (value.is_null()) {
    return "";
  }
  if (value.is_string()) {
    return value.get<std::string>();
  }
  if (!value.is_array()) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  std::string text;
  for (const Json& element : value) {
    text += (text.empty() ? "" : ", ") + TextOf(element);
  }
  return "[" + text + "]";
}

std::string TextAt(const Json& object, const char* key) { return TextOf(At(object, key)); }

// "name value, name value" of an object's members that are not zero, null or empty.
std::string Members(const Json& object) {
  std::string text;
  for (const auto& [name, value] : object.items()) {
    const bool empty = value.is_null() || value == 0 || value == "";
    text += empty ? "" : fmt::format("{}{} {}", text.empty() ? "" : ", ", name, TextOf(value));
  }
  return text;
}

std::string RenderIgnored(const Json& ignored, int width) {
  if (!ignored.is_array() || ignored.empty()) {
    return "";
  }
  Table table({{.title = "IGNORED", .minimum = 20},
               {.title = "COUNT", .align_right = true},
               {.title = "SIZE", .align_right = true},
               {.title = "FOR EXAMPLE", .minimum = 12}});
  for (const Json& entry : ignored) {
    const std::int64_t bytes = IntegerAt(entry, "bytes");
    const Json& examples = At(entry, "examples");
    table.AddRow({TextAt(entry, "reason"), HumanCount(IntegerAt(entry, "count")), bytes < 0 ? "?" : HumanBytes(bytes),
                  examples.is_array() && !examples.empty() ? TextOf(examples[0]) : ""});
  }
  return "\n" + table.Render(width);
}

std::string RenderNotes(const char* kind, const Json& notes) {
  std::string text;
  if (notes.is_array()) {
    for (const Json& note : notes) {
      text += fmt::format("{}: {}\n", kind, Printable(TextOf(note)));
    }
  }
  return text;
}

std::string RenderFiles(const Json& plan, int width) {
  Table table({{.title = "FILE", .minimum = 16},
               {.title = "TENSORS", .align_right = true},
               {.title = "SIZE", .align_right = true}});
  for (const Json& file : At(plan, "files")) {
    table.AddRow({TextAt(file, "file"), HumanCount(static_cast<std::int64_t>(At(file, "tensors").size())),
                  HumanBytes(IntegerAt(file, "bytes"))});
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
  std::size_t tensor_count = 0;
  for (const Json& file : At(plan, "files")) {
    tensor_count += At(file, "tensors").size();
  }
  std::string text = RenderPairs({
      {"model",
       fmt::format("{}, {} parameters", TextAt(plan, "architecture"), HumanParameters(IntegerAt(plan, "parameters")))},
      {"reads", HumanBytes(IntegerAt(plan, "input_bytes"))},
      {"writes", fmt::format("{}, {} in {}", HumanCount(static_cast<std::int64_t>(tensor_count), "tensor"),
                             HumanBytes(IntegerAt(plan, "output_bytes")),
                             HumanCount(static_cast<std::int64_t>(At(plan, "files").size()), "file"))},
      {"peak memory", HumanBytes(IntegerAt(plan, "peak_memory_bytes")) + " a worker"},
      {"plan", TextAt(plan, "hash")},
  });
  text += RenderNotes("warning", At(plan, "warnings"));
  text += RenderFiles(plan, width);
  text += RenderIgnored(At(plan, "ignored"), width);
  return tensors ? text + RenderPlanTensors(plan, width) : text;
}

std::string RenderInspection(const Json& inspection, int width) {
  const std::int64_t parameters = IntegerAt(inspection, "parameters");
  const std::string architecture = TextAt(inspection, "architecture");
  std::string text = RenderPairs({
      {"checkpoint", TextAt(inspection, "path")},
      {"format", TextAt(inspection, "format")},
      {"written by", TextAt(inspection, "writer")},
      {"iteration", TextAt(inspection, "iteration")},
      {"version", TextAt(inspection, "checkpoint_version")},
      {"model", architecture.empty() ? "not recognized"
                                     : fmt::format("{}, {} parameters", architecture, HumanParameters(parameters))},
      {"layout", Members(At(inspection, "layout"))},
      {"tensors", fmt::format("{} ({}), {}", HumanCount(IntegerAt(inspection, "tensor_count")),
                              Members(At(inspection, "dtypes")), HumanBytes(IntegerAt(inspection, "weight_bytes")))},
      {"files", fmt::format("{}, {}", HumanCount(IntegerAt(At(inspection, "files"), "count")),
                            HumanBytes(IntegerAt(At(inspection, "files"), "bytes")))},
  });
  text += RenderNotes("problem", At(inspection, "problems"));
  Pairs configuration;
  for (const auto& [name, value] : At(inspection, "configuration").items()) {
    configuration.emplace_back("  " + name, TextOf(value));
  }
  text += configuration.empty() ? "" : "\nCONFIGURATION\n" + RenderPairs(configuration);
  text += RenderIgnored(At(inspection, "ignored"), width);
  const Json& tensors = At(inspection, "tensors");
  if (tensors.is_array()) {
    Table table({{.title = "TENSOR", .minimum = 24},
                 {.title = "DTYPE"},
                 {.title = "SHAPE"},
                 {.title = "PIECES", .align_right = true},
                 {.title = "SIZE", .align_right = true}});
    for (const Json& tensor : tensors) {
      table.AddRow({TextAt(tensor, "name"), TextAt(tensor, "dtype"), TextAt(tensor, "shape"), TextAt(tensor, "pieces"),
                    HumanBytes(IntegerAt(tensor, "bytes"))});
    }
    text += "\n" + table.Render(width);
  }
  return text;
}

}  // namespace slipway
