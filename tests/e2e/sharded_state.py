"""Undoes a sharded state: from the ranks' files of vLLM or SGLang back to the Hugging Face tensors that they were cut from.

Written after the engines' rules, with nothing of Slipway's; held against directories that vLLM saved itself.
"""
import json
import re
import struct
from collections import defaultdict
from pathlib import Path

from artifact import read_file

FILE = re.compile(r"model-(?:rank-(?P<rank>\d+)|pp-(?P<stage>\d+)-tp-(?P<of_stage>\d+))-part-(?P<part>\d+)\.safetensors")
BYTES = {"BF16": 2, "F16": 2, "F32": 4}
ONE = ("F32", (), struct.pack("<f", 1))


def read_ranks(directory):
    """{(stage, rank): {name: tensor}}; ValueError for files that the engines would not find, or names found twice."""
    ranks, parts = defaultdict(dict), defaultdict(list)
    for path in sorted(Path(directory).glob("*.safetensors")):
        match = FILE.fullmatch(path.name)
        if not match:
            raise ValueError(f"{path.name} is no rank's file")
        key = (int(match["stage"] or 0), int(match["rank"] or match["of_stage"] or 0))
        parts[key].append(int(match["part"]))
        for name, tensor in read_file(path).items():
            if name in ranks[key]:
                raise ValueError(f"{name} is twice in rank {key}")
            ranks[key][name] = tensor
    for key, numbers in parts.items():
        if sorted(numbers) != list(range(len(numbers))):
            raise ValueError(f"rank {key} has parts {sorted(numbers)}")
    return dict(ranks)


