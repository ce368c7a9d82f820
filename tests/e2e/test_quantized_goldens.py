"""Quantized exports against those that Model Optimizer and llm-compressor made of the same weights: the same tensors,
configuration and scales, and codes that are the same or nearer to the weights.

tests/data/ptq/ says what the goldens hold (tests/derived/ptq_goldens.py), tests/data/quantization/ how they are
described.
"""
import hashlib
import json
import unittest
from dataclasses import dataclass

from artifact import config_differences, read_directory
from harness import REPOSITORY, Scratch, Service, describe, slipway
from quantized import decode, ranges_file, recipe_of, values_of

PTQ = REPOSITORY / "tests" / "data" / "ptq"
QUANTIZATION = REPOSITORY / "tests" / "data" / "quantization"

# How far the golden's numbers are to be met.
EXACT = "every byte"
# The golden rounds twice (FP8 a tensor and compressed-tensors' quotients first to BF16), or resolves ties another way
# (MXFP4).
NEAREST = "scales, and codes that are nearest to their weights"
# The golden computes the second scale in BF16, in two steps.
SECOND_SCALE = "the second scale but for its rounding, and codes that are nearest"
BF16_STEP = 2**-7  # from one number to the next, at most

MLP_ONLY = ["*.mlp.*", "*.block_sparse_moe.*"]


@dataclass
class Golden:
    source: str
    name: str
    format: str
    form: str
    holds: str = EXACT
    ranges: bool = False      # of inputs are supplied
    activations: str = ""     # what the recipe says; empty: --quantization
    kv_cache: str = ""
    modules: tuple = ()       # of the recipe
    mixture: bool = False     # each layer as the golden's config.json says
    group: int = 0            # of the recipe
    symmetric: bool = None    # likewise


GOLDENS = [
    Golden("llama", "fp8", "fp8", "modelopt", NEAREST, ranges=True),
    Golden("llama", "fp8_kv_fp8", "fp8", "modelopt", NEAREST, ranges=True, kv_cache="fp8"),
    Golden("llama", "fp8_pc_pt", "fp8-per-channel", "modelopt"),
    Golden("llama256", "fp8_pb_wo", "fp8-block", "modelopt"),
    Golden("llama", "int8_wo", "int8", "modelopt"),
    Golden("llama", "int8_default", "int8", "modelopt", ranges=True, activations="static"),
    Golden("llama", "int4_wo", "int4", "modelopt"),
    Golden("llama", "nvfp4", "nvfp4", "modelopt", ranges=True),
    Golden("llama", "nvfp4_kv_fp8", "nvfp4", "modelopt", ranges=True, kv_cache="fp8"),
    Golden("llama", "nvfp4_kv_nvfp4", "nvfp4", "modelopt", ranges=True, kv_cache="nvfp4"),
    Golden("llama", "nvfp4_mlp_only", "nvfp4", "modelopt", ranges=True, modules=MLP_ONLY),
    Golden("llama256", "nvfp4", "nvfp4", "modelopt", ranges=True),
    Golden("llama", "w4a16_nvfp4", "nvfp4", "modelopt"),
    Golden("llama", "mxfp4", "mxfp4", "modelopt", NEAREST),
    Golden("llama", "mxfp8", "mxfp8", "modelopt"),
    Golden("mixtral", "fp8", "fp8", "modelopt", NEAREST, ranges=True),
    Golden("mixtral", "fp8_kv_fp8", "fp8", "modelopt", NEAREST, ranges=True, kv_cache="fp8"),
    Golden("mixtral", "int8_wo", "int8", "modelopt"),
    Golden("mixtral", "mxfp8", "mxfp8", "modelopt"),
    Golden("mixtral", "nvfp4", "nvfp4", "modelopt", ranges=True),
    Golden("mixtral", "nvfp4_mlp_only", "nvfp4", "modelopt", ranges=True, modules=MLP_ONLY),
    Golden("llama", "mixed_auto", "", "modelopt", NEAREST, ranges=True, mixture=True),
    Golden("llama", "ct_fp8", "fp8", "compressed-tensors", NEAREST, ranges=True),
    Golden("llama", "ct_fp8_dynamic", "fp8-per-channel", "compressed-tensors", NEAREST),
    Golden("llama", "ct_fp8_block", "fp8-block", "compressed-tensors", NEAREST),
    Golden("llama256", "ct_fp8_block", "fp8-block", "compressed-tensors", NEAREST),
    Golden("llama", "ct_w8a8", "int8", "compressed-tensors", NEAREST, activations="dynamic"),
    Golden("llama", "ct_w8a8_static", "int8", "compressed-tensors", NEAREST, ranges=True, activations="static"),
    Golden("llama", "ct_w4a16", "int4", "compressed-tensors", NEAREST),
    Golden("llama", "ct_w4a16_asym", "int4", "compressed-tensors", NEAREST, symmetric=False),
    Golden("llama", "awq_rtn", "int4", "native", group=32),
    Golden("llama", "ct_w4a8", "int4", "compressed-tensors", NEAREST, activations="dynamic"),
    Golden("llama", "ct_nvfp4", "nvfp4", "compressed-tensors", SECOND_SCALE, ranges=True),
    Golden("llama", "ct_mxfp4", "mxfp4", "compressed-tensors", activations="dynamic"),
    Golden("llama", "ct_mxfp8", "mxfp8", "compressed-tensors"),
]

