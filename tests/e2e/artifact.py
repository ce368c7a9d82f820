"""Reads a Hugging Face directory with nothing of Slipway's, and says where two of them differ."""
import json
import math
from pathlib import Path

# Keys of config.json that say who wrote it or how it was trained, not what the model is.
NOT_THE_MODEL = {"_name_or_path", "transformers_version", "use_cache", "pretraining_tp", "initializer_range", "dtype",
                 "torch_dtype", "attention_dropout", "bos_token_id", "eos_token_id", "pad_token_id",
                 "chunk_size_feed_forward", "is_encoder_decoder", "output_attentions", "output_hidden_states",
                 "return_dict", "problem_type", "id2label", "label2id"}


def read_file(path):
    """{name: (dtype, shape, bytes)} of one safetensors file; ValueError where it is not a sound one."""
    content = memoryview(Path(path).read_bytes())
    length = int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:8 + length]))
    data = content[8 + length:]
    header.pop("__metadata__", None)
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = entry["data_offsets"]
        if begin != end or stop < begin:
            raise ValueError(f"{path}: {name} begins at {begin}, the tensor before it ends at {end}")
        end = stop
    if end != len(data):
        raise ValueError(f"{path}: {len(data)} bytes of data, the header says {end}")
    return {name: (entry["dtype"], tuple(entry["shape"]), bytes(data[slice(*entry["data_offsets"])]))
            for name, entry in header.items()}


def read_directory(directory):
    """All tensors of a directory; ValueError where its index disagrees with its files."""
    directory = Path(directory)
    tensors, home = {}, {}
    for path in sorted(directory.glob("*.safetensors")):
        for name, tensor in read_file(path).items():
            if name in tensors:
                raise ValueError(f"{name} is in {home[name]} and in {path.name}")
            tensors[name], home[name] = tensor, path.name
    index = directory / "model.safetensors.index.json"
    if index.exists() != (len(set(home.values())) > 1):
        raise ValueError(f"{len(set(home.values()))} weight files, and an index: {index.exists()}")
    if index.exists():
        content = json.loads(index.read_text())
        if content["weight_map"] != home:
            raise ValueError("the index and the files disagree")
        total = sum(len(tensor[2]) for tensor in tensors.values())
        if content["metadata"]["total_size"] != total:
            raise ValueError(f"total_size is {content['metadata']['total_size']}, the tensors have {total} bytes")
    return tensors


def tensor_differences(ours, golden):
    result = [f"missing: {name}" for name in sorted(golden.keys() - ours.keys())]
    result += [f"not in the golden: {name}" for name in sorted(ours.keys() - golden.keys())]
    for name in sorted(golden.keys() & ours.keys()):
        if ours[name][:2] != golden[name][:2]:
            result.append(f"{name}: {ours[name][:2]}, golden {golden[name][:2]}")
        elif ours[name][2] != golden[name][2]:
            result.append(f"{name}: bytes differ")
    return result


def one_spelling(config):
    """rope_theta + rope_scaling and rope_parameters are two spellings of one thing."""
    config = dict(config)
    rope = {**(config.pop("rope_parameters", None) or {}), **(config.pop("rope_scaling", None) or {})}
    theta = config.pop("rope_theta", None)
    if theta is not None:
        rope.setdefault("rope_theta", theta)
    if "type" in rope:
        rope.setdefault("rope_type", rope.pop("type"))
    rope.setdefault("rope_type", "default")
    return {**config, "rope": rope}


def same(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if type(a) in (int, float) and type(b) in (int, float):
        return math.isclose(a, b, rel_tol=1e-9)
    return a == b


# What transformers assumes where config.json says nothing (tests/derived/transformers_defaults.py).
DEFAULTS = json.loads((Path(__file__).resolve().parents[1] / "data" / "transformers_defaults.json").read_text())


def config_differences(directory, golden):
    """Keys that the golden sets and config.json has otherwise, or lacks where no default could stand in."""
    ours = one_spelling(json.loads((Path(directory) / "config.json").read_text()))
    theirs = one_spelling(json.loads((Path(golden) / "config.json").read_text()))
    assumed = dict(DEFAULTS.get(theirs["model_type"], {}))
    if "kv_lora_rank" in ours:
        assumed["head_dim"] = ours["qk_rope_head_dim"]
        assumed["qk_head_dim"] = ours["qk_nope_head_dim"] + ours["qk_rope_head_dim"]
    if "index_topk" in ours:
        assumed["layer_types"] = ["indexed_attention"] * ours["num_hidden_layers"]
        assumed["indexer_types"] = ["full"] * ours["num_hidden_layers"]
    result = []
    for key, value in theirs.items():
        if key in NOT_THE_MODEL or value is None:
            continue
        if not same(ours.get(key, assumed.get(key)), value):
            result.append(f"config.json: {key} is {ours.get(key)!r}, golden {value!r}")
    return result
