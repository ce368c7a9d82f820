"""Undoes a quantized TensorRT-LLM checkpoint: codes and scales of each rank to values, and those as tensorrt_llm.py does.

Written after the description of the format, with nothing of Slipway's.
"""
import struct

from quantized import FP4, FP8, fp32, values_of
from tensorrt_llm import Checkpoint

# What stands for a weight besides it.
SCALES = ("weights_scaling_factor", "weights_scaling_factor_2", "activation_scaling_factor", "per_channel_scale",
          "prequant_scaling_factor")
# Where ranks share the columns: scales of rows are the same on each.
BY_COLUMNS = ("attention.dense", "mlp.proj", "mlp.shared_expert.proj")


def decoded(tensors, module, algorithm, group):
    """A module's weight on a rank as values, after the description of the format; None where it is not quantized."""
    get = lambda suffix: values_of(tensors[f"{module}.{suffix}"])  # noqa: E731
    dtype, stored, data = tensors[f"{module}.weight"]
    if dtype in ("F8_E4M3", "U8") or dtype == "I8":
        *stack, rows, columns = stored
    else:
        return None
    if dtype == "U8":
        columns *= 2
        elements = [FP4[code] for byte in data for code in (byte & 15, byte >> 4)]
    elif algorithm.endswith("AWQ"):
        rows *= 2
        elements = []
        for line in range(0, len(data), columns):
            nibbles = [(byte & 15, byte >> 4) for byte in data[line:line + columns]]
            elements += [code - 16 * (code > 7) for pair in zip(*nibbles) for code in pair]
    else:
        elements = [FP8[code] if dtype == "F8_E4M3" else code - 256 * (code > 127) for code in data]
    height = rows * (stack[0] if stack else 1)
    if algorithm == "FP8":
        scales = [scale for scale in get("weights_scaling_factor") for _ in range(rows)]
        width = columns
    elif algorithm == "FP8_PER_CHANNEL_PER_TOKEN":
        scales, width = get("per_channel_scale"), columns
    elif algorithm == "W8A8_SQ_PER_CHANNEL":
        scales, width = get("weights_scaling_factor"), columns
    else:
        scales, width = get("weights_scaling_factor"), 16 if algorithm == "NVFP4" else group
        if algorithm == "NVFP4":
            each = rows * columns // width
            seconds = get("weights_scaling_factor_2")
            scales = [fp32(scale * seconds[i // each]) for i, scale in enumerate(scales)]
    if len(elements) != height * columns or len(scales) != height * (columns // width):
        raise ValueError(f"{module}: {len(elements)} elements and {len(scales)} scales of {stored}")
    values = [element * scales[i // width] for i, element in enumerate(elements)]
    if f"{module}.prequant_scaling_factor" in tensors:
        factors = get("prequant_scaling_factor")
        if tensors[f"{module}.prequant_scaling_factor"][1] != (*stack, columns):
            raise ValueError(f"{module}.prequant_scaling_factor")
        values = [value * factors[i % columns] for i, value in enumerate(values)]
    return "F32", (*stack, rows, columns), struct.pack(f"<{len(values)}f", *values)


class QuantizedCheckpoint(Checkpoint):
    """Of quantized ranks; `scales` has, by stage and name, what all ranks of a stage have alike."""

    def __init__(self, directory, model_type):
        super().__init__(directory, model_type)
        settings = self.config["quantization"]
        self.scales = {}
        for number, rank in enumerate(self.ranks):
            stage = number // self.size
            for name in [name for name in rank if name.endswith("attention.kv_cache_scaling_factor")]:
                self.keep(stage, name, rank.pop(name))
            for module in [name.removesuffix(".weight") for name in rank if name.endswith(".weight")]:
                weight = decoded(rank, module, settings["quant_algo"], settings.get("group_size", 128))
                if weight is None:
                    continue
                rank[f"{module}.weight"] = weight
                for suffix in SCALES:
                    name = f"{module}.{suffix}"
                    if name not in rank:
                        continue
                    of_rows = suffix == "per_channel_scale" or settings["quant_algo"] == "W8A8_SQ_PER_CHANNEL"
                    common = rank[name][1] in ((), (1,)) or (
                        suffix == "prequant_scaling_factor" and not module.endswith(BY_COLUMNS)) or (
                        of_rows and suffix != "prequant_scaling_factor" and module.endswith(BY_COLUMNS))
                    tensor = rank.pop(name)
                    if common:
                        self.keep(stage, name, tensor)

    def keep(self, stage, name, tensor):
        if self.scales.setdefault((stage, name), tensor) != tensor:
            raise ValueError(f"{name} differs between the ranks of stage {stage}")

    def scale(self, stage, name):
        dtype, shape, data = self.scales[stage, name]
        if dtype != "F32" or shape not in ((), (1,)):
            raise ValueError(f"{name} is {dtype} {shape}")
        return struct.unpack("<f", data)[0]
