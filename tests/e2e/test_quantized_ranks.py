"""Quantized TensorRT-LLM checkpoints: what the ranks' codes stand for, put together again, is the golden but for rounding."""
import json
import math
import unittest

from artifact import read_directory, read_file
from harness import CHECKPOINTS, REFUSED, Scratch, Service, describe, digests, options_of, reason_of, slipway
from quantized import fp32, ranges_file, recipe_of
from quantized_tensorrt_llm import QuantizedCheckpoint
from tensorrt_llm import as_engine_stores, floats

LLAMA = "llama3_tp2_pp2_torch_dist"
QWEN3 = "qwen3_tp2_pp2_mcore014_torch_dist"
MIXTRAL = "mixtral_tp1_pp1_ep2_grouped_torch"
QWEN3_MOE = "qwen3-moe_tp2_pp1_ep2_grouped_torch_dist"
NEMOTRON = "nemotron_tp2_pp1_torch_dist"
GPT2 = "gpt2_tp1_pp1_local-spec_torch_dist"
WIDE = CHECKPOINTS.parent / "ptq" / "llama256"
CALIBRATED = CHECKPOINTS.parent / "calibrated"
# Largest relative Frobenius error of a weight like noise.
BOUNDS = {"FP8": 0.03, "FP8_PER_CHANNEL_PER_TOKEN": 0.03, "NVFP4": 0.1, "W8A8_SQ_PER_CHANNEL": 0.0135, "W4A16_AWQ": 0.17,
          "W4A8_AWQ": 0.17}
LARGEST_FP8 = 448


def ranges_of(golden):
    """A range of each module's input, each another, and of keys and values."""
    ranges = {}
    for number, (name, (_, shape, _)) in enumerate(sorted(golden.items())):
        if len(shape) == 2 and (".layers." in name or ".h." in name):
            module = name.removesuffix(".weight")
            ranges[f"{module}.input_amax"] = 2 + number % 7
            if module.endswith(("k_proj", "c_attn")):
                attention = module.rpartition(".")[0]
                ranges |= {f"{attention}.k_amax": 900 + number, f"{attention}.v_amax": 5}
    return ranges


def largest(tensors):
    return max(abs(value) for tensor in tensors for value in floats(tensor))