# Of tests/data/quantization.
LEFT_OUT = {
    "llama_gptq_rtn": "int4-gptq takes calibration",
    "llama_int4_awq": "it takes calibration",
    "llama_int8_sq": "it takes calibration",
    "llama_nvfp4_awq_lite": "it takes calibration",
    "llama_w4a8_awq": "it takes calibration",
}


def comparable(config):
    """Without who wrote it; groups have numbers that say nothing."""
    config = {key: value for key, value in config.items() if key != "producer"}
    if "config_groups" in config:
        config["config_groups"] = sorted(config["config_groups"].values(), key=lambda group: group["targets"])
    return config


def rules_of(golden):
    if not golden.mixture:
        return [(golden.modules or "*", golden.format, golden.group, golden.symmetric)]
    described = json.loads((QUANTIZATION / f"{golden.source}_{golden.name}.json").read_text())
    layers = described["config"]["quantized_layers"]
    return [([name for name, layer in layers.items() if layer["quant_algo"] == algorithm], algorithm.lower(), None)
            for algorithm in ("FP8", "NVFP4")]


class QuantizedGoldens(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        cls.service = cls.enterClassContext(Service(cls.scratch / "svc", workers=2))
        cls.sources = {name: read_directory(PTQ / name) for name in ("llama", "llama256", "mixtral")}

    def export(self, golden, expected):
        output = self.scratch / f"{golden.source}_{golden.name}"
        options = ["--config-form", golden.form]
        if golden.activations or golden.modules or golden.mixture or golden.group or golden.symmetric is not None:
            recipe = self.scratch / "recipe.yaml"
            activations = golden.activations or ("static" if golden.ranges else "none")
            recipe.write_text(recipe_of(rules_of(golden), f"activations: {activations}"))
            options += ["--recipe", recipe]
        else:
            options += ["--quantization", golden.format]
        if golden.ranges:
            (self.scratch / "ranges.safetensors").write_bytes(ranges_file(expected["ranges"]))
            options += ["--ranges", self.scratch / "ranges.safetensors"]
        if golden.kv_cache:
            options += ["--kv-cache", golden.kv_cache]
        result = self.service.run("export", PTQ / golden.source, output, *options)
        self.assertEqual(0, result.returncode, describe(result) + self.service.logs())
        verified = slipway("verify", output)
        self.assertEqual(0, verified.returncode, describe(verified))
        return output

    def check_config(self, golden, output):
        described = json.loads((QUANTIZATION / f"{golden.source}_{golden.name}.json").read_text())
        config = json.loads((output / "config.json").read_text())
        self.assertEqual(comparable(described["config"]), comparable(config["quantization_config"]))
        self.assertEqual([], config_differences(output, PTQ / golden.source))
        sidecar = output / "hf_quant_config.json"
        self.assertEqual("sidecar" in described, sidecar.exists())
        if sidecar.exists():
            self.assertEqual(described["sidecar"], json.loads(sidecar.read_text()))
        return {name: (dtype, tuple(shape)) for name, (dtype, shape) in described["tensors"].items()}

    def check_codes(self, golden, tensors, expected):
        """Each code the nearest to its weight, each weight no farther from its source than the golden's."""
        for name, tensor in self.sources[golden.source].items():
            module = name.removesuffix(".weight")
            if module in expected["squared_errors"]:
                weight, source = decode(tensors, module, tensor[1]), values_of(tensor)
                self.assertIsNone(weight.first_not_nearest(source), module)
                # Another second scale may be better or worse by chance.
                allowed = 1.01 if golden.holds == SECOND_SCALE else 1 + 1e-9
                self.assertLessEqual(weight.squared_error(source), expected["squared_errors"][module] * allowed, module)

    def unlike(self, golden, tensors, expected):
        """Names of tensors that do not have the golden's bytes or, in NEAREST, stand for something else."""
        result = []
        for name, value in expected["tensors"].items():
            suffix = name.rsplit(".", 1)[1]
            quantized = name.rsplit(".", 1)[0] in expected["squared_errors"]
            codes = quantized and suffix in ("weight", "weight_packed")
            if codes and golden.holds != EXACT or golden.holds == SECOND_SCALE and suffix == "weight_scale":
                continue  # check_codes
            ours = hashlib.sha256(tensors[name][2]).hexdigest()
            if isinstance(value, float):
                ours, = values_of(tensors[name])
                if golden.holds == SECOND_SCALE and abs(ours - value) <= BF16_STEP * value:
                    continue
            if ours != value:
                result.append(name)
        return result

    def test_exports_are_those_of_the_tools_that_made_the_formats(self):
        for golden in GOLDENS:
            with self.subTest(f"{golden.source} {golden.name}: {golden.holds}"):
                expected = json.loads((PTQ / f"{golden.source}_{golden.name}.json").read_text())
                output = self.export(golden, expected)
                tensors = read_directory(output)
                self.assertEqual(self.check_config(golden, output),
                                 {name: tensor[:2] for name, tensor in tensors.items()})
                self.assertEqual([], self.unlike(golden, tensors, expected))
                if golden.holds != EXACT:
                    self.check_codes(golden, tensors, expected)

    def test_every_golden_is_compared_or_left_out_with_a_reason(self):
        known = {path.stem for path in QUANTIZATION.glob("*.json") if not path.stem.startswith("source_")}
        compared = {f"{golden.source}_{golden.name}" for golden in GOLDENS}
        self.assertEqual(known, compared | set(LEFT_OUT))
        for name, reason in LEFT_OUT.items():
            print(f"\n    left out: {name}: {reason}", end="")


if __name__ == "__main__":
    unittest.main()