def layers_of_stages(layers, stages):
    counts = [layers // stages] * stages
    for extra in range(layers % stages):
        counts[stages - 2 - extra] += 1
    return counts


class Matrix:
    """Rows as bytes; of a stack of matrices, all rows one below the other."""

    def __init__(self, tensor):
        self.dtype, shape, data = tensor
        self.vector = len(shape) == 1
        self.columns = 1 if self.vector else shape[-1]
        size = self.columns * BYTES[self.dtype]
        self.rows = [data[at:at + size] for at in range(0, len(data), size)]

    def tensor(self, rows):
        shape = (len(rows),) if self.vector else (len(rows), len(rows[0]) // BYTES[self.dtype])
        return self.dtype, shape, b"".join(rows)


class Reassembly:
    def __init__(self, directory, engine):
        self.engine = engine
        self.ranks = read_ranks(directory)
        self.config = json.loads((Path(directory) / "config.json").read_text())
        self.stages = 1 + max(stage for stage, _ in self.ranks)
        self.size = 1 + max(rank for _, rank in self.ranks)
        if len(self.ranks) != self.stages * self.size:
            raise ValueError(f"{len(self.ranks)} ranks for {self.stages} stages of {self.size}")
        self.out = {}
        self.taken = set()

    def take(self, stage, name):
        """That tensor of each rank."""
        self.taken.add((stage, name))
        return [self.ranks[stage, rank][name] for rank in range(self.size)]

    def whole(self, stage, name, target=None):
        copies = self.take(stage, name)
        if any(copy != copies[0] for copy in copies):
            raise ValueError(f"{name} differs between ranks")
        if self.out.setdefault(target or name, copies[0]) != copies[0]:
            raise ValueError(f"{name} differs between stages")

    def vocabulary(self, stage, name, target):
        pieces = [Matrix(piece) for piece in self.take(stage, name)]
        rows = [row for piece in pieces for row in piece.rows]
        padding = 64
        if self.engine == "sglang" and -(-self.config["vocab_size"] // padding) * padding % self.size:
            padding *= self.size
        count = self.config["vocab_size"]
        if len(rows) != -(-count // padding) * padding or any(any(row) for row in rows[count:]):
            raise ValueError(f"{name} has {len(rows)} rows, or padding that is not zero")
        tensor = pieces[0].tensor(rows[:count])
        if self.out.setdefault(target, tensor) != tensor:
            raise ValueError(f"{name} is not {target}")

    def columns(self, stage, name):
        pieces = [Matrix(piece) for piece in self.take(stage, name)]
        self.out[name] = pieces[0].tensor([b"".join(rows) for rows in zip(*(piece.rows for piece in pieces))])

    def joined(self, stage, name, targets):
        """Rows of each rank: as many of every target."""
        pieces = [Matrix(piece) for piece in self.take(stage, name)]
        count = len(pieces[0].rows) // len(targets)
        for place, target in enumerate(targets):
            rows = [row for piece in pieces for row in piece.rows[place * count:(place + 1) * count]]
            self.out[target] = pieces[0].tensor(rows)

    def attention(self, stage, name):
        heads, groups = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        head = self.config.get("head_dim") or self.config["hidden_size"] // heads
        pieces = [Matrix(piece) for piece in self.take(stage, name)]
        ends = [0, heads // self.size * head]
        for _ in "kv":
            ends.append(ends[-1] + max(1, groups // self.size) * head)
        for target, begin, end in zip("qkv", ends, ends[1:]):
            slices = [piece.rows[begin:end] for piece in pieces]
            if target != "q" and self.size > groups:
                alike = self.size // groups
                for rank, rows in enumerate(slices):
                    if rows != slices[rank // alike * alike]:
                        raise ValueError(f"{name}: rank {rank} has another head than those beside it")
                slices = slices[::alike]
            if any(end != len(piece.rows) for piece in pieces) and target == "v":
                raise ValueError(f"{name} has {len(pieces[0].rows)} rows, not {end}")
            self.out[name.replace("qkv_proj", f"{target}_proj")] = pieces[0].tensor([row for rows in slices for row in rows])

    def experts(self, stage, layer):
        mixtral = self.config["model_type"] == "mixtral"
        module = layer + ("block_sparse_moe." if mixtral else "mlp.")
        gate, up, down = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
        vllm = self.engine == "vllm"
        router = "experts.gate.weight" if vllm and not mixtral else "gate.weight"
        self.whole(stage, module + router, module + "gate.weight")
        prefix = module + ("experts.routed_experts." if vllm else "experts.")
        count = self.config.get("num_local_experts") or self.config["num_experts"]
        both = [Matrix(piece) for piece in self.take(stage, prefix + "w13_weight")]
        last = [Matrix(piece) for piece in self.take(stage, prefix + "w2_weight")]
        for tensor in self.take(stage, prefix + "w13_weight") + self.take(stage, prefix + "w2_weight"):
            if len(tensor[1]) != 3 or tensor[1][0] != count:
                raise ValueError(f"{prefix} has {tensor[1]} for {count} experts")
        own = len(both[0].rows) // count
        hidden = self.config["hidden_size"]
        for expert in range(count):
            target = f"{module}experts.{expert}."
            halves = [piece.rows[expert * own:(expert + 1) * own] for piece in both]
            for name, half in ((gate, slice(0, own // 2)), (up, slice(own // 2, own))):
                self.out[f"{target}{name}.weight"] = both[0].tensor([row for rows in halves for row in rows[half]])
            pieces = [piece.rows[expert * hidden:(expert + 1) * hidden] for piece in last]
            self.out[f"{target}{down}.weight"] = last[0].tensor([b"".join(rows) for rows in zip(*pieces)])

    def layer(self, stage, number):
        layer = f"model.layers.{number}."
        have = self.ranks[stage, 0]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            self.whole(stage, f"{layer}{norm}.weight")
        attention = layer + "self_attn."
        for suffix in (".weight", ".bias"):
            if attention + "qkv_proj" + suffix in have:
                self.attention(stage, attention + "qkv_proj" + suffix)
            if layer + "mlp.gate_up_proj" + suffix in have:
                targets = [f"{layer}mlp.{name}_proj{suffix}" for name in ("gate", "up")]
                self.joined(stage, layer + "mlp.gate_up_proj" + suffix, targets)
        for name in (attention + "o_proj", layer + "mlp.down_proj"):
            if name + ".weight" in have:
                self.columns(stage, name + ".weight")
            if name + ".bias" in have:
                self.whole(stage, name + ".bias")
        for norm in ("q_norm", "k_norm"):
            if f"{attention}{norm}.weight" in have:
                self.whole(stage, f"{attention}{norm}.weight")
        if self.engine == "vllm":
            for scale in ("k", "prob", "q", "v"):
                if set(self.take(stage, f"{attention}attn._{scale}_scale")) != {ONE}:
                    raise ValueError(f"a scale of {attention} is not 1")
        if f"{layer}mlp.gate_up_proj.weight" not in have:
            self.experts(stage, layer)

    def run(self):
        tied = self.config.get("tie_word_embeddings", False)
        first = 0
        for stage, count in enumerate(layers_of_stages(self.config["num_hidden_layers"], self.stages)):
            # Mixtral and Qwen3-MoE do not leave out what a stage does not use.
            everywhere = self.config["model_type"] in ("mixtral", "qwen3_moe")
            first_stage, last = stage == 0 or everywhere, stage == self.stages - 1 or everywhere
            if first_stage and not (tied and last):
                self.vocabulary(stage, "model.embed_tokens.weight", "model.embed_tokens.weight")
            for number in range(first, first + count):
                self.layer(stage, number)
            first += count
            if last:
                self.whole(stage, "model.norm.weight")
                self.vocabulary(stage, "lm_head.weight", "model.embed_tokens.weight" if tied else "lm_head.weight")
        for (stage, rank), tensors in self.ranks.items():
            for name in tensors:
                if (stage, name) not in self.taken:
                    raise ValueError(f"rank {rank} of stage {stage} has {name}, which the engine does not know")
        return self.out


def reassemble(directory, engine):
    """The Hugging Face tensors, as artifact.read_directory gives them; ValueError or KeyError where it is not sound."""
    return Reassembly(directory, engine).run()
