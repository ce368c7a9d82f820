// The plan for people and programs.
#include <cstddef>
#include <span>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

ordered_json Numbers(std::span<const std::int64_t> values) {
  return ordered_json(ordered_json::array_t(values.begin(), values.end()));
}

ordered_json RegionToJson(const SourceRegion& region, const Checkpoint& checkpoint) {
  if (region.tensor == kZeros) {
    return {{"zeros", Numbers(region.sizes)}};
  }
  return {{"tensor", checkpoint.tensors[static_cast<std::size_t>(region.tensor)].name},
          {"offsets", Numbers(region.offsets)},
          {"sizes", Numbers(region.sizes)}};
}

// "copy", "cast F32 to BF16", "permute axes, add one", ...
std::string TransformToText(const OutputTensor& tensor) {
  const ElementTransform& transform = tensor.transform;
  if (tensor.scales) {
    return fmt::format("dequantize {} blocks of {} x {} to {}",
                       ElementsPerStored(tensor) == 2 ? "E2M1" : InfoOf(transform.from).safetensors_name,
                       tensor.scales->rows, tensor.scales->columns, InfoOf(transform.to).safetensors_name);
  }
  std::string text;
  const auto add = [&text](const std::string& step) { text += (text.empty() ? "" : ", ") + step; };
  if (!tensor.permutation.IsNone()) {
    add("permute axes");
  }
  if (transform.add_one) {
    add("add one");
  }
  if (tensor.update) {
    add(fmt::format("add {} of rank {}", tensor.update->block_rows ? "products" : "an update", tensor.update->rank));
  }
  if (transform.from != transform.to) {
    add("cast " + std::string(InfoOf(transform.from).safetensors_name) + " to " +
        std::string(InfoOf(transform.to).safetensors_name));
  }
  if (tensor.column_factors != nullptr) {
    add("multiply by the scales of inputs");
  }
  return text.empty() ? "copy" : text;
}

ordered_json UpdateToJson(const LowRankUpdate& update, const Checkpoint& checkpoint) {
  const auto regions = [&checkpoint](const std::vector<SourceRegion>& factor) {
    ordered_json list = ordered_json::array();
    for (const SourceRegion& region : factor) {
      list.push_back(RegionToJson(region, checkpoint));
    }
    return list;
  };
  ordered_json json = {{"rank", update.rank},
                       {"scale", update.scale},
                       {"a", update.block_rows ? regions(update.a) : RegionToJson(update.a.front(), checkpoint)},
                       {"b", regions(update.b)}};
  if (update.block_rows) {
    json["block_rows"] = *update.block_rows;
    json["updated_rows"] = update.updated_rows;
  }
  return json;
}

std::string_view NameOf(StoredRole role) {
  switch (role) {
    case StoredRole::kCodes:
      return "codes";
    case StoredRole::kScales:
      return "scales";
    case StoredRole::kTensorScale:
      return "scale of the tensor";
    case StoredRole::kFloat8Scale:
      return "scale of the tensor in FP8";
    case StoredRole::kInputScale:
    case StoredRole::kInputScaleReciprocal:
      return "scale of the input";
    case StoredRole::kShape:
      return "shape";
    case StoredRole::kZeroPoints:
    case StoredRole::kConstantZeroPoints:
      return "zero points";
    case StoredRole::kGroupIndex:
      return "groups of columns";
    case StoredRole::kPreQuantScale:
      return "factors of the input";
  }
  return "";
}

ordered_json SourcesToJson(const OutputTensor& tensor, const Checkpoint& checkpoint);

// Of an output that stands for a quantized weight: what its values go through before they are quantized, and where they
// come from.
ordered_json QuantizedToJson(const ExportPlan& plan, const OutputTensor& tensor) {
  ordered_json json = {{"name", tensor.name},
                       {"dtype", InfoOf(tensor.dtype).safetensors_name},
                       {"shape", Numbers(tensor.shape)},
                       {"offset", tensor.file_offset},
                       {"bytes", tensor.bytes}};
  const QuantizedPart& part = *tensor.quantized;
  if (part.weight < 0) {
    json["transform"] = fmt::format("constant {}", part.constant);
    json["sources"] = ordered_json::array();
    return json;
  }
  const QuantizedWeight& weight = plan.quantized[static_cast<std::size_t>(part.weight)];
  json["transform"] = TransformToText(weight.values);
  json["quantization"] = {{"format", weight.format->name}, {"holds", NameOf(part.role)}, {"of", weight.values.name}};
  json.update(SourcesToJson(weight.values, *plan.checkpoint));
  return json;
}

