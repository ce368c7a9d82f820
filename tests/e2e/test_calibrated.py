"""What ModelOpt calibrated exports without quantization as what it was before; where that cannot be, it is refused."""
import hashlib
import json
import unittest

from artifact import read_directory
from harness import CHECKPOINTS, REFUSED, Scratch, describe, slipway

CALIBRATED = CHECKPOINTS.parent / "calibrated"
# Their weights were divided by scales of their inputs.
SCALED = {"llama3_int4_awq_b32_tp2"}


class Calibrated(unittest.TestCase):
    def test_unquantized_exports_have_the_weights_from_before(self):
        fixtures = sorted(path.name for path in CALIBRATED.iterdir() if path.name not in SCALED)
        self.assertGreaterEqual(len(fixtures), 6)
        for fixture in fixtures:
            with self.subTest(fixture), Scratch() as scratch:
                result = slipway("export", CALIBRATED / fixture, scratch / "out", "--quantization", "none")
                self.assertEqual(0, result.returncode, describe(result))
                expected = json.loads((CALIBRATED / fixture / "expected.json").read_text())["tensors"]
                exported = {name: {"shape": list(shape), "sha256": hashlib.sha256(data).hexdigest()}
                            for name, (_, shape, data) in read_directory(scratch / "out").items()}
                self.assertEqual(expected, exported)

    def test_scaled_weights_are_not_exported_as_if_they_were_the_trained_ones(self):
        for fixture in sorted(SCALED):
            with self.subTest(fixture), Scratch() as scratch:
                result = slipway("export", CALIBRATED / fixture, scratch / "out", "--quantization", "none")
                self.assertEqual(REFUSED, result.returncode, describe(result))
                self.assertIn("OPTION_UNSUPPORTED", result.stderr)
                self.assertIn("_pre_quant_scale", result.stderr)
                self.assertIn("--quantization checkpoint", result.stderr)
                self.assertFalse((scratch / "out").exists())

    def test_inspection_counts_the_weights_alone(self):
        fixture = CALIBRATED / "llama3_fp8_kvfp8_tp1"
        result = slipway("inspect", fixture, "--json")
        self.assertEqual(0, result.returncode, describe(result))
        inspected = json.loads(result.stdout)["inspection"]
        # Embedding, final norm, head; two norms, qkv, projection, gate, up and down of one layer.
        self.assertEqual(10, inspected["tensor_count"])
        self.assertEqual([], inspected["problems"])
        self.assertIn("ModelOpt quantizer state", [entry["reason"] for entry in inspected["ignored"]])


if __name__ == "__main__":
    unittest.main()
