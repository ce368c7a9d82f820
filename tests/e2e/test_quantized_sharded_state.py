"""A quantized sharded state holds what vLLM makes of the quantized Hugging Face export when it joins and cuts it for its
ranks; names and shapes are those of its own parameters."""
import json
import struct
import unittest

from artifact import read_directory
from harness import CHECKPOINTS, REFUSED, Scratch, describe, digests, reason_of, slipway
from quantized import fp32, ranges_file
from sharded_state import ONE, read_ranks

DATA = CHECKPOINTS.parent
SOURCES = {"llama": DATA / "ptq" / "llama", "mixtral": DATA / "ptq" / "mixtral",
           "qwen2": CHECKPOINTS / "qwen25_tp1_pp2_vpp2_torch",  # tied, with biases
           "qwen3-moe": CHECKPOINTS / "qwen3-moe_tp2_pp1_ep2_grouped_torch_dist"}
BYTES = {"BF16": 2, "F32": 4, "F8_E4M3": 1, "I32": 4, "U8": 1, "I8": 1}
JOINED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj"),
          "w13": ("w1", "w3"), "w2": ("w2",)}
OF_QWEN = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
WITH_DEFAULT = "default_input_amax: 448\n"
RECIPES = {  # one rule for all modules: what is before the rule, its format and what is beside it
    "fp8-per-channel": ("", "fp8-per-channel", ""),
    "int4 in groups of 32": ("", "int4", "group: 32"),
    "fp8": ("", "fp8", ""),
    "fp8 static": (WITH_DEFAULT, "fp8", ""),
    "nvfp4": ("", "nvfp4", ""),
    "nvfp4 static": (WITH_DEFAULT, "nvfp4", ""),
    "int8": ("", "int8", ""),
    "int8 dynamic": ("activations: dynamic\n", "int8", ""),
    "mxfp4": ("", "mxfp4", ""),
    "mxfp8": ("", "mxfp8", ""),
    "fp8 with ranges": ("", "fp8", ""),  # each module's own
    "nvfp4 with ranges": ("", "nvfp4", ""),
}
OF_EXPERTS = ("fp8-per-channel", "fp8 static", "nvfp4 static", "int8 dynamic", "mxfp4", "mxfp8")
NAMED = [("llama", name) for name in RECIPES if "with" not in name] + [("mixtral", name) for name in OF_EXPERTS]
CASES = [*NAMED, *((source, name) for source in ("llama", "mixtral") for name in RECIPES if "with" in name),
         ("qwen3-moe", "fp8 with ranges"),
         ("qwen2", "fp8"), ("qwen2", "mxfp8"), ("qwen3-moe", "fp8-per-channel"), ("qwen3-moe", "int8 dynamic")]


def rows_of(tensor):
    dtype, shape, data = tensor
    size = BYTES[dtype] * shape[-1]
    return [data[at:at + size] for at in range(0, len(data), size)]


def is_one(tensor):
    return tensor[1] in ((), (1,))