ordered_json TensorToJson(const ExportPlan& plan, const OutputTensor& tensor) {
  if (tensor.quantized) {
    return QuantizedToJson(plan, tensor);
  }
  ordered_json json = {{"name", tensor.name},
                       {"dtype", InfoOf(tensor.dtype).safetensors_name},
                       {"shape", Numbers(tensor.shape)},
                       {"offset", tensor.file_offset},
                       {"bytes", tensor.bytes},
                       {"transform", TransformToText(tensor)}};
  json.update(SourcesToJson(tensor, *plan.checkpoint));
  return json;
}

ordered_json SourcesToJson(const OutputTensor& tensor, const Checkpoint& checkpoint) {
  ordered_json json;
  ordered_json sources = ordered_json::array();
  for (const SourceRegion& region : tensor.regions) {
    sources.push_back(RegionToJson(region, checkpoint));
  }
  if (!tensor.permutation.IsNone()) {
    json["permutation"] = {{"view", Numbers(tensor.permutation.view)}, {"order", tensor.permutation.order}};
  }
  json["sources"] = std::move(sources);
  if (tensor.scales) {
    for (const SourceRegion& region : tensor.scales->regions) {
      json["scales"].push_back(RegionToJson(region, checkpoint));
    }
  }
  if (tensor.update) {
    json["update"] = UpdateToJson(*tensor.update, checkpoint);
  }
  return json;
}

ordered_json FilesToJson(const ExportPlan& plan, bool with_tensors) {
  ordered_json files = ordered_json::array();
  for (const Shard& shard : plan.shards) {
    ordered_json& file = files.emplace_back(
        ordered_json{{"file", shard.file}, {"bytes", shard.bytes}, {"tensor_count", shard.tensor_count}});
    if (!with_tensors) {
      continue;
    }
    ordered_json& tensors = file["tensors"] = ordered_json::array();
    for (const OutputTensor& tensor :
         std::span(plan.tensors)
             .subspan(static_cast<std::size_t>(shard.first_tensor), static_cast<std::size_t>(shard.tensor_count))) {
      tensors.push_back(TensorToJson(plan, tensor));
    }
  }
  return files;
}

// Entries that are no weights, and parts of weights that the output does not have.
ordered_json IgnoredToJson(const ExportPlan& plan) {
  ordered_json ignored = ordered_json::array();
  for (const IgnoredEntries& entries : plan.checkpoint->ignored) {
    ignored.push_back({{"reason", entries.reason},
                       {"count", entries.count},
                       {"bytes", entries.bytes},
                       {"examples", entries.examples}});
  }
  for (const UnusedRegion& unused : plan.unused) {
    ordered_json entry = {{"reason", unused.reason}};
    entry.update(RegionToJson(unused.region, *plan.checkpoint));
    ignored.push_back(std::move(entry));
  }
  return ignored;
}

}  // namespace

std::string PlanToJson(const ExportPlan& plan, bool with_tensors) {
  ordered_json texts = ordered_json::array();
  for (const TextFile& text : plan.texts) {
    texts.push_back({{"path", text.path}, {"content", text.content}});
  }
  ordered_json sidecars = ordered_json::array();
  for (const SidecarFile& sidecar : plan.sidecars) {
    sidecars.push_back({{"path", sidecar.path}, {"source", sidecar.source}, {"bytes", sidecar.identity.size}});
  }
  ordered_json json = {{"hash", plan.hash},
                       {"output_hash", plan.output_hash},
                       {"architecture", plan.architecture},
                       {"model_type", plan.model_type},
                       {"parameters", plan.parameters},
                       {"input_bytes", plan.input_bytes},
                       {"output_bytes", plan.output_bytes},
                       {"peak_memory_bytes", plan.peak_memory_bytes},
                       {"warnings", plan.warnings},
                       {"ignored", IgnoredToJson(plan)},
                       {"files", FilesToJson(plan, with_tensors)},
                       {"texts", std::move(texts)},
                       {"sidecars", std::move(sidecars)}};
  for (const TargetDirectory& directory : plan.directories) {
    json["directories"].push_back({{"target", directory.alone->options.targets.front()},
                                   {"path", directory.path},
                                   {"hash", directory.alone->hash},
                                   {"output_hash", directory.alone->output_hash}});
  }
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace slipway::engine