class QuantizedRanks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        cls.service = cls.enterClassContext(Service(cls.scratch / "svc", workers=2))

    def export(self, checkpoint, output, ranks, *options):
        result = self.service.run("export", checkpoint, output, "--target", "tensorrt-llm", "--tensor-parallel", ranks[0],
                                  "--pipeline-parallel", ranks[1], "--expert-parallel", ranks[2], *options)
        self.assertEqual(0, result.returncode, describe(result) + self.service.logs())
        return output

    def ranges(self, golden, name):
        path = self.scratch / f"{name}.ranges"
        path.write_bytes(ranges_file(ranges_of(golden)))
        return path

    def compare(self, output, golden, model_type, source=None):
        """Tensors that are quantized within their bound, all others bit by bit."""
        checkpoint = QuantizedCheckpoint(output, model_type)
        algorithm = checkpoint.config["quantization"]["quant_algo"]
        found, wanted, quantized = checkpoint.reassemble(), as_engine_stores(golden, model_type), 0
        self.assertEqual(wanted.keys(), found.keys())
        for name, tensor in wanted.items():
            self.assertEqual(tensor[1], found[name][1], name)
            if tensor[0] == found[name][0]:
                self.assertEqual(tensor, found[name], name)
                continue
            quantized += 1
            values, source_values = floats(found[name]), floats(tensor)
            error = math.sqrt(sum((a - b)**2 for a, b in zip(values, source_values, strict=True)) /
                              sum(b * b for b in source_values))
            self.assertLess(error, BOUNDS[algorithm], name)
        verified = slipway("verify", output, *(["--against", source] if source else []))
        self.assertEqual(0, verified.returncode, describe(verified))
        return checkpoint, quantized

    def check(self, fixture, quantization, ranks, *options):
        with self.subTest(fixture=fixture, quantization=quantization, ranks=ranks):
            golden_hf = CHECKPOINTS / fixture / "golden_hf"
            golden = read_directory(golden_hf)
            model_type = json.loads((golden_hf / "config.json").read_text())["model_type"]
            output = self.export(CHECKPOINTS / fixture, self.scratch / f"{fixture}-{quantization}-{ranks}-{len(options)}", ranks,
                                 *options_of(fixture), "--quantization", quantization, *options)
            return *self.compare(output, golden, model_type, CHECKPOINTS / fixture), golden

    def test_ranks_and_stages_hold_the_golden_but_for_rounding(self):
        for ranks in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2, 1), (4, 1, 1)):
            for quantization in ("fp8", "nvfp4", "fp8-per-channel"):
                ranges = self.ranges(read_directory(CHECKPOINTS / LLAMA / "golden_hf"), LLAMA)
                options = [] if quantization == "fp8-per-channel" else ["--ranges", ranges]
                _, quantized, _ = self.check(LLAMA, quantization, ranks, *options)
                self.assertEqual(4 * 7, quantized)

    def test_every_family_and_groups_of_experts(self):
        for fixture, quantization, ranks, count in ((QWEN3, "fp8", (2, 2, 1), 28), (NEMOTRON, "nvfp4", (2, 1, 1), 12),
                                                    (GPT2, "fp8", (2, 1, 1), 8), (MIXTRAL, "fp8", (2, 2, 1), 32),
                                                    (MIXTRAL, "nvfp4", (2, 1, 2), 32), (QWEN3_MOE, "fp8", (4, 1, 2), 32),
                                                    (QWEN3_MOE, "nvfp4", (2, 1, 2), 32)):
            ranges = self.ranges(read_directory(CHECKPOINTS / fixture / "golden_hf"), fixture)
            _, quantized, _ = self.check(fixture, quantization, ranks, "--ranges", ranges)
            self.assertEqual(count, quantized)

    def test_fused_modules_and_all_ranks_have_one_scale(self):
        ranges = self.ranges(read_directory(CHECKPOINTS / LLAMA / "golden_hf"), LLAMA)
        checkpoint, _, golden = self.check(LLAMA, "fp8", (2, 2, 1), "--ranges", ranges, "--kv-cache", "fp8")
        amaxes = ranges_of(golden)
        for layer in range(4):
            stage, local = divmod(layer, 2)
            source, name = f"model.layers.{layer}", f"transformer.layers.{local}"
            for module, parts in (("attention.qkv", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
                                  ("attention.dense", ["self_attn.o_proj"]), ("mlp.fc", ["mlp.gate_proj", "mlp.up_proj"]),
                                  ("mlp.gate", ["mlp.gate_proj", "mlp.up_proj"]), ("mlp.proj", ["mlp.down_proj"])):
                weight = largest(golden[f"{source}.{part}.weight"] for part in parts)
                self.assertEqual(fp32(weight / LARGEST_FP8),
                                 checkpoint.scale(stage, f"{name}.{module}.weights_scaling_factor"))
                given = max(amaxes[f"{source}.{part}.input_amax"] for part in parts)
                self.assertEqual(fp32(given / LARGEST_FP8),
                                 checkpoint.scale(stage, f"{name}.{module}.activation_scaling_factor"))
            self.assertEqual(fp32(amaxes[f"{source}.self_attn.k_amax"] / LARGEST_FP8),
                             checkpoint.scale(stage, f"{name}.attention.kv_cache_scaling_factor"))
        self.assertEqual("FP8", checkpoint.config["quantization"]["kv_cache_quant_algo"])

    def test_an_expert_has_one_scale_and_its_layer_one_range(self):
        golden = read_directory(CHECKPOINTS / MIXTRAL / "golden_hf")
        output = self.export(CHECKPOINTS / MIXTRAL, self.scratch / "experts", (4, 1, 2), "--quantization", "fp8", "--ranges",
                             self.ranges(golden, MIXTRAL))
        amaxes = ranges_of(golden)
        for rank in range(4):
            tensors = read_file(output / f"rank{rank}.safetensors")
            experts = [rank % 2 * 2, rank % 2 * 2 + 1]
            for module, parts in (("fc", ["w1", "w3"]), ("proj", ["w2"])):
                prefix = "model.layers.1.block_sparse_moe.experts"
                _, shape, _ = scale = tensors[f"transformer.layers.1.mlp.{module}.weights_scaling_factor"]
                self.assertEqual((2, 1), shape)
                self.assertEqual([fp32(largest(golden[f"{prefix}.{expert}.{part}.weight"] for part in parts) / LARGEST_FP8)
                                  for expert in experts], floats(scale))
                given = max(amaxes[f"{prefix}.{expert}.{part}.input_amax"] for expert in range(4) for part in parts)
                self.assertEqual([fp32(given / LARGEST_FP8)],
                                 floats(tensors[f"transformer.layers.1.mlp.{module}.activation_scaling_factor"]))

    def test_weight_only_formats_leave_values_to_the_builder(self):
        for fixture, quantization, ranks, algorithm in ((LLAMA, "int8", (2, 2, 1), "W8A16"),
                                                        (MIXTRAL, "int4", (2, 1, 2), "W4A16")):
            checkpoint, quantized, _ = self.check(fixture, quantization, ranks)
            self.assertEqual((0, algorithm), (quantized, checkpoint.config["quantization"]["quant_algo"]))
            excluded = checkpoint.config["quantization"]["exclude_modules"]
            self.assertLessEqual({"*lm_head", "*router", "*vocab_embedding", "*position_embedding"}, set(excluded))

    def test_formats_of_groups_and_of_smoothed_inputs(self):
        golden = read_directory(WIDE)
        ranges = self.ranges(golden, "wide")
        for name, group, ranks in (("int4-awq", 64, (4, 1, 1)), ("int4-awq", None, (2, 1, 1)), ("w4a8-awq", None, (2, 1, 1)),
                                   ("int8-smoothquant", None, (2, 1, 1))):
            with self.subTest(name=name, group=group):
                recipe = self.scratch / f"{name}-{group}.yaml"
                recipe.write_text(recipe_of([("*", name, group)]))
                output = self.export(WIDE, self.scratch / f"wide-{name}-{group}", ranks, "--recipe", recipe, "--ranges", ranges)
                checkpoint, quantized = self.compare(output, golden, "llama", WIDE)
                self.assertEqual(7, quantized)
                settings = checkpoint.config["quantization"]
                if name != "int8-smoothquant":
                    self.assertEqual((group or 128, False, True),
                                     (settings["group_size"], settings["has_zero_point"], settings["pre_quant_scale"]))

    def test_a_calibrated_checkpoint_has_the_scales_of_its_hugging_face_export(self):
        fixture = CALIBRATED / "llama3_fp8_kvfp8_tp1"
        output = self.export(fixture, self.scratch / "calibrated", (2, 1, 1))
        alone = slipway("export", fixture, self.scratch / "calibrated-hf")
        self.assertEqual(0, alone.returncode, describe(alone))
        theirs = read_directory(self.scratch / "calibrated-hf")
        checkpoint = QuantizedCheckpoint(output, "llama")
        name, source = "transformer.layers.0.attention", "model.layers.0.self_attn"
        for ours, suffix in (("weights_scaling_factor", "weight_scale"), ("activation_scaling_factor", "input_scale")):
            self.assertEqual(max(floats(theirs[f"{source}.{part}_proj.{suffix}"])[0] for part in "qkv"),
                             checkpoint.scale(0, f"{name}.qkv.{ours}"))
        self.assertEqual(max([1] + [floats(theirs[f"{source}.{part}_proj.{part}_scale"])[0] for part in "kv"]),
                         checkpoint.scale(0, f"{name}.kv_cache_scaling_factor"))

    def test_workers_and_where_the_model_comes_from_do_not_show(self):
        ranges = self.ranges(read_directory(CHECKPOINTS / MIXTRAL / "golden_hf"), MIXTRAL)
        for fixture, ranks, options in ((MIXTRAL, (4, 1, 2), ["--quantization", "fp8", "--ranges", ranges, "--scale-search",
                                                              "mse"]),
                                        (LLAMA, (2, 2, 1), ["--quantization", "fp8-per-channel"])):
            with self.subTest(fixture):
                output = self.export(CHECKPOINTS / fixture, self.scratch / f"{fixture}-two", ranks, *options)
                alone = slipway("export", CHECKPOINTS / fixture, self.scratch / f"{fixture}-alone", "--target", "tensorrt-llm",
                                "--tensor-parallel", ranks[0], "--pipeline-parallel", ranks[1], "--expert-parallel", ranks[2],
                                "--workers", 1, "--threads", 1, *options)
                self.assertEqual(0, alone.returncode, describe(alone))
                self.assertEqual(digests(output), digests(self.scratch / f"{fixture}-alone"))
                derived = self.export(CHECKPOINTS / fixture / "golden_hf", self.scratch / f"{fixture}-derived", ranks, *options)
                ours, theirs = ({name: digest for name, digest in digests(directory).items() if name.endswith(".safetensors")}
                                for directory in (output, derived))
                self.assertEqual(ours, theirs)

    def test_beside_a_hugging_face_directory_it_is_what_it_is_alone(self):
        ranges = self.ranges(read_directory(CHECKPOINTS / LLAMA / "golden_hf"), LLAMA)
        options = ["--quantization", "fp8", "--ranges", ranges]
        both = self.export(CHECKPOINTS / LLAMA, self.scratch / "both", (2, 1, 1), "--target", "huggingface", *options)
        alone = self.export(CHECKPOINTS / LLAMA, self.scratch / "one", (2, 1, 1), *options)
        self.assertTrue((both / "huggingface" / "hf_quant_config.json").exists())
        self.assertEqual(digests(alone), digests(both / "tensorrt-llm"))

    def test_modules_in_different_formats_are_listed(self):
        golden = read_directory(CHECKPOINTS / LLAMA / "golden_hf")
        recipe = self.scratch / "mixed.yaml"
        recipe.write_text(recipe_of([("*", "nvfp4", None), ("*self_attn*", "fp8", None), ("*down_proj", "none", None)]))
        output = self.export(CHECKPOINTS / LLAMA, self.scratch / "mixed", (2, 2, 1), "--recipe", recipe, "--ranges",
                             self.ranges(golden, LLAMA))
        self.assertEqual("MIXED_PRECISION", json.loads((output / "config.json").read_text())["quantization"]["quant_algo"])
        layers = json.loads((output / "quant_cfg.json").read_text())["quantized_layers"]
        expected = {}
        for local in range(2):
            expected |= {f"transformer.layers.{local}.attention.{name}": {"quant_algo": "FP8"} for name in ("qkv", "dense")}
            expected |= {f"transformer.layers.{local}.mlp.{name}": {"quant_algo": "NVFP4", "group_size": 16}
                         for name in ("fc", "gate")}
        self.assertEqual(expected, layers)

    def test_what_cannot_be_is_refused_before_anything_is_written(self):
        ranges = self.ranges(read_directory(CHECKPOINTS / LLAMA / "golden_hf"), LLAMA)
        recipes = {"stages": [("*", "fp8-per-channel", None)], "head": [("*", "fp8", None), ("lm_head", "fp8", None)],
                   "groups": [("*", "int4-awq", 32)]}
        for name, rules in recipes.items():
            (self.scratch / f"{name}.yaml").write_text(recipe_of(rules))
        with open(self.scratch / "stages.yaml", "a", encoding="utf-8") as file:
            file.write("  - layers: [0]\n    format: none\n")
        recipe = lambda name: ["--recipe", self.scratch / f"{name}.yaml"]  # noqa: E731
        two, given = ["--tensor-parallel", 2], ["--ranges", ranges]
        cases = [(LLAMA, ["--quantization", name], "--target huggingface") for name in ("mxfp4", "mxfp8", "fp8-block")]
        cases += [
            (LLAMA, ["--quantization", "fp8"], "--ranges"),
            (MIXTRAL, ["--quantization", "fp8-per-channel"], "experts"),
            (MIXTRAL, ["--quantization", "nvfp4", *two, "--ranges",
                       self.ranges(read_directory(CHECKPOINTS / MIXTRAL / "golden_hf"), MIXTRAL)], "24 columns"),
            (LLAMA, ["--quantization", "fp8", *given, "--kv-cache", "nvfp4"], "fp8 would work"),
            (LLAMA, ["--quantization", "fp8", *given, "--config-form", "modelopt"], "--config-form"),
            (LLAMA, ["--quantization", "nvfp4", *given, "--tensorrt-llm-version", "0.16"], "0.17"),
            (LLAMA, ["--quantization", "int8", *two, "--tensorrt-llm-version", "0.17"], "multiples of 128"),
            (LLAMA, [*recipe("stages"), "--pipeline-parallel", 2], "--pipeline-parallel"),
            (LLAMA, [*recipe("head"), *given], "lm_head"), (LLAMA, recipe("groups"), "128 or 64"),
        ]
        for fixture, options, says in cases:
            with self.subTest(options):
                self.refuse(fixture, "tensorrt-llm", options, says)
        self.refuse(LLAMA, "sglang-sharded", ["--quantization", "fp8", *given], "--target huggingface")

    def refuse(self, fixture, target, options, says):
        output = self.scratch / "refused"
        result = slipway("export", CHECKPOINTS / fixture, output, "--target", target, *options)
        self.assertEqual((REFUSED, "OPTION_UNSUPPORTED"), (result.returncode, reason_of(result)), describe(result))
        self.assertIn(says, result.stderr)
        self.assertFalse(output.exists())


if __name__ == "__main__":
    unittest.main()
