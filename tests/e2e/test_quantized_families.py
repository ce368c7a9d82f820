"""What families need of quantization: scales that fused siblings share, experts out of stacks, sources of other kinds."""
import json
import random
import struct
import unittest

from artifact import read_directory, tensor_differences
from harness import (CHECKPOINTS, REFUSED, REPOSITORY, Scratch, Service, describe, options_of, reason_of, slipway)
from quantized import FP4, bf16, decode, fp32, recipe_of, values_of
from test_hf_source import FP8_CONFIG, fp8_matrix, write_model

PTQ = REPOSITORY / "tests" / "data" / "ptq"
LLAMA = CHECKPOINTS / "llama3_tp2_pp2_torch_dist"
WEIGHT_ONLY = ("--quantization", "nvfp4", "--config-form", "modelopt")


def rows_of(stack, expert, rows):
    """Rows `rows` of an expert's matrix [out, in] in a stack [experts, in, out]."""
    (_, (_, inputs, outputs), _), values = stack, values_of(stack)
    base = expert * inputs * outputs
    return [values[base + column * outputs + row] for row in rows for column in range(inputs)]


def random_matrix(generator, *shape, dtype="BF16"):
    count = 1
    for size in shape:
        count *= size
    if dtype == "F32":
        return "F32", shape, struct.pack(f"<{count}f", *(generator.gauss(0, 0.05) for _ in range(count)))
    return "BF16", shape, b"".join(struct.pack("<f", generator.gauss(0, 0.05))[2:] for _ in range(count))


