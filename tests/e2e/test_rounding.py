"""What casts did to the weights is reported as Python finds it; what would become infinite stops the export."""
import json
import math
import struct
import unittest

from artifact import read_directory
from harness import CHECKPOINTS, REFUSED, Scratch, describe, reason_of, slipway
from test_hf_source import bf16, write_model


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def rounding_to_bf16(content):
    """Of F32 values that are finite and far from the ends of the range."""
    values = struct.unpack(f"<{len(content) // 4}f", content)
    inexact, absolute, relative = 0, 0.0, 0.0
    for value in values:
        rounded, = struct.unpack("<f", struct.pack("<I", bf16(value) << 16))
        inexact += rounded != value
        absolute = max(absolute, abs(rounded - value))
        relative = max(relative, f32(abs(rounded - value) / abs(value))) if value else relative
    return {"from": "F32", "inexact": inexact, "overflows": 0, "underflows": 0, "nans": 0, "infinities": 0,
            "largest_absolute": absolute, "largest_relative": relative}


def manifest_tensors(output):
    return {row["name"]: row for row in json.loads((output / "manifest.json").read_text())["tensors"]}


class Rounding(unittest.TestCase):
    def setUp(self):
        self.scratch = self.enterContext(Scratch())
        self.output = self.scratch / "out"

    def export(self, source, *options):
        result = slipway("export", source, self.output, *options)
        self.assertEqual(0, result.returncode, describe(result))
        verified = slipway("verify", self.output)
        self.assertEqual(0, verified.returncode, describe(verified))
        return result.stdout

    def test_a_cast_says_of_each_tensor_what_python_finds(self):
        fixture = CHECKPOINTS / "starcoder2_tp2_pp1_fp32_torch_dist"
        last = json.loads(self.export(fixture, "--dtype", "bf16", "--json").splitlines()[-1])
        golden = read_directory(fixture / "golden_hf")
        expected = {name: rounding_to_bf16(content) for name, (_, _, content) in golden.items()}
        self.assertEqual(expected, {name: row["rounding"] for name, row in manifest_tensors(self.output).items()})
        (total,) = last["rounding"]
        self.assertEqual(("F32", "BF16", len(golden)), (total["from"], total["to"], total["tensors"]))
        self.assertEqual(sum(one["inexact"] for one in expected.values()), total["inexact"])
        self.assertGreater(total["inexact"], 0)
        for key in ("largest_absolute", "largest_relative"):
            self.assertEqual(max(one[key] for one in expected.values()), total[key])

    def test_masters_that_are_exact_change_nowhere(self):
        said = self.export(CHECKPOINTS / "fsdp-dtensor_llama3_dp3")
        rows = manifest_tensors(self.output)
        self.assertTrue(rows)
        for row in rows.values():
            said_of_it = tuple(row["rounding"][key] for key in ("from", "inexact", "largest_relative"))
            self.assertEqual(("F32", 0, 0), said_of_it)
        line = f"{len(rows)} tensors F32 -> BF16, largest relative error 0, 0 overflows"
        self.assertRegex(said, f"(?m)^rounding +{line}$")

    def test_copies_say_nothing(self):
        said = self.export(CHECKPOINTS / "llama3_tp2_pp2_torch_dist")
        self.assertNotRegex(said, "(?m)^rounding")
        rows = manifest_tensors(self.output)
        self.assertTrue(rows)
        self.assertEqual([], [name for name, row in rows.items() if "rounding" in row])

    def test_nan_and_infinity_are_counted(self):
        values = (1.0, math.nan, -math.inf, 1 + 2**-8)
        write_model(self.scratch / "odd", [{"w": ("F32", (4,), struct.pack("<4f", *values))}], {})
        said = self.export(self.scratch / "odd", "--dtype", "bf16")
        self.assertIn("1 tensor F32 -> BF16, largest relative error 0.0039, 0 overflows, 1 NaN, 1 infinite", said)

    def test_a_weight_that_would_become_infinite_stops_the_export_by_name(self):
        tensors = {"model.a": ("F32", (2,), struct.pack("<2f", 1, 65519)),
                   "model.b": ("F32", (3,), struct.pack("<3f", 1, 65520, -1e6))}
        write_model(self.scratch / "large", [tensors], {})
        result = slipway("export", self.scratch / "large", self.output, "--dtype", "fp16")
        self.assertEqual((REFUSED, "OPTION_UNSUPPORTED"), (result.returncode, reason_of(result)), describe(result))
        for word in ("model.b", "2 finite values", "--dtype bf16 or fp32", "warning: F16 has no finite values above"):
            self.assertIn(word, result.stderr)
        self.assertFalse(self.output.exists())
        self.export(self.scratch / "large", "--dtype", "bf16")


if __name__ == "__main__":
    unittest.main()
