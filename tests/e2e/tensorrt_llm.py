"""Undoes a TensorRT-LLM checkpoint: from the ranks' files back to the Hugging Face tensors that they were cut from.

Written after the description of the format, with nothing of Slipway's.
"""
import json
import re
import struct
from pathlib import Path

from artifact import read_file
from quantized import fp32

BYTES = {"BF16": 2, "F16": 2, "F32": 4}
LLAMA_NORMS = {"input_layernorm": "input_layernorm", "post_layernorm": "post_attention_layernorm"}
FEED_NORMS = {name: name for name in ("pre_feedforward_layernorm", "post_feedforward_layernorm")}
HEAD_NORMS = {"attention.q_layernorm": "self_attn.q_norm", "attention.k_layernorm": "self_attn.k_norm"}
GATED = {"fc": "mlp.gate_proj", "gate": "mlp.up_proj", "proj": "mlp.down_proj"}
LLAMA = dict(layer="model.layers.{}.", embedding="model.embed_tokens", final="model.norm", head="lm_head",
             norms=LLAMA_NORMS, qkv="self_attn.{}_proj", dense="self_attn.o_proj", mlp=GATED)
GPT2 = dict(layer="transformer.h.{}.", embedding="transformer.wte", final="transformer.ln_f", head="lm_head",
            norms={"input_layernorm": "ln_1", "post_layernorm": "ln_2"}, joined="attn.c_attn", dense="attn.c_proj",
            mlp={"fc": "mlp.c_fc", "proj": "mlp.c_proj"}, transposed=True)
WIDE = {"fc": "mlp.dense_h_to_4h", "proj": "mlp.dense_4h_to_h"}
MOE = dict(router="mlp.gate", expert="mlp.experts.{}.", parts=("up_proj", "gate_proj", "down_proj"))
# By Hugging Face's model_type.
FAMILIES = {
    "llama": LLAMA, "mistral": LLAMA, "qwen2": LLAMA,
    "mixtral": LLAMA | dict(router="block_sparse_moe.gate", expert="block_sparse_moe.experts.{}.",
                            parts=("w3", "w1", "w2")),
    "qwen3": LLAMA | dict(norms=LLAMA_NORMS | HEAD_NORMS),
    "qwen3_moe": LLAMA | dict(norms=LLAMA_NORMS | HEAD_NORMS) | MOE,
    "gemma": LLAMA, "gemma2": LLAMA | dict(norms=LLAMA_NORMS | FEED_NORMS),
    "gemma3_text": LLAMA | dict(norms=LLAMA_NORMS | FEED_NORMS | HEAD_NORMS),
    "nemotron": LLAMA | dict(mlp={"fc": "mlp.up_proj", "proj": "mlp.down_proj"}),
    "starcoder2": LLAMA | dict(mlp={"fc": "mlp.c_fc", "proj": "mlp.c_proj"}),
    "gpt2": GPT2,
    "falcon": GPT2 | dict(embedding="transformer.word_embeddings", mlp=WIDE, transposed=False,
                          norms={"input_layernorm": "ln_attn", "mlp_layernorm": "ln_mlp"},
                          grouped="self_attention.query_key_value", dense="self_attention.dense"),
    "gpt_neox": LLAMA | dict(layer="gpt_neox.layers.{}.", embedding="gpt_neox.embed_in",
                             final="gpt_neox.final_layer_norm", head="embed_out", mlp=WIDE,
                             grouped="attention.query_key_value", dense="attention.dense"),
    "deepseek_v2": LLAMA | MOE | dict(norms=LLAMA_NORMS | {
        f"attention.{name}": f"self_attn.{name}" for name in ("q_a_layernorm", "kv_a_layernorm")}, latent=True),
    "phi3": LLAMA | dict(joined="self_attn.qkv_proj", gate_up="mlp.gate_up_proj"),
}
PLUS_ONE = {"gemma", "gemma2", "gemma3_text", "nemotron"}