class QuantizedShardedState(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        cls.options = {}
        for number, (name, (before, format, beside)) in enumerate(RECIPES.items()):
            recipe = cls.scratch / f"recipe-{number}.yaml"
            recipe.write_text(f'{before}rules:\n  - modules: ["*"]\n    format: {format}\n' + f"    {beside}\n" * bool(beside))
            cls.options[name] = ("--recipe", recipe)
        cls.configs = {}
        for source, path in SOURCES.items():
            exported = cls.scratch / f"plain-{source}"
            result = slipway("export", path, exported)
            assert result.returncode == 0, describe(result)
            cls.configs[source] = json.loads((exported / "config.json").read_text())
            names = sorted(name.removesuffix(".weight") for name, (_, shape, _) in read_directory(exported).items()
                           if len(shape) == 2)
            (cls.scratch / f"{source}.ranges").write_bytes(
                ranges_file({f"{name}.input_amax": 2 + number % 13 for number, name in enumerate(names)}))

    def options_of(self, source, name):
        ranges = ("--ranges", self.scratch / f"{source}.ranges") if "with ranges" in name else ()
        return (*self.options[name], *ranges)

    def export(self, output, *options, source="llama"):
        result = slipway("export", SOURCES[source], self.scratch / output, *options)
        self.assertEqual(0, result.returncode, describe(result))
        return self.scratch / output

    @staticmethod
    def own_rows(config, name, rows, rank, ranks):
        """Of heads of keys and values that are fewer than ranks, several ranks have the same."""
        heads = config["num_key_value_heads"]
        if name in ("k_proj", "v_proj") and heads < ranks:
            size, head = len(rows) // heads, rank * heads // ranks
            return rows[head * size:(head + 1) * size]
        size = len(rows) // ranks
        return rows[rank * size:(rank + 1) * size]

    @staticmethod
    def own_columns(tensor, rank, ranks):
        rows = rows_of(tensor)
        if tensor[1][-1] == 1:
            return b"".join(rows)  # scales of whole rows
        return b"".join(row[len(row) * rank // ranks:len(row) * (rank + 1) // ranks] for row in rows)

    @staticmethod
    def parts_of(config, name):
        """The Hugging Face tensors that a rank's tensor joins, [(of whole matrices' names, in order)], one list an expert."""
        module, suffix = name.rsplit(".", 1)
        prefix, last = module.rsplit(".", 1)
        if last == "routed_experts":
            last, suffix = suffix.split("_", 1)
            parts = [OF_QWEN[part] if ".mlp." in prefix else part for part in JOINED[last]]
            experts = config.get("num_local_experts") or config["num_experts"]
            return last, [[f"{prefix}.{expert}.{part}.{suffix}" for part in parts] for expert in range(experts)]
        return last, [[f"{prefix}.{part}.{suffix}" for part in JOINED.get(last, (last,))]]

    def expected(self, config, name, exported, rank, ranks):
        """The bytes of a rank's tensor, of a matrix that is quantized or its scales."""
        last, experts = self.parts_of(config, name)
        content = b""
        for parts in experts:
            if name.endswith("w13_input_scale"):  # of experts one for both
                parts = [max(parts, key=lambda part: exported[part][2][::-1])]  # as positive BF16 are ordered
            for part in parts:
                tensor = exported[part]
                if is_one(tensor):
                    content += tensor[2]
                elif last in ("o_proj", "down_proj", "w2"):
                    content += self.own_columns(tensor, rank, ranks)
                else:
                    content += b"".join(self.own_rows(config, part.rsplit(".", 2)[-2], rows_of(tensor), rank,
                                                      ranks))
        return content

    def assert_rank(self, config, scheme, tensors, exported, rank, ranks):
        quantized = 0
        for name in tensors:
            last = name.rsplit(".", 1)[1]
            stem = name[:len(name) - len(last)] + (last.split("_", 1)[0] + "_" if last.startswith(("w13_", "w2_")) else "")
            suffix = name.removeprefix(stem)
            if stem + "weight_scale" not in tensors or suffix == "bias":  # those are as without quantization
                continue
            if suffix == "weight_shape":  # the rank's, before its codes are packed
                codes, scale = tensors[stem + "weight_packed"], tensors[stem + "weight_scale"]
                per_word = 4 if "int8" in scheme else 8
                self.assertEqual((scale[1][0], codes[1][1] * per_word), struct.unpack("<qq", tensors[name][2]))
                continue
            quantized += suffix in ("weight", "weight_packed")
            with self.subTest(rank=rank, tensor=name):
                self.assertEqual(self.expected(config, name, exported, rank, ranks), tensors[name][2])
        return quantized

    def test_ranks_hold_the_quantized_export_as_vllm_joins_and_cuts_it(self):
        for source, name in CASES:
            form = ("--config-form", "compressed-tensors")
            options = self.options_of(source, name)
            exported = read_directory(self.export(f"hf-{source}-{name}", *options, *form, source=source))
            for ranks in (1, 2, 4) if source == "llama" else (1, 2):
                with self.subTest(source=source, format=name, ranks=ranks):
                    output = self.export(f"{source}-{name}-{ranks}", *options, "--target", "vllm-sharded",
                                         "--tensor-parallel", ranks, source=source)
                    config = self.configs[source]
                    for (_, rank), tensors in read_ranks(output).items():
                        quantized = self.assert_rank(config, name, tensors, exported, rank, ranks)
                        self.assertEqual(4 * config["num_hidden_layers"], quantized)
                    report = json.loads((output / "report.json").read_text())
                    self.assertEqual(["vLLM"], report["loaded_by"])
                    verified = slipway("verify", output, "--against", SOURCES[source])
                    self.assertEqual(0, verified.returncode, describe(verified))

    def test_names_and_shapes_are_those_of_vllms_parameters(self):
        golden = json.loads((DATA / "sharded_state_quantized.json").read_text())
        for source, name in NAMED:
            with self.subTest(source=source, format=name):
                output = self.export(f"names-{source}-{name}", *self.options[name], "--target", "vllm-sharded",
                                     "--tensor-parallel", golden["tensor_parallel"], source=source)
                for tensors in read_ranks(output).values():
                    known = golden[source][name]
                    self.assertEqual({tensor: shape for tensor, (_, shape) in known.items()},
                                     {tensor: list(shape) for tensor, (_, shape, _) in tensors.items()})
                    for tensor, (dtype, _) in known.items():
                        # vLLM widens the scales that it reads.
                        wide = dtype == "F32" and tensor.endswith(("weight_scale", "input_scale"))
                        self.assertEqual("BF16" if wide else dtype, tensors[tensor][0], tensor)
                    attention = "model.layers.0.self_attn.attn."
                    self.assertEqual(("F32", (1,), struct.pack("<f", 1)), tensors[attention + "k_scale"])
                    self.assertEqual(("BF16", (1,), b"\0\0"), tensors[attention + "v_zero_point"])
                    self.assertEqual(ONE, tensors[attention + "_k_scale"])
                hugging_face = self.export(f"config-{source}-{name}", *self.options[name], "--config-form",
                                           "compressed-tensors", source=source)
                self.assertEqual(json.loads((hugging_face / "config.json").read_text()),
                                 json.loads((output / "config.json").read_text()))

    def test_workers_and_sources_do_not_show(self):
        for name in ("fp8-per-channel", "fp8 static"):
            options = (*self.options[name], "--target", "vllm-sharded", "--tensor-parallel", 2)
            outputs = [self.export(f"workers-{name}-{workers}", *options, "--workers", workers, "--threads", threads)
                       for workers, threads in ((1, 1), (2, 4))]
            self.assertEqual(digests(outputs[0]), digests(outputs[1]))

    def test_scales_of_keys_and_values_are_those_of_their_ranges(self):
        attentions = [f"model.layers.{layer}.self_attn" for layer in range(self.configs["llama"]["num_hidden_layers"])]
        amaxes = {f"{name}.{of}_amax": 100 * number + (7 if of == "k" else 3) for number, name in enumerate(attentions)
                  for of in "kv"}
        ranges = self.scratch / "ranges.safetensors"
        ranges.write_bytes(ranges_file(amaxes))
        options = ("--quantization", "fp8-per-channel", "--kv-cache", "fp8", "--ranges", ranges)
        hugging_face = self.export("hf-kv", *options, "--config-form", "compressed-tensors")
        exported = read_directory(hugging_face)
        output = self.export("kv", *options, "--target", "vllm-sharded", "--tensor-parallel", 2)
        for tensors in read_ranks(output).values():
            for name in attentions:
                for of in "kv":
                    scale = tensors[f"{name}.attn.{of}_scale"]
                    self.assertEqual(("F32", (1,), struct.pack("<f", fp32(amaxes[f"{name}.{of}_amax"] / 448))), scale)
                    self.assertEqual(exported[f"{name}.{of}_scale"][2], scale[2])
                self.assertEqual(("F32", (1,), struct.pack("<f", 1)), tensors[f"{name}.attn.q_scale"])
        self.assertEqual(json.loads((hugging_face / "config.json").read_text()),
                         json.loads((output / "config.json").read_text()))

    def test_blocks_are_those_of_whole_modules(self):
        recipe = self.scratch / "blocks.yaml"
        recipe.write_text('rules:\n  - modules: ["*.mlp.*"]\n    format: fp8-block\n')
        options = ("--recipe", recipe)
        exported = read_directory(self.export("hf-blocks", *options, "--config-form", "compressed-tensors"))
        for ranks in (1, 2):
            output = self.export(f"blocks-{ranks}", *options, "--target", "vllm-sharded", "--tensor-parallel", ranks)
            for (_, rank), tensors in read_ranks(output).items():
                self.assertEqual(4, self.assert_rank(self.configs["llama"], "", tensors, exported, rank, ranks))

    def test_what_vllm_has_no_such_parameters_for_is_refused(self):
        target = ("--target", "vllm-sharded", "--tensor-parallel", 2)
        router = self.scratch / "router.yaml"
        router.write_text('rules:\n  - modules: ["*.gate"]\n    format: fp8-per-channel\n')
        for source, options, says in (("llama", ("--quantization", "fp8-block"), "no whole blocks of 128 x 128"),
                                      ("llama", ("--quantization", "fp8-per-channel", "--kv-cache", "fp8"), ".k_amax"),
                                      ("llama", ("--quantization", "fp8", "--kv-cache", "nvfp4"), "--kv-cache"),
                                      ("llama", ("--quantization", "int4"), "no whole groups of 128"),
                                      ("mixtral", ("--recipe", router), "does not quantize"),
                                      ("mixtral", self.options["int4 in groups of 32"], "does not take experts"),
                                      ("mixtral", ("--quantization", "int8"), "does not take experts"),
                                      ("mixtral", ("--quantization", "fp8"), "with ranges of inputs it takes them"),
                                      ("mixtral", ("--quantization", "nvfp4"), "with ranges of inputs it takes them")):
            with self.subTest(options=options):
                result = slipway("plan", SOURCES[source], *target, *options)
                self.assertEqual((REFUSED, "OPTION_UNSUPPORTED"), (result.returncode, reason_of(result)),
                                 describe(result))
                self.assertIn(says, result.stderr)


if __name__ == "__main__":
    unittest.main()