class QuantizedFamilies(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        cls.service = cls.enterClassContext(Service(cls.scratch / "svc", workers=1))
        cls.count = 0

    def path(self, name):
        type(self).count += 1
        return self.scratch / f"{name}-{self.count}"

    def recipe(self, rules, settings=""):
        path = self.path("recipe")
        path.write_text(recipe_of(rules, settings))
        return "--recipe", path

    def export(self, source, *options):
        output = self.path("out")
        result = self.service.run("export", source, output, *options)
        self.assertEqual(0, result.returncode, describe(result) + self.service.logs())
        verified = slipway("verify", output)
        self.assertEqual(0, verified.returncode, describe(verified))
        return read_directory(output)

    def refuse(self, source, *options, reason="OPTION_UNSUPPORTED"):
        output = self.path("refused")
        result = self.service.run("export", source, output, *options)
        self.assertEqual((REFUSED, reason), (result.returncode, reason_of(result)), describe(result))
        self.assertFalse(output.exists())
        return result.stderr

    def check_weight(self, tensors, module, shape, source, bound):
        """Every code is the nearest to its weight, and the weight is near its source."""
        weight = decode(tensors, module, shape)
        self.assertIsNotNone(weight, module)
        self.assertIsNone(weight.first_not_nearest(source), module)
        self.assertLess(weight.squared_error(source), bound**2 * sum(value**2 for value in source), module)

    def test_fused_siblings_share_the_scale_of_the_largest(self):
        source = read_directory(LLAMA / "golden_hf")
        tensors = self.export(LLAMA, *WEIGHT_ONLY, "--max-shard-size", "8KB")
        for layer in range(2):
            for parent, names in (("self_attn", ("q_proj", "k_proj", "v_proj")), ("self_attn", ("o_proj",)),
                                  ("mlp", ("gate_proj", "up_proj")), ("mlp", ("down_proj",))):
                modules = [f"model.layers.{layer}.{parent}.{name}" for name in names]
                largest = max(abs(value) for module in modules for value in values_of(source[f"{module}.weight"]))
                for module in modules:
                    self.assertEqual([fp32(largest / 2688)], values_of(tensors[f"{module}.weight_scale_2"]), module)
                    self.check_weight(tensors, module, source[f"{module}.weight"][1],
                                      values_of(source[f"{module}.weight"]), 0.12)
        # Those that are not fused keep their own.
        fp8 = self.export(LLAMA, *self.recipe([("*", "fp8", None)], "activations: dynamic"),
                          "--config-form", "compressed-tensors")
        for module in ("q_proj", "k_proj", "v_proj"):
            name = f"model.layers.0.self_attn.{module}.weight"
            self.assertEqual([bf16(max(map(abs, values_of(source[name]))) / 448)], values_of(fp8[name + "_scale"]))

    def test_experts_have_one_scale_for_gate_and_up(self):
        fixture = CHECKPOINTS / "mixtral_tp1_pp1_ep2_grouped_torch"
        source = read_directory(fixture / "golden_hf")
        for options in (self.recipe([("*experts*", "fp8", None)], "activations: dynamic") + ("--config-form", "native"),
                        (*self.recipe([("*experts*", "nvfp4", None)]), "--config-form", "modelopt")):
            tensors = self.export(fixture, *options)
            two_levels = any(name.endswith("weight_scale_2") for name in tensors)
            suffix, bound = ("weight_scale_2", 2688) if two_levels else ("weight_scale", 448)
            for expert in range(4):
                base = f"model.layers.1.block_sparse_moe.experts.{expert}."
                largest = {name: max(map(abs, values_of(source[f"{base}{name}.weight"])))
                           for name in ("w1", "w2", "w3")}
                for name, amax in (("w1", max(largest["w1"], largest["w3"])), ("w2", largest["w2"]),
                                   ("w3", max(largest["w1"], largest["w3"]))):
                    self.assertEqual([fp32(amax / bound)], values_of(tensors[f"{base}{name}.{suffix}"]))

    def test_a_layer_of_384_experts(self):
        generator = random.Random(5)
        prefix, parts = "model.layers.0.mlp.experts", ("gate_proj", "up_proj", "down_proj")
        source = {f"{prefix}.{expert}.{part}.weight": random_matrix(generator, 16, 16)
                  for expert in range(384) for part in parts}
        source["model.layers.0.mlp.gate.weight"] = random_matrix(generator, 384, 16)
        directory = self.path("experts")
        write_model(directory, [source], {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe"})
        tensors = self.export(directory, *WEIGHT_ONLY)
        self.assertEqual(source["model.layers.0.mlp.gate.weight"], tensors["model.layers.0.mlp.gate.weight"])
        self.assertEqual(384 * 3, sum(name.endswith(".weight_scale_2") for name in tensors))
        for expert in (0, 1, 255, 256, 383):
            for part in parts:
                module = f"{prefix}.{expert}.{part}"
                self.check_weight(tensors, module, (16, 16), values_of(source[f"{module}.weight"]), 0.13)

    def test_what_engines_compute_as_one_or_not_at_all_is_refused_by_name(self):
        experts = CHECKPOINTS / "mixtral_tp1_pp1_ep2_grouped_torch"
        for modules in ("*experts*w2", "*experts.0.*"):
            self.assertIn("same experts", self.refuse(experts, *self.recipe([(modules, "fp8-per-channel", None)])))
        self.assertIn("embed_tokens", self.refuse(LLAMA, *self.recipe([(["*", "model.embed_tokens"], "int8", None)])))
        said = self.refuse(LLAMA, *self.recipe([(["*", "lm_head"], "mxfp8", None)]), "--config-form", "native")
        self.assertIn("output layer", said)

    def test_what_is_quantized_already_is_not_quantized_again(self):
        generator = random.Random(3)
        tensors = {f"model.layers.0.mlp.{name}.weight": random_matrix(generator, 32, 32) for name in ("up_proj", "down_proj")}
        for method, advice in (({"quant_method": "modelopt"}, "before it was quantized"),
                               (FP8_CONFIG["quantization_config"], "--dtype bf16")):
            directory = self.path("quantized")
            write_model(directory, [tensors], {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
                                               "quantization_config": method})
            self.assertIn(advice, self.refuse(directory, "--quantization", "int8"))
            self.assertIn(advice, self.refuse(directory, *self.recipe([("*up_proj", "fp8-per-channel", None)])))

    def test_values_whose_squares_have_no_end_stop_the_export_by_name(self):
        values = [0.25, -0.5] * 512
        values[3] = 1e30
        matrix = ("F32", (32, 32), struct.pack("<1024f", *values))
        directory = self.path("large")
        write_model(directory, [{"model.layers.0.mlp.down_proj.weight": matrix}],
                    {"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
        for quantization in ("int8", "fp8", "nvfp4"):
            output = self.path("refused")
            result = self.service.run("export", directory, output, "--quantization", quantization)
            self.assertEqual("CHECKPOINT_CORRUPT", reason_of(result), describe(result))
            self.assertIn("down_proj", result.stderr)
            self.assertFalse(output.exists())

    def test_a_recipe_that_parts_siblings_is_refused_by_name(self):
        for modules, named in (("*q_proj", "self_attn"), ("*up_proj", "mlp"), (["*q_proj", "*k_proj"], "v_proj")):
            said = self.refuse(LLAMA, *self.recipe([(modules, "nvfp4", None)]))
            self.assertIn(named, said)
        said = self.refuse(LLAMA, *self.recipe([("*", "nvfp4", None), ("*k_proj", "fp8-per-channel", None)]))
        self.assertIn("k_proj", said)
        # Groups of another size are another format to them.
        said = self.refuse(LLAMA, *self.recipe([("*", "int4", 32), ("*k_proj", "int4", 64)]))
        self.assertIn("k_proj", said)

    def test_stacked_experts_become_one_matrix_each(self):
        for fixture, stack, transposed, layer in (
                ("derived_qwen3_vl_moe", "model.language_model.layers.{}.mlp.experts", True, 1),
                ("derived_llama4", "model.layers.{}.feed_forward.experts", True, 1),
                ("derived_qwen3_5_moe", "model.layers.{}.mlp.experts", False, 2)):
            source = read_directory(CHECKPOINTS / fixture / "golden_hf")
            prefix = stack.format(layer)
            gate_up, down = source[f"{prefix}.gate_up_proj"], source[f"{prefix}.down_proj"]
            options = self.recipe([("*experts*", "fp8-per-channel", None)])
            for checkpoint, extra in ((CHECKPOINTS / fixture, options_of(fixture)),
                                      (CHECKPOINTS / fixture / "golden_hf", ())):
                with self.subTest(checkpoint):
                    tensors = self.export(checkpoint, *options, *extra)
                    self.assertNotIn(f"{prefix}.gate_up_proj", tensors)
                    width = gate_up[1][2 if transposed else 1] // 2
                    for expert in range(gate_up[1][0]):
                        for name, matrix, first, count in (("gate_proj", gate_up, 0, width),
                                                           ("up_proj", gate_up, width, width),
                                                           ("down_proj", down, 0, down[1][2 if transposed else 1])):
                            inputs = matrix[1][1 if transposed else 2]
                            if transposed:
                                expected = rows_of(matrix, expert, range(first, first + count))
                            else:
                                begin = (expert * matrix[1][1] + first) * inputs
                                expected = values_of(matrix)[begin:begin + count * inputs]
                            self.check_weight(tensors, f"{prefix}.{expert}.{name}", (count, inputs), expected, 0.04)

    def test_interleaved_experts_come_apart(self):
        fixture = "gpt-oss_tp1_pp1_torch_dist"
        source = read_directory(CHECKPOINTS / fixture / "golden_hf")
        tensors = self.export(CHECKPOINTS / fixture, *self.recipe([("*experts*", "nvfp4", None)]), "--config-form",
                              "modelopt", *options_of(fixture))
        gate_up = source["model.layers.1.mlp.experts.gate_up_proj"]
        for expert in range(4):
            for first, name in enumerate(("gate_proj", "up_proj")):
                self.check_weight(tensors, f"model.layers.1.mlp.experts.{expert}.{name}", (48, 64),
                                  rows_of(gate_up, expert, range(first, 96, 2)), 0.13)

    def check_native_mxfp4(self, tensors, source, name):
        """Blocks [E, N, K / 32, 16] and scales [E, N, K / 32] of the source's [E, K, N]."""
        experts, inputs, outputs = source[name][1]
        blocks, scales = tensors[f"{name}_blocks"], tensors[f"{name}_scales"]
        self.assertEqual(("U8", (experts, outputs, inputs // 32, 16)), blocks[:2])
        self.assertEqual(("U8", (experts, outputs, inputs // 32)), scales[:2])
        self.assertNotIn(name, tensors)
        for expert in range(experts):
            wanted = rows_of(source[name], expert, range(outputs))
            error = total = 0
            for block in range(outputs * inputs // 32):
                at = expert * outputs * inputs // 32 + block
                scale = 2.0**(scales[2][at] - 127)
                values = wanted[32 * block:32 * block + 32]
                codes = [code for byte in blocks[2][16 * at:16 * at + 16] for code in (byte & 15, byte >> 4)]
                for code, value in zip(codes, values, strict=True):
                    distance = abs(FP4[code] * scale - value)
                    self.assertLessEqual(distance, min(abs(other * scale - value) for other in FP4) * (1 + 1e-6))
                    error += distance**2
                    total += value**2
            self.assertLess(error, 0.2**2 * total)  # scales are powers of two

    def test_gpt_oss_has_its_own_form_of_mxfp4(self):
        fixture = "gpt-oss_tp1_pp1_torch_dist"
        name = "model.layers.{}.mlp.experts.gate_up_proj"
        source = read_directory(CHECKPOINTS / fixture / "golden_hf")
        options = (*self.recipe([("*experts.gate_up_proj", "mxfp4", None)]), "--config-form", "native")
        tensors = self.export(CHECKPOINTS / fixture, *options, *options_of(fixture))
        for layer in range(2):
            self.check_native_mxfp4(tensors, source, name.format(layer))
        rest = {key: value for key, value in tensors.items() if not key.endswith(("_blocks", "_scales"))}
        self.assertEqual([f"missing: {name.format(layer)}" for layer in range(2)], tensor_differences(rest, source))
        again = self.export(CHECKPOINTS / fixture / "golden_hf", *options)
        self.assertEqual([], tensor_differences(again, tensors))

    def test_a_gpt_oss_directory_with_all_its_experts(self):
        generator = random.Random(11)
        source = {"model.layers.0.mlp.experts.gate_up_proj": random_matrix(generator, 3, 64, 64),
                  "model.layers.0.mlp.experts.gate_up_proj_bias": random_matrix(generator, 3, 64),
                  "model.layers.0.mlp.experts.down_proj": random_matrix(generator, 3, 32, 64),
                  "model.layers.0.mlp.router.weight": random_matrix(generator, 3, 64),
                  "model.layers.0.self_attn.q_proj.weight": random_matrix(generator, 64, 64)}
        directory = self.path("gpt-oss")
        write_model(directory, [source], {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss"})
        output = self.path("out")
        result = self.service.run("export", directory, output, *self.recipe([("*experts*", "mxfp4", None)]),
                                  "--config-form", "native")
        self.assertEqual(0, result.returncode, describe(result))
        tensors = read_directory(output)
        for name in ("gate_up_proj", "down_proj"):
            self.check_native_mxfp4(tensors, source, f"model.layers.0.mlp.experts.{name}")
        config = json.loads((output / "config.json").read_text())["quantization_config"]
        self.assertEqual("mxfp4", config["quant_method"])

    def test_the_form_for_stacked_experts_takes_nothing_else(self):
        fixture = "gpt-oss_tp1_pp1_torch_dist"
        self.assertIn("experts", self.refuse(LLAMA, "--quantization", "mxfp4", "--config-form", "native"))
        # Asked for everything, it leaves attention as it is: experts' down_proj has too few inputs here, by name.
        said = self.refuse(CHECKPOINTS / fixture, "--quantization", "mxfp4", "--config-form", "native",
                           *options_of(fixture))
        self.assertIn("experts.down_proj", said)
        rules = [("*", "mxfp4", None), ("*experts.down_proj", "none", None)]
        tensors = self.export(CHECKPOINTS / fixture, *self.recipe(rules), "--config-form", "native",
                              *options_of(fixture))
        source = read_directory(CHECKPOINTS / fixture / "golden_hf")
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weight = f"model.layers.0.self_attn.{name}.weight"
            self.assertEqual(source[weight], tensors[weight])

    def test_codes_are_not_quantized_again(self):
        generator = random.Random(8)
        codes, blocks, scales, _ = fp8_matrix(128, 128, generator)
        name = "model.layers.0.self_attn.o_proj.weight"
        directory = self.path("codes")
        write_model(directory, [{name: ("F8_E4M3", (128, 128), codes), name + "_scale_inv": ("F32", blocks, scales),
                                 "model.layers.0.mlp.down_proj.weight": random_matrix(generator, 64, 64)}], FP8_CONFIG)
        self.assertIn("--dtype bf16", self.refuse(directory, *WEIGHT_ONLY))

    def test_gpt2_takes_formats_with_one_scale_a_tensor_alone(self):
        fixture = CHECKPOINTS / "gpt2_tp1_pp1_local-spec_torch_dist"
        for name in ("fp8-per-channel", "nvfp4", "int4", "mxfp8", "int8", "fp8-block"):
            self.refuse(fixture, *self.recipe([("*", name, 32 if name == "int4" else None)]))
        source = read_directory(fixture / "golden_hf")
        tensors = self.export(fixture, *self.recipe([("*", "fp8", None)], "activations: dynamic"))
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            weight = source[f"transformer.h.1.{name}.weight"]
            self.check_weight(tensors, f"transformer.h.1.{name}", weight[1], values_of(weight), 0.04)
        for name in ("transformer.wte.weight", "transformer.wpe.weight"):
            self.assertEqual(source[name], tensors[name])

    def test_fp8_blocks_are_dequantized_and_quantized_anew(self):
        generator = random.Random(6)
        tensors, plain = {}, {}
        for name, shape in (("q_a_proj", (130, 256)), ("kv_a_proj_with_mqa", (64, 256)), ("o_proj", (256, 160))):
            codes, blocks, scales, values = fp8_matrix(*shape, generator)
            key = f"model.layers.0.self_attn.{name}.weight"
            tensors[key] = ("F8_E4M3", shape, codes)
            tensors[key + "_scale_inv"] = ("F32", blocks, scales)
            plain[key] = ("BF16", shape, values)
        tensors["model.norm.weight"] = plain["model.norm.weight"] = random_matrix(generator, 9)
        write_model(self.scratch / "fp8", [tensors], FP8_CONFIG)
        write_model(self.scratch / "bf16", [plain],
                    {key: value for key, value in FP8_CONFIG.items() if key != "quantization_config"})
        for options in (WEIGHT_ONLY, ("--quantization", "mxfp8", "--config-form", "modelopt"),
                        (*self.recipe([("*", "int4", 32)]), "--config-form", "modelopt")):
            anew = self.export(self.scratch / "fp8", "--dtype", "bf16", *options)
            self.assertEqual([], tensor_differences(anew, self.export(self.scratch / "bf16", *options)))
            for name, (_, shape, _) in plain.items():
                if len(shape) == 2 and options == WEIGHT_ONLY:
                    self.check_weight(anew, name.removesuffix(".weight"), shape, values_of(plain[name]), 0.13)
        self.assertNotIn("model.norm.weight_scale", anew)

    def test_what_is_missing_or_cannot_be_is_refused_by_name(self):
        self.assertIn("ranges", self.refuse(LLAMA, "--quantization", "fp8", "--config-form", "modelopt"))
        self.assertIn("ranges", self.refuse(LLAMA, *self.recipe([("*", "nvfp4", None)], "activations: static")))
        said = self.refuse(LLAMA, *WEIGHT_ONLY, "--kv-cache", "fp8")
        self.assertIn("model.layers.0.self_attn", said)
        self.assertIn("k_amax", said)
        self.assertIn("groups of 16", self.refuse(CHECKPOINTS / "derived_llama4", *WEIGHT_ONLY))
        said = self.refuse(LLAMA, "--quantization", "int4", "--config-form", "modelopt")
        self.assertIn("groups of 128", said)
        self.assertIn("model.layers.0.", said)
        self.assertIn("nothing", self.refuse(LLAMA, *self.recipe([("*", "nvfp4", None), ("model.*", "none", None)])))
        self.assertIn("*no_such_module*", self.refuse(LLAMA, *self.recipe([("*", "nvfp4", None),
                                                                           ("*no_such_module*", "fp8", None)])))

    def test_a_weight_that_is_not_finite_fails_the_export_by_name(self):
        generator = random.Random(3)
        for bits in (0x7FC0, 0x7F80, 0xFF80):
            weights = {f"model.layers.0.mlp.{name}.weight": random_matrix(generator, 64, 64)
                       for name in ("gate_proj", "up_proj")}
            name = "model.layers.0.mlp.up_proj.weight"
            data = bytearray(weights[name][2])
            data[777 * 2:777 * 2 + 2] = struct.pack("<H", bits)
            weights[name] = (*weights[name][:2], bytes(data))
            directory = self.path("broken")
            write_model(directory, [weights], {"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
            for options in (WEIGHT_ONLY, ("--quantization", "mxfp8"), ("--quantization", "fp8-block")):
                said = self.refuse(directory, *options, reason="CHECKPOINT_CORRUPT")
                self.assertIn(name, said)


if __name__ == "__main__":
    unittest.main()
