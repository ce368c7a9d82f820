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

    def test_compressed_nvfp4_exports_the_codes_and_scales_of_its_uncompressed_twin(self):
        with Scratch() as scratch:
            for fixture in ("llama3_nvfp4_tp2", "llama3_nvfp4_compressed_tp2"):
                result = slipway("export", CALIBRATED / fixture, scratch / fixture, "--quantization", "checkpoint")
                self.assertEqual(0, result.returncode, describe(result))
            twin, compressed = (read_directory(scratch / name)
                                for name in ("llama3_nvfp4_tp2", "llama3_nvfp4_compressed_tp2"))
            # ModelOpt decodes the code of -0, 8, to +0.
            without_sign = bytes.maketrans(bytes(range(256)), bytes(
                (0 if byte >> 4 == 8 else byte >> 4) << 4 | (0 if byte & 15 == 8 else byte & 15) for byte in range(256)))
            packed = 0
            self.assertEqual(twin.keys(), compressed.keys())
            for name, (dtype, shape, data) in compressed.items():
                self.assertEqual((dtype, shape), twin[name][:2], name)
                expected = twin[name][2]
                if dtype == "U8":
                    expected = expected.translate(without_sign)
                    packed += 1
                self.assertEqual(expected, data, name)
            self.assertEqual(7, packed)

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