class Matrix:
    """Rows as bytes; of a stack, all rows one below the other."""

    def __init__(self, dtype, vector, rows):
        self.dtype, self.vector, self.rows = dtype, vector, rows

    @staticmethod
    def of(tensor):
        dtype, shape, data = tensor
        size = BYTES[dtype] * (1 if len(shape) == 1 else shape[-1])
        return Matrix(dtype, len(shape) == 1, [data[at:at + size] for at in range(0, len(data), size)])

    def cut(self, first, count):
        if first + count > len(self.rows):
            raise ValueError(f"{len(self.rows)} rows, wanted {first} + {count}")
        return Matrix(self.dtype, self.vector, self.rows[first:first + count])

    def transposed(self):
        size = BYTES[self.dtype]
        return Matrix(self.dtype, False, [b"".join(row[at:at + size] for row in self.rows)
                                          for at in range(0, len(self.rows[0]), size)])

    def tensor(self):
        shape = (len(self.rows),) if self.vector else (len(self.rows), len(self.rows[0]) // BYTES[self.dtype])
        return self.dtype, shape, b"".join(self.rows)


def below(matrices):
    return Matrix(matrices[0].dtype, matrices[0].vector, [row for matrix in matrices for row in matrix.rows])


def beside(matrices):
    rows = zip(*(matrix.rows for matrix in matrices), strict=True)
    return Matrix(matrices[0].dtype, False, [b"".join(parts) for parts in rows])


def part_of(matrix, number, parts):
    size = len(matrix.rows) // parts
    return matrix.cut(number * size, size)


def halves(matrices):
    """[first; second] on each rank: all first ones, all second ones."""
    half = len(matrices[0].rows) // 2
    return below([m.cut(0, half) for m in matrices]), below([m.cut(half, half) for m in matrices])


def times(left, right):
    """The transpose of `left` times `right`, summed row by row in FP32 and rounded once."""
    columns = [floats((right.dtype, None, row)) for row in right.rows]
    factors = [floats((left.dtype, None, row)) for row in left.rows]
    rows = []
    for at in range(len(factors[0])):
        sums = [0.0] * len(columns[0])
        for factor, row in zip(factors, columns, strict=True):
            sums = [fp32(total + fp32(factor[at] * value)) for total, value in zip(sums, row, strict=True)]
        rows.append(rounded(sums, (right.dtype, None, None))[2])
    return Matrix(right.dtype, False, rows)


class Checkpoint:
    def __init__(self, directory, model_type):
        self.config = json.loads((Path(directory) / "config.json").read_text())
        self.family = FAMILIES[model_type]
        mapping = self.config["mapping"]
        self.size, self.stages = mapping["tp_size"], mapping["pp_size"]
        self.groups = mapping.get("moe_ep_size", 1)
        files = sorted(path.name for path in Path(directory).glob("*.safetensors"))
        if mapping["world_size"] != self.size * self.stages or files != sorted(
                f"rank{number}.safetensors" for number in range(mapping["world_size"])):
            raise ValueError(f"{files} for {mapping}")
        self.ranks = [read_file(Path(directory) / f"rank{number}.safetensors") for number in range(len(files))]
        self.out, self.taken = {}, [set() for _ in self.ranks]

    def each(self, stage, name):
        """That tensor of each rank of the stage."""
        numbers = range(stage * self.size, (stage + 1) * self.size)
        for number in numbers:
            self.taken[number].add(name)
        return [Matrix.of(self.ranks[number][name]) for number in numbers]

    def same(self, stage, name):
        copies = self.each(stage, name)
        if any(copy.rows != copies[0].rows for copy in copies):
            raise ValueError(f"{name} differs between the ranks of stage {stage}")
        return copies[0]

    def has(self, stage, name):
        return name in self.ranks[stage * self.size]

    def put(self, name, matrix):
        if name in self.out:
            raise ValueError(f"{name} comes twice")
        turned = self.family.get("transposed") and not matrix.vector and name.startswith("transformer.h.")
        self.out[name] = (matrix.transposed() if turned else matrix).tensor()

    def put_module(self, stage, name, target, join):
        """Weight, and bias where there is one; of a row-parallel layer the bias is whole on each rank."""
        for kind in ("weight", "bias"):
            if self.has(stage, f"{name}.{kind}"):
                whole = kind == "bias" and join is beside or join is None
                source = f"{name}.{kind}"
                self.put(f"{target}.{kind}", self.same(stage, source) if whole else join(self.each(stage, source)))

    def heads(self, stage, name):
        queries = self.config["num_attention_heads"] // self.size
        all_keys = self.config["num_key_value_heads"]
        keys, size = -(-all_keys // self.size), self.config["head_size"]
        copies = max(1, self.size // all_keys)
        ranks = self.each(stage, name)
        parts = [[rank.cut(first * size, count * size) for rank in ranks]
                 for first, count in ((0, queries), (queries, keys), (queries + keys, keys))]
        for part in parts[1:]:
            if any(part[rank].rows != part[rank - rank % copies].rows for rank in range(self.size)):
                raise ValueError(f"{name}: the copies of a head differ")
        return [below(parts[0]), *(below(part[::copies]) for part in parts[1:])]

    def put_attention(self, stage, name, prefix):
        for kind in ("weight", "bias"):
            if not self.has(stage, f"{name}attention.qkv.{kind}"):
                continue
            parts = self.heads(stage, f"{name}attention.qkv.{kind}")
            if "grouped" in self.family:
                count = self.config["num_key_value_heads"]
                rows = [len(part.rows) // count for part in parts]
                self.put(f"{prefix}{self.family['grouped']}.{kind}",
                         below([part.cut(group * size, size) for group in range(count)
                                for part, size in zip(parts, rows, strict=True)]))
            elif "joined" in self.family:
                self.put(f"{prefix}{self.family['joined']}.{kind}", below(parts))
            else:
                for letter, part in zip("qkv", parts, strict=True):
                    self.put(f"{prefix}{self.family['qkv'].format(letter)}.{kind}", part)
        self.put_module(stage, f"{name}attention.dense", prefix + self.family["dense"], beside)

    def put_latent(self, stage, name, prefix):
        """DeepSeek-V2's; the fused queries are no part of the model: they must be what they are made of."""
        rank_of_queries = self.config["q_lora_rank"] or 0
        plain, rotated, value, latent = (self.config[key] for key in (
            "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
        heads = self.config["num_attention_heads"] // self.size
        down = self.same(stage, f"{name}attention.fused_a.weight")
        if rank_of_queries:
            self.put(f"{prefix}self_attn.q_a_proj.weight", down.cut(0, rank_of_queries))
        self.put(f"{prefix}self_attn.kv_a_proj_with_mqa.weight",
                 down.cut(rank_of_queries, len(down.rows) - rank_of_queries))
        queries, both, fused = (self.each(stage, f"{name}attention.{kind}")
                                for kind in ("q_b_proj", "kv_b_proj", "fused_q_proj"))
        up = []
        for query, pair, product in zip(queries, both, fused, strict=True):
            for head in range(heads):
                keys = pair.cut(head * plain, plain)
                up += [keys, pair.cut(heads * plain + head * value, value)]
                mine = query.cut(head * (plain + rotated), plain + rotated)
                expected = below([times(keys, mine.cut(0, plain)), mine.cut(plain, rotated)])
                if product.cut(head * (latent + rotated), latent + rotated).rows != expected.rows:
                    raise ValueError(f"{name}attention.fused_q_proj: head {head}")
        self.put(f"{prefix}self_attn.q_b_proj.weight" if rank_of_queries else f"{prefix}self_attn.q_proj.weight",
                 below(queries))
        self.put(f"{prefix}self_attn.kv_b_proj.weight", below(up))
        self.put_module(stage, f"{name}attention.dense", f"{prefix}self_attn.o_proj", beside)

    def put_shared_experts(self, stage, name, prefix):
        up, gate = halves(self.each(stage, f"{name}mlp.shared_expert.fc.weight"))
        down = beside(self.each(stage, f"{name}mlp.shared_expert.proj.weight"))
        for part, matrix in (("up", up), ("gate", gate), ("down", down)):
            self.put(f"{prefix}mlp.shared_experts.{part}_proj.weight", matrix)

    def put_experts(self, stage, name, prefix):
        router = self.same(stage, f"{name}mlp.router.weight")
        if router.dtype != "F32":
            raise ValueError(f"{name}mlp.router is {router.dtype}")
        self.put(f"{prefix}{self.family['router']}.weight", router)
        count = self.config["moe"]["num_experts"] // self.groups
        fcs, projections = (self.each(stage, f"{name}mlp.{kind}.weight") for kind in ("fc", "proj"))
        for expert in range(count * self.groups):
            group, local = divmod(expert, count)
            of_group = [rank for rank in range(self.size) if rank % self.groups == group]
            fc, projection = ([part_of(matrices[rank], local, count) for rank in of_group]
                              for matrices in (fcs, projections))
            target = prefix + self.family["expert"].format(expert)
            for part, matrix in zip(self.family["parts"], (*halves(fc), beside(projection)), strict=True):
                self.put(f"{target}{part}.weight", matrix)

    def put_layer(self, stage, local, layer):
        name, prefix = f"transformer.layers.{local}.", self.family["layer"].format(layer)
        norms = self.family["norms"]
        if self.config["architecture"] == "FalconForCausalLM" and not self.has(stage, f"{name}mlp_layernorm.weight"):
            norms = {"input_layernorm": "input_layernorm"}
        for norm, target in norms.items():
            self.put_module(stage, name + norm, prefix + target, None)
        if "latent" in self.family:
            self.put_latent(stage, name, prefix)
        else:
            self.put_attention(stage, name, prefix)
        if self.has(stage, f"{name}mlp.router.weight"):
            self.put_experts(stage, name, prefix)
            if self.has(stage, f"{name}mlp.shared_expert.fc.weight"):
                self.put_shared_experts(stage, name, prefix)
            return
        if "gate_up" in self.family:
            up, gate = halves(self.each(stage, f"{name}mlp.fc.weight"))
            self.put(f"{prefix}{self.family['gate_up']}.weight", below([gate, up]))
        for part, target in self.family["mlp"].items():
            if not ("gate_up" in self.family and part != "proj"):
                self.put_module(stage, f"{name}mlp.{part}", prefix + target, beside if part == "proj" else below)

    def vocabulary(self, stage, name, sharded):
        matrix = below(self.each(stage, name)) if sharded else self.same(stage, name)
        padding = matrix.rows[self.config["vocab_size"]:]
        if any(any(row) for row in padding) or len(padding) >= self.size:
            raise ValueError(f"{name}: {len(padding)} rows behind the vocabulary")
        return matrix.cut(0, self.config["vocab_size"])

    def reassemble(self):
        first = 0
        for stage in range(self.stages):
            layers = self.config["num_hidden_layers"] // self.stages + (
                stage < self.config["num_hidden_layers"] % self.stages)
            for local in range(layers):
                self.put_layer(stage, local, first + local)
            first += layers
        self.put(f"{self.family['embedding']}.weight",
                 self.vocabulary(0, "transformer.vocab_embedding.weight", self.config["use_parallel_embedding"]))
        if self.config["position_embedding_type"] == "learned_absolute":
            self.put("transformer.wpe.weight", self.same(0, "transformer.position_embedding.weight"))
        last = self.stages - 1
        self.put_module(last, "transformer.ln_f", self.family["final"], None)
        self.put(f"{self.family['head']}.weight", self.vocabulary(last, "lm_head.weight", True))
        for number, (rank, taken) in enumerate(zip(self.ranks, self.taken, strict=True)):
            if rank.keys() != taken:
                raise ValueError(f"rank {number} has {sorted(rank.keys() - taken)} besides")
        return self.out


def floats(tensor):
    dtype, _, data = tensor
    if dtype == "F32":
        return [value for value, in struct.iter_unpack("<f", data)]
    return [struct.unpack("<f", b"\0\0" + data[at:at + 2])[0] for at in range(0, len(data), 2)]


def rounded(values, like):
    dtype, shape, _ = like
    words = [struct.unpack("<I", struct.pack("<f", value))[0] for value in values]
    if dtype == "F32":
        return dtype, shape, struct.pack(f"<{len(words)}I", *words)
    return dtype, shape, struct.pack(f"<{len(words)}H", *(word + 0x7FFF + (word >> 16 & 1) >> 16 for word in words))


def as_engine_stores(golden, model_type):
    """The golden's tensors as values that an engine's checkpoint has: whole norms, FP32 routers, a head of its own."""
    family, result = FAMILIES[model_type], dict(golden)
    for name, tensor in golden.items():
        if model_type in PLUS_ONE and re.search(r"norm\.weight$", name):
            result[name] = rounded([value + 1 for value in floats(tensor)], tensor)
        if "router" in family and name.endswith(f"{family['router']}.weight"):
            result[name] = ("F32", tensor[1], struct.pack(f"<{len(floats(tensor))}f", *floats(tensor)))
    result.setdefault(f"{family['head']}.weight", golden[f"{family['embedding']}.weight"])
    return result


def reassemble(directory, model_type):
    return Checkpoint(directory, model_type).reassemble()
