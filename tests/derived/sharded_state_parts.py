#!/usr/bin/env python3
"""sharded_state_parts.py HF_DIR SHARDED_DIR OUTPUT.json      standard library only

Finds by bytes alone which rows and columns of the tensors of HF_DIR (one model.safetensors) each tensor of SHARDED_DIR
is made of, a directory that vLLM saved with save_sharded_state. The weights must be random, so that no two rows are
alike. OUTPUT has {"config", "source": {name: [dtype, shape]}, "files": {file: {name: {"dtype", "shape", "parts":
[[source, first row, rows, first column, columns], ...]}}}}; source "" is zeros, and a tensor of FP32 without axes has
its value as "constant" in place of parts.
"""
import json
import os
import struct
import sys

BYTES = {"BF16": 2, "F32": 4}


def read(path):
    with open(path, "rb") as file:
        raw = file.read()
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:end])
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], raw[end + entry["data_offsets"][0]:end + entry["data_offsets"][1]])
            for name, entry in header.items()}


def rows_of(tensor):
    """The bytes of each row; a vector's are its elements."""
    dtype, shape, data = tensor
    columns = shape[-1] if len(shape) > 1 else 1
    size = columns * BYTES[dtype]
    return columns, [data[at:at + size] for at in range(0, len(data), size)]


def index_of_matrices(source, columns):
    """(bytes of a row's piece) -> (name, row, first column)."""
    index = {}
    for name, tensor in source.items():
        width, rows = rows_of(tensor)
        if len(tensor[1]) < 2 or width % columns:
            continue
        size = columns * BYTES[tensor[0]]
        for row, data in enumerate(rows):
            for piece in range(width // columns):
                key = data[piece * size:(piece + 1) * size]
                assert key not in index, f"two pieces of rows are alike: {name}, {index[key]}"
                index[key] = (name, row, piece * columns)
    return index


def parts_of_matrix(tensor, source):
    columns, rows = rows_of(tensor)
    index = index_of_matrices(source, columns)
    parts = []
    for data in rows:
        name, row, column = ("", 0, 0) if not any(data) else index[data]
        last = parts[-1] if parts else None
        if last and last[0] == name and last[3] == column and (not name or last[1] + last[2] == row):
            last[2] += 1
        else:
            parts.append([name, row, 1, column, columns])
    return parts


def parts_of_vector(name, tensor, source):
    """Whole vectors of the same name, or the longest runs of biases of the same layer."""
    if name in source and source[name] == tensor:
        return [[name, 0, tensor[1][0], 0, 1]]
    layer = name[:name.index("self_attn.") if "self_attn." in name else name.index("mlp.")]
    vectors = {other: rows_of(value)[1] for other, value in source.items()
               if other.startswith(layer) and other.endswith(".bias")}
    wanted = rows_of(tensor)[1]
    parts, at = [], 0
    while at < len(wanted):
        best = None
        for other, elements in vectors.items():
            for first in range(len(elements)):
                count = 0
                while at + count < len(wanted) and first + count < len(elements) and \
                        wanted[at + count] == elements[first + count]:
                    count += 1
                if count and (best is None or count > best[2]):
                    best = [other, first, count, 0, 1]
        assert best, f"{name}: element {at} is in no bias"
        parts.append(best)
        at += best[2]
    return parts


def describe(name, tensor, source):
    dtype, shape, data = tensor
    entry = {"dtype": dtype, "shape": shape}
    if shape == []:
        entry["constant"] = struct.unpack("<f", data)[0]
    elif len(shape) == 1:
        entry["parts"] = parts_of_vector(name, tensor, source)
    else:
        entry["parts"] = parts_of_matrix(tensor, source)
    return entry


def main():
    hugging_face, sharded, output = sys.argv[1:]
    source = read(os.path.join(hugging_face, "model.safetensors"))
    files = {}
    for file in sorted(os.listdir(sharded)):
        if file.endswith(".safetensors"):
            tensors = read(os.path.join(sharded, file))
            files[file] = {name: describe(name, tensors[name], source) for name in sorted(tensors)}
    with open(os.path.join(hugging_face, "config.json")) as config:
        result = {"config": json.load(config), "source": {name: value[:2] for name, value in sorted(source.items())},
                  "files": files}
    with open(output, "w") as out:
        json.dump(result, out, separators=(",", ":"))
        out.write("\n")


main()
