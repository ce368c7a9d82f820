"""A LoRA adapter of Megatron-Bridge: merged, it is Megatron-Bridge's own merge; alone, it makes the same of the base."""
import json
import shutil
import struct
import unittest

from artifact import config_differences, read_directory, read_file, tensor_differences
from harness import REFUSED, REPOSITORY, USAGE, Scratch, Service, describe, reason_of, slipway

FIXTURE = REPOSITORY / "tests" / "data" / "adapters" / "bridge-lora_llama3_tp2_pp1"
BASE, ADAPTER, GOLDEN = FIXTURE / "base", FIXTURE / "adapter", FIXTURE / "golden_hf"


def floats(content):
    return [struct.unpack("<f", struct.pack("<I", bits << 16))[0] for (bits,) in struct.iter_unpack("<H", content)]


def bf16(value):
    """The bits of the nearest BF16 of an FP32 value, ties to even."""
    bits, = struct.unpack("<I", struct.pack("<f", value))
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def applied(weight, a, b, scale):
    """W + scale B A in BF16; the fixture's products are exact, so the order of the sum does not matter."""
    (dtype, (rows, columns), content), (_, (rank, _), a_bytes), (_, _, b_bytes) = weight, a, b
    w, a, b = floats(content), floats(a_bytes), floats(b_bytes)
    bits = bytearray()
    for row in range(rows):
        for column in range(columns):
            total = sum(b[row * rank + r] * a[r * columns + column] for r in range(rank))
            bits += struct.pack("<H", bf16(w[row * columns + column] + scale * total))
    return dtype, (rows, columns), bytes(bits)


class Adapter(unittest.TestCase):
    def setUp(self):
        self.scratch = self.enterContext(Scratch())

    def export(self, *options):
        output = self.scratch / "out"
        shutil.rmtree(output, ignore_errors=True)
        result = slipway("export", BASE, output, *options)
        self.assertEqual(0, result.returncode, describe(result))
        verified = slipway("verify", output)
        self.assertEqual(0, verified.returncode, describe(verified))
        return output

    def test_merged_by_a_service_it_is_the_golden(self):
        with Service(self.scratch / "svc", workers=2) as service:
            output = self.scratch / "merged"
            result = service.run("export", BASE, output, "--adapter", ADAPTER, "--max-shard-size", "64KB")
            self.assertEqual(0, result.returncode, describe(result) + service.logs())
        self.assertGreater(len(list(output.glob("*.safetensors"))), 1)
        self.assertEqual([], tensor_differences(read_directory(output), read_directory(GOLDEN)))
        self.assertEqual([], config_differences(output, GOLDEN))

    def test_alone_it_makes_the_golden_of_the_base(self):
        tensors = read_directory(self.export())
        output = self.export("--adapter", ADAPTER, "--adapter-only")
        self.assertEqual({"adapter_config.json", "adapter_model.safetensors", "manifest.json"},
                         {path.name for path in output.iterdir()})
        config = json.loads((output / "adapter_config.json").read_text())
        self.assertEqual(("LORA", 8, 32), (config["peft_type"], config["r"], config["lora_alpha"]))
        factors = read_file(output / "adapter_model.safetensors")
        changed = 0
        for name in list(tensors):
            module = "base_model.model." + name.removesuffix(".weight")
            if name.rsplit(".", 2)[-2] not in config["target_modules"]:
                continue
            tensors[name] = applied(tensors[name], factors.pop(module + ".lora_A.weight"),
                                    factors.pop(module + ".lora_B.weight"), config["lora_alpha"] / config["r"])
            changed += 1
        self.assertEqual(21, changed)
        self.assertEqual({}, factors)
        self.assertEqual([], tensor_differences(tensors, read_directory(GOLDEN)))

    def test_what_is_no_lora_adapter_is_refused(self):
        result = slipway("plan", BASE, "--adapter", BASE)
        self.assertEqual((REFUSED, "CHECKPOINT_UNSUPPORTED"), (result.returncode, reason_of(result)), describe(result))
        dora = self.scratch / "dora"
        shutil.copytree(ADAPTER, dora)
        config = dora / "iter_0000040" / "run_config.yaml"
        config.write_text(config.read_text().replace("megatron.bridge.peft.lora.LoRA", "megatron.bridge.peft.dora.DoRA"))
        result = slipway("plan", BASE, "--adapter", dora)
        self.assertEqual((REFUSED, "CHECKPOINT_UNSUPPORTED"), (result.returncode, reason_of(result)), describe(result))
        self.assertIn("DoRA", result.stderr)
        result = slipway("plan", GOLDEN, "--adapter", ADAPTER)
        self.assertEqual((REFUSED, "OPTION_UNSUPPORTED"), (result.returncode, reason_of(result)), describe(result))
        result = slipway("plan", BASE, "--adapter-only")
        self.assertEqual(USAGE, result.returncode, describe(result))


if __name__ == "__main__":
    unittest.main()
