"""Reports of quantized artifacts say what Python finds in the stored bytes, and `verify --against` finds what is not so."""
import json
import math
import re
import struct
import unittest
import xml.dom.minidom

from artifact import read_directory
from harness import CHECKPOINTS, FAILED, REFUSED, Scratch, describe, reason_of, slipway

FIXTURE = CHECKPOINTS / "llama3_tp2_pp2_torch_dist"
MIXTURE = CHECKPOINTS / "mixtral_tp1_pp1_ep2_grouped_torch"
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def bf16_values(content):
    return struct.unpack(f"<{len(content) // 2}f", b"".join(b"\0\0" + content[i:i + 2] for i in range(0, len(content), 2)))


def e4m3(code):
    sign, exponent, mantissa = -1 if code & 0x80 else 1, code >> 3 & 0xF, code & 7
    return sign * (mantissa * 2.0 ** -9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10))


def decode_nvfp4(tensors, module):
    """(element, scale) of each value, in order."""
    (_, (rows, half), codes) = tensors[f"{module}.weight"]
    (_, (_, groups), scales) = tensors[f"{module}.weight_scale"]
    second, = struct.unpack("<f", tensors[f"{module}.weight_scale_2"][2])
    for row in range(rows):
        for column in range(2 * half):
            code = codes[row * half + column // 2] >> (4 * (column % 2)) & 0xF
            yield E2M1[code & 7] * (-1 if code & 8 else 1), f32(e4m3(scales[row * groups + column // 16]) * second)


def decode_fp8(tensors, module):
    (dtype, shape, content) = tensors[f"{module}.weight_scale"]
    assert (dtype, shape) == ("BF16", (1,)), (dtype, shape)
    scale, = bf16_values(content)
    return ((e4m3(code), scale) for code in tensors[f"{module}.weight"][2])


def measure(values, decoded, largest):
    found = {"elements": 0, "squared_error": 0.0, "squared_value": 0.0, "amax": 0.0, "largest_error": 0.0,
             "saturated": 0, "zeros": 0}
    for value, (element, scale) in zip(values, decoded, strict=True):
        error = f32(value - f32(element * scale))
        found["elements"] += 1
        found["squared_error"] += error * error
        found["squared_value"] += value * value
        found["amax"] = max(found["amax"], abs(value))
        found["largest_error"] = max(found["largest_error"], abs(error))
        found["saturated"] += abs(f32(value / scale)) > largest
        found["zeros"] += value != 0 and element == 0
    return found


class QualityReport(unittest.TestCase):
    def setUp(self):
        self.scratch = self.enterContext(Scratch())
        self.output = self.scratch / "out"

    def export(self, *options, source=FIXTURE, output=None):
        result = slipway("export", source, output or self.output, *options)
        self.assertEqual(0, result.returncode, describe(result))

    def against(self, source=FIXTURE, *options):
        return slipway("verify", self.output, "--against", source, *options)

    def report(self):
        return json.loads((self.output / "report.json").read_text())

    def check_statistics(self, decode, largest):
        tensors, golden = read_directory(self.output), read_directory(FIXTURE / "golden_hf")
        rows = self.report()["tensors"]
        self.assertEqual(4 * 7, len(rows))
        for row in rows[:7]:  # a layer: Python is slow
            module = row["name"].removesuffix(".weight")
            found = measure(bf16_values(golden[row["name"]][2]), decode(tensors, module), largest)
            for key in ("elements", "amax", "largest_error", "saturated", "zeros"):
                self.assertEqual(found[key], row[key], (row["name"], key))
            for key in ("squared_error", "squared_value"):  # chunks are added up in FP32
                self.assertTrue(math.isclose(found[key], row[key], rel_tol=2e-6), (row["name"], key, found[key], row[key]))
            sqnr = 10 * math.log10(found["squared_value"] / found["squared_error"])
            self.assertAlmostEqual(sqnr, row["sqnr_db"], places=3)
            manifest = {one["name"]: one for one in json.loads((self.output / "manifest.json").read_text())["tensors"]}
            self.assertAlmostEqual(sqnr, manifest[row["name"]]["quantization"]["sqnr_db"], places=3)

    def test_nvfp4_is_as_python_decodes_it(self):
        self.export("--quantization", "nvfp4")
        self.check_statistics(decode_nvfp4, 6)

    def test_fp8_is_as_python_decodes_it(self):
        self.export("--quantization", "fp8")
        self.check_statistics(decode_fp8, 448)

    def test_the_page_is_whole_and_alone(self):
        self.export("--quantization", "nvfp4", source=MIXTURE)
        page = (self.output / "report.html").read_text()
        xml.dom.minidom.parseString(page)
        alone = page.replace('xmlns="http://www.w3.org/1999/xhtml"', "")
        self.assertIsNone(re.search(r"https?:|//|<script|<link|<img|src=|href=|url\(|@import", alone))
        self.assertEqual(4, page.count("<svg"))
        for name in ("q_proj", "experts.*"):
            self.assertIn(name, page)

    def test_its_bytes_depend_on_the_plan_alone(self):
        self.export("--quantization", "nvfp4", "--max-shard-size", "40000")
        other = self.scratch / "other"
        self.export("--quantization", "nvfp4", "--max-shard-size", "40000", "--workers", "2", output=other)
        for name in ("report.json", "report.html"):
            self.assertEqual((self.output / name).read_bytes(), (other / name).read_bytes(), name)

    def test_without_quantization_there_is_none(self):
        self.export("--quantization", "none")
        self.assertFalse((self.output / "report.json").exists())

    def test_every_packing_compares(self):
        groups = self.scratch / "groups.yaml"  # those of 128 do not fit the fixture's matrices
        groups.write_text("rules:\n- format: int4\n  group: 32\n")
        int4 = ["--recipe", groups, "--config-form"]
        for number, options in enumerate([
                ["--quantization", "nvfp4"], ["--quantization", "fp8"], ["--quantization", "fp8-per-channel"],
                ["--quantization", "mxfp8"], ["--quantization", "mxfp4"], ["--quantization", "nvfp4", "--scale-search", "mse"],
                ["--quantization", "nvfp4", "--config-form", "compressed-tensors"],
                [*int4, "modelopt"], [*int4, "compressed-tensors"], [*int4, "native"], ["--quantization", "none"]]):
            with self.subTest(options):
                output = self.scratch / str(number)
                self.export(*options, output=output)
                result = slipway("verify", output, "--against", FIXTURE, "--json")
                self.assertEqual(0, result.returncode, describe(result))
                comparison = json.loads(result.stdout)["comparison"]
                self.assertTrue(comparison["passed"] and comparison["same_output"], comparison)
                self.assertEqual(0 if "none" in options else 28, len(comparison["weights"]))

    def flip(self, name):
        row = next(one for one in json.loads((self.output / "manifest.json").read_text())["tensors"] if one["name"] == name)
        path = self.output / row["file"]
        content = bytearray(path.read_bytes())
        content[row["offset"] + 5] ^= 0x11
        path.write_bytes(content)

    def test_a_changed_byte_is_found_without_digests(self):
        for name in ("model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight_scale", "model.norm.weight"):
            with self.subTest(name):
                self.export("--quantization", "nvfp4", "--digest", "none", "--overwrite")
                self.assertEqual(0, self.against().returncode)
                self.flip(name)
                self.assertEqual(0, slipway("verify", self.output).returncode)  # it cannot know
                result = self.against()
                self.assertEqual(FAILED, result.returncode, describe(result))
                self.assertIn("FAIL", result.stdout)
                comparison = json.loads(self.against(FIXTURE, "--json").stdout)["comparison"]
                wrong = [one["name"] for one in comparison["weights"] if not one["agrees"]]
                wrong += [one["name"] for one in comparison["different"]]
                self.assertEqual([name.removesuffix("_scale")], wrong)

    def test_another_checkpoint_is_told_apart(self):
        self.export("--quantization", "nvfp4")
        result = self.against(CHECKPOINTS / "mistral_tp1_pp1_fp16_torch_dist")
        self.assertNotEqual(0, result.returncode, describe(result))

    def test_tokens_are_refused(self):
        self.export("--quantization", "nvfp4")
        result = self.against(FIXTURE, "--tokens", "tokens.npy")
        self.assertEqual(REFUSED, result.returncode, describe(result))
        self.assertEqual("OPTION_UNSUPPORTED", reason_of(result))
        self.assertIn("--tokens", result.stderr)


if __name__ == "__main__":
    unittest.main()
