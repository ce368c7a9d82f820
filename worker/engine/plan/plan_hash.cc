#include "worker/engine/plan/plan_hash.h"

#include <array>
#include <bit>
#include <span>
#include <string_view>

namespace slipway::engine {
namespace {

static_assert(std::endian::native == std::endian::little);

class Serializer {
 public:
  void Number(std::int64_t value) { digest_.Update(std::as_bytes(std::span(&value, 1))); }
  void Count(std::size_t value) { Number(static_cast<std::int64_t>(value)); }
  void Text(std::string_view text) {
    Count(text.size());
    digest_.Update(text);
  }
  void Numbers(std::span<const std::int64_t> values) {
    Count(values.size());
    digest_.Update(std::as_bytes(values));
  }
  [[nodiscard]] std::string Finish() { return digest_.Finish(); }

 private:
  Digest digest_{DigestAlgorithm::kSha256};
};

// Part of the serialisation; a new number whenever its form or the meaning of anything in it changes.
constexpr std::int64_t kVersion = 6;

std::string OutputHash(const ExportPlan& plan) {
  Serializer out;
  out.Text("slipway output");
  out.Number(kVersion);
  out.Text(NameOf(plan.options.digest));
  out.Count(plan.tensors.size());
  for (const OutputTensor& tensor : plan.tensors) {
    out.Text(tensor.name);
    out.Text(InfoOf(tensor.dtype).safetensors_name);
    out.Numbers(tensor.shape);
    out.Text(plan.shards[static_cast<std::size_t>(tensor.shard)].file);
    out.Number(tensor.file_offset);
  }
  out.Count(plan.texts.size());
  for (const TextFile& text : plan.texts) {
    out.Text(text.path);
    out.Text(text.content);
  }
  return out.Finish();
}

void AddFloats(std::span<const float> values, Serializer& out) {
  out.Count(values.size());
  for (const float value : values) {
    out.Number(std::bit_cast<std::int32_t>(value));
  }
}

// What is done to the elements on the way: it differs between checkpoints that hold the same model otherwise (FP32
// masters, norms stored minus 1).
void AddTransform(const OutputTensor& tensor, Serializer& out) {
  const bool permuted = !tensor.permutation.IsNone();
  const bool factors = tensor.column_factors != nullptr;
  out.Number((tensor.transform.add_one ? 1 : 0) | (permuted ? 2 : 0) | (tensor.update ? 4 : 0) | (factors ? 8 : 0));
  if (factors) {
    AddFloats(*tensor.column_factors, out);
  }
  if (permuted) {
    out.Numbers(tensor.permutation.view);
    for (const std::uint8_t axis : tensor.permutation.order) {  // as many as the view has axes
      out.Number(axis);
    }
  }
  if (tensor.update) {
    out.Number(tensor.update->rank);
    out.Number(std::bit_cast<std::int32_t>(tensor.update->scale));
    out.Text(InfoOf(tensor.update->a_dtype).safetensors_name);
    out.Text(InfoOf(tensor.update->b_dtype).safetensors_name);
    out.Number(tensor.update->block_rows.value_or(0));
    out.Number(tensor.update->updated_rows);
  }
  out.Text(InfoOf(tensor.transform.from).safetensors_name);
  out.Text(InfoOf(tensor.transform.to).safetensors_name);
  out.Number(tensor.scales ? 1 : 0);
  if (tensor.scales) {
    out.Number(tensor.scales->rows);
    out.Number(tensor.scales->columns);
    AddFloats({&tensor.scales->factor, 1}, out);
  }
}

void AddRegion(const SourceRegion& region, Serializer& out) {
  out.Number(region.tensor);
  out.Numbers(region.offsets);
  out.Numbers(region.sizes);
}

void AddSource(const Checkpoint& checkpoint, Serializer& out) {
  out.Text(NameOf(checkpoint.format));
  out.Number(checkpoint.iteration);
  out.Count(checkpoint.files.size());
  for (const CheckpointFile& file : checkpoint.files) {
    out.Text(file.name);
    out.Number(file.identity.size);
    out.Number(file.identity.modified_ns);
  }
  out.Count(checkpoint.tensors.size());
  for (const StoredTensor& tensor : checkpoint.tensors) {
    out.Text(tensor.name);
    out.Numbers(tensor.shape);
    out.Count(tensor.pieces.size());
    for (const Piece& piece : tensor.pieces) {
      out.Numbers(piece.offsets);
      out.Numbers(piece.sizes);
      out.Numbers(piece.strides);
      out.Numbers(std::array<std::int64_t, 4>{piece.file, piece.position, piece.length, piece.in_archive ? 1 : 0});
    }
  }
}

void AddSources(const OutputTensor& tensor, Serializer& out) {
  AddTransform(tensor, out);
  out.Count(tensor.regions.size());
  for (const SourceRegion& region : tensor.regions) {
    AddRegion(region, out);
  }
  if (tensor.scales) {
    out.Count(tensor.scales->regions.size());
    for (const SourceRegion& region : tensor.scales->regions) {
      AddRegion(region, out);
    }
  }
  if (tensor.update) {
    for (const std::vector<SourceRegion>* factor : {&tensor.update->a, &tensor.update->b}) {
      out.Count(factor->size());
      for (const SourceRegion& region : *factor) {
        AddRegion(region, out);
      }
    }
  }
}

void AddOptional(const std::optional<float>& value, Serializer& out) {
  AddFloats(value ? std::span(&*value, 1) : std::span<const float>(), out);
}

void AddCoding(const Coding& coding, Serializer& out) {
  const float bound = coding.bound;
  for (const auto number : {static_cast<std::int64_t>(coding.element), static_cast<std::int64_t>(coding.sharing),
                            static_cast<std::int64_t>(coding.group), static_cast<std::int64_t>(coding.rule),
                            static_cast<std::int64_t>(coding.packing), static_cast<std::int64_t>(coding.search)}) {
    out.Number(number);
  }
  AddFloats({&bound, 1}, out);
  out.Text(InfoOf(coding.scale_dtype).safetensors_name);
}

void AddQuantization(const ExportPlan& plan, Serializer& out) {
  for (const OutputTensor& tensor : plan.tensors) {
    if (tensor.quantized) {
      out.Number(tensor.quantized->weight);
      out.Number(static_cast<std::int64_t>(tensor.quantized->role));
      AddFloats({&tensor.quantized->constant, 1}, out);
      out.Number(tensor.quantized->word);
    }
  }
  out.Count(plan.quantized.size());
  for (const QuantizedWeight& weight : plan.quantized) {
    AddSources(weight.values, out);
    AddCoding(weight.coding, out);
    out.Number(weight.rows);
    out.Number(weight.columns);
    out.Numbers(std::array<std::int64_t, 3>{weight.stack, weight.first_kept_column, weight.kept_columns});
    out.Count(weight.scale_rows.size());
    out.Numbers(weight.scale_rows);
    out.Number(weight.scale_group);
    AddOptional(weight.input_amax, out);
    out.Count(weight.input_amaxes.size());
    AddFloats(weight.input_amaxes, out);
    AddFloats(weight.pre_quant_scale ? std::span<const float>(*weight.pre_quant_scale) : std::span<const float>(), out);
    out.Count(weight.amaxes ? weight.amaxes->regions.size() : 0);
    if (weight.amaxes) {
      AddFloats({&weight.amaxes->factor, 1}, out);
      for (const SourceRegion& region : weight.amaxes->regions) {
        AddRegion(region, out);
      }
    }
  }
  for (const ScaleGroup& group : plan.scale_groups) {
    AddOptional(group.amax, out);
    out.Count(group.measured.size());
    for (const OutputTensor& matrix : group.measured) {
      AddSources(matrix, out);
    }
  }
}

std::string PlanHash(const ExportPlan& plan) {
  Serializer out;
  out.Text("slipway plan");
  out.Text(plan.output_hash);
  AddSource(*plan.checkpoint, out);
  for (const OutputTensor& tensor : plan.tensors) {
    AddSources(tensor, out);
  }
  AddQuantization(plan, out);
  out.Count(plan.unused.size());
  for (const UnusedRegion& unused : plan.unused) {
    AddRegion(unused.region, out);
  }
  out.Count(plan.sidecars.size());
  for (const SidecarFile& sidecar : plan.sidecars) {
    out.Text(sidecar.path);
    out.Number(sidecar.identity.size);
    out.Number(sidecar.identity.modified_ns);
  }
  return out.Finish();
}

}  // namespace

void HashPlan(ExportPlan& plan) {
  plan.output_hash = OutputHash(plan);
  plan.hash = PlanHash(plan);
}

}  // namespace slipway::engine
