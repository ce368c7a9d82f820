#!/usr/bin/env python3
"""compressed_checkpoint.py SOURCE OUTPUT      needs torch and nvidia-modelopt

SOURCE is a `torch_dist` checkpoint that ModelOpt calibrated for NVFP4, with expected.json beside it (tests/data/README.md).
OUTPUT is what mtq.compress and Megatron-LM would have left of it: each rank's piece of a calibrated weight becomes codes
and scales by ModelOpt's NVFP4QTensor.quantize. Scales of a gated linear_fc1 lie as ranks have them, [gate; up] of one
rank after the other. OUTPUT/expected.json has the SHA-256 of what NVFP4QTensor.dequantize makes of them.
"""
import collections
import hashlib
import io
import json
import pathlib
import pickle
import shutil
import sys

import torch
from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (ChunkStorageMetadata, MetadataIndex, TensorProperties,
                                                   TensorStorageMetadata)

BLOCK = 16
RANGE = 6.0 * 448.0  # of codes times scales of blocks
AMAX, SCALE, DOUBLE_SCALE = "_quantizer._amax", "_quantizer._scale", "_quantizer._double_scale"


class Reader:
    def __init__(self, directory):
        self.directory = directory
        self.metadata = pickle.loads((directory / ".metadata").read_bytes())

    def raw(self, info):
        data = (self.directory / info.relative_path).read_bytes()
        return data[info.offset:info.offset + info.length]

    def tensor(self, info):
        return torch.load(io.BytesIO(self.raw(info)), weights_only=False)


class Writer:
    def __init__(self):
        self.entries, self.items = {}, collections.defaultdict(list)

    def keep(self, index, data, file, entry):
        self.entries.setdefault(index.fqn, entry)
        self.items[file].append((index, data))

    def put(self, name, offsets, tensor, file, shape):
        data = io.BytesIO()
        torch.save(tensor.contiguous(), data)
        entry = self.entries.setdefault(name, TensorStorageMetadata(
            properties=TensorProperties(dtype=tensor.dtype), size=torch.Size(shape), chunks=[]))
        entry.chunks.append(ChunkStorageMetadata(offsets=torch.Size(offsets), sizes=tensor.shape))
        self.items[file].append((MetadataIndex(name, torch.Size(offsets)), data.getvalue()))

    def write(self, directory, metadata):
        metadata.state_dict_metadata, metadata.storage_data = self.entries, {}
        for name, items in self.items.items():
            with open(directory / name, "wb") as file:
                for index, data in items:
                    metadata.storage_data[index] = _StorageInfo(relative_path=name, offset=file.tell(), length=len(data))
                    file.write(data)
        (directory / ".metadata").write_bytes(pickle.dumps(metadata))


def value_of(pieces, axis, double_scale):
    """The BF16 weight that (codes, scales) of several ranks stand for."""
    codes = torch.cat([codes for codes, _ in pieces], axis)
    scales = torch.cat([scales.view(torch.uint8) for _, scales in pieces], axis).view(torch.float8_e4m3fn)
    shape = torch.Size([codes.shape[0], 2 * codes.shape[1]])
    return NVFP4QTensor(shape, torch.bfloat16, codes).dequantize(
        dtype=torch.bfloat16, scale=scales, double_scale=double_scale, block_sizes={-1: BLOCK})


def compress(reader, writer):
    """{(weight, "", "_w" or "_v"): its BF16 values}."""
    storage = reader.metadata.storage_data
    double_scales = {index.fqn.removesuffix(AMAX): reader.tensor(info).float().reshape(()) / RANGE
                     for index, info in storage.items() if index.fqn.endswith("weight" + AMAX)}
    pieces = collections.defaultdict(dict)  # (weight, part) -> {(file, offsets): (codes, scales)}
    for index, info in storage.items():
        weight = index.fqn.removesuffix("_w").removesuffix("_v")
        if weight not in double_scales:
            writer.keep(index, reader.raw(info), info.relative_path, reader.metadata.state_dict_metadata[index.fqn])
            continue
        rows, columns = reader.metadata.state_dict_metadata[index.fqn].size
        quantized, scales, _ = NVFP4QTensor.quantize(reader.tensor(info), BLOCK, None, double_scales[weight])
        codes = quantized._quantized_data
        writer.put(index.fqn, [index.offset[0], index.offset[1] // 2], codes, info.relative_path, [rows, columns // 2])
        pieces[weight, index.fqn.removeprefix(weight)][info.relative_path, *index.offset] = codes, scales
    for (weight, part), of_ranks in sorted(pieces.items()):
        if part == "_v":
            continue
        for (file, row, column), (codes, scales) in sorted(of_ranks.items()):
            rows = sum(codes.shape[0] for (_, _, first), (codes, _) in of_ranks.items() if first == column)
            columns = sum(2 * codes.shape[1] for (_, first, _), (codes, _) in of_ranks.items() if first == row)
            if part == "_w":
                scales = torch.cat([scales, pieces[weight, "_v"][file, row, column][1]])
                row, rows = 2 * row, 2 * rows
            writer.put(weight + SCALE, [row, column // BLOCK], scales, file, [rows, columns // BLOCK])
        writer.put(weight + DOUBLE_SCALE, [], double_scales[weight], min(of_ranks)[0], [])
    return {key: value_of([of_ranks[place] for place in sorted(of_ranks)], int(min(of_ranks)[1] == max(of_ranks)[1]),
                          double_scales[key[0]]) for key, of_ranks in pieces.items()}


def hugging_face(weight, part, value, shape):
    """(name, values) of what becomes of it."""
    layer = f"model.layers.{weight.split('.')[2]}"
    if "linear_qkv" in weight:
        queries = shape["heads"] // shape["kv_heads"]
        groups = value.view(shape["kv_heads"], queries + 2, shape["head_dim"], -1)
        for name, heads in (("q", groups[:, :queries]), ("k", groups[:, queries]), ("v", groups[:, queries + 1])):
            yield f"{layer}.self_attn.{name}_proj.weight", heads.reshape(-1, value.shape[1])
    else:
        name = {"_w": "mlp.gate_proj", "_v": "mlp.up_proj"}.get(
            part, "self_attn.o_proj" if "linear_proj" in weight else "mlp.down_proj")
        yield f"{layer}.{name}.weight", value


def main(source, output):
    shutil.copytree(source, output)
    reader, writer = Reader(source / "release"), Writer()
    values = compress(reader, writer)
    writer.write(output / "release", reader.metadata)
    expected = json.loads((source / "expected.json").read_text())
    for (weight, part), value in values.items():
        for name, tensor in hugging_face(weight, part, value, expected):
            data = tensor.contiguous().view(torch.uint8).numpy().tobytes()
            expected["tensors"][name] = {"shape": list(tensor.shape), "sha256": hashlib.sha256(data).hexdigest()}
    (output / "expected.json").write_text(json.dumps(expected, separators=(",", ":")))


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
