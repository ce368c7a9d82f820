"""A quantized sharded state holds what vLLM makes of the quantized Hugging Face export when it joins and cuts it for its
ranks; names and shapes are those of its own parameters."""
import json
import struct
import unittest

from artifact import read_directory
from harness import CHECKPOINTS, REFUSED, Scratch, describe, digests, reason_of, slipway
from sharded_state import ONE, read_ranks

DATA = CHECKPOINTS.parent
SOURCE = DATA / "ptq" / "llama"
MIXTRAL = DATA / "ptq" / "mixtral"
GROUPS = 'rules:\n  - modules: ["*"]\n    format: int4\n    group: 32\n'
BYTES = {"BF16": 2, "F32": 4, "F8_E4M3": 1, "I32": 4}
JOINED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def rows_of(tensor):
    dtype, shape, data = tensor
    size = BYTES[dtype] * shape[-1]
    return [data[at:at + size] for at in range(0, len(data), size)]


class QuantizedShardedState(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        recipe = cls.scratch / "groups.yaml"
        recipe.write_text(GROUPS)
        cls.formats = {"fp8-per-channel": ("--quantization", "fp8-per-channel"),
                       "int4 in groups of 32": ("--recipe", recipe)}
        cls.config = json.loads((SOURCE / "config.json").read_text())

    def export(self, output, *options, source=SOURCE):
        result = slipway("export", source, self.scratch / output, *options)
        self.assertEqual(0, result.returncode, describe(result))
        return self.scratch / output

    def own_rows(self, name, rows, rank, ranks):
        """Of heads of keys and values that are fewer than ranks, several ranks have the same."""
        heads = self.config["num_key_value_heads"]
        if name in ("k_proj", "v_proj") and heads < ranks:
            size, head = len(rows) // heads, rank * heads // ranks
            return rows[head * size:(head + 1) * size]
        size = len(rows) // ranks
        return rows[rank * size:(rank + 1) * size]

    def expected(self, name, exported, rank, ranks):
        """The bytes of a rank's tensor, of a matrix that is quantized or its scales."""
        module, suffix = name.rsplit(".", 1)
        prefix, last = module.rsplit(".", 1)
        if last in JOINED:
            return b"".join(row for part in JOINED[last]
                            for row in self.own_rows(part, rows_of(exported[f"{prefix}.{part}.{suffix}"]), rank, ranks))
        rows = rows_of(exported[name])
        if exported[name][1][-1] == 1:
            return b"".join(rows)  # scales of whole rows
        return b"".join(b"".join(self.own_rows(last, [row[at:at + 1] for at in range(len(row))], rank, ranks))
                        for row in rows)

    def test_ranks_hold_the_quantized_export_as_vllm_joins_and_cuts_it(self):
        for name, options in self.formats.items():
            exported = read_directory(self.export(f"hf-{name}", *options))
            for ranks in (1, 2, 4):
                output = self.export(f"{name}-{ranks}", *options, "--target", "vllm-sharded", "--tensor-parallel", ranks)
                for (_, rank), tensors in read_ranks(output).items():
                    quantized = [tensor for tensor in tensors if ".weight_" in tensor or ".weight" in tensor
                                 and tensor.replace(".weight", ".weight_scale") in tensors]
                    quantized = [tensor for tensor in quantized if not tensor.endswith(".weight_shape")]
                    self.assertEqual(4 * 2 * self.config["num_hidden_layers"], len(quantized))
                    for tensor in quantized:
                        with self.subTest(format=name, ranks=ranks, rank=rank, tensor=tensor):
                            self.assertEqual(self.expected(tensor, exported, rank, ranks), tensors[tensor][2])
                verified = slipway("verify", output, "--against", SOURCE)
                self.assertEqual(0, verified.returncode, describe(verified))

    def test_names_and_shapes_are_those_of_vllms_parameters(self):
        golden = json.loads((DATA / "sharded_state_quantized.json").read_text())
        for name, options in self.formats.items():
            output = self.export(f"names-{name}", *options, "--target", "vllm-sharded", "--tensor-parallel", 2)
            for tensors in read_ranks(output).values():
                self.assertEqual({tensor: shape for tensor, (_, shape) in golden[name].items()},
                                 {tensor: list(shape) for tensor, (_, shape, _) in tensors.items()})
                for tensor, (dtype, _) in golden[name].items():
                    # vLLM widens the scales of rows that it reads.
                    wide = dtype == "F32" and tensor.endswith(".weight_scale")
                    self.assertEqual("BF16" if wide else dtype, tensors[tensor][0], tensor)
                self.assertEqual(("F32", (1,), struct.pack("<f", 1)), tensors["model.layers.0.self_attn.attn.k_scale"])
                self.assertEqual(("BF16", (1,), b"\0\0"), tensors["model.layers.0.self_attn.attn.v_zero_point"])
                self.assertEqual(ONE, tensors["model.layers.0.self_attn.attn._k_scale"])
            hugging_face = json.loads((self.export(f"config-{name}", *options) / "config.json").read_text())
            self.assertEqual(hugging_face, json.loads((output / "config.json").read_text()))

    def test_workers_and_sources_do_not_show(self):
        options = (*self.formats["fp8-per-channel"], "--target", "vllm-sharded", "--tensor-parallel", 2)
        outputs = [self.export(f"workers-{workers}", *options, "--workers", workers, "--threads", threads)
                   for workers, threads in ((1, 1), (2, 4))]
        self.assertEqual(digests(outputs[0]), digests(outputs[1]))

    def test_what_vllm_has_no_such_parameters_for_is_refused(self):
        target = ("--target", "vllm-sharded", "--tensor-parallel", 2)
        for source, options, says in ((SOURCE, ("--quantization", "nvfp4"), "it takes fp8-per-channel, int4"),
                                      (SOURCE, ("--quantization", "fp8-per-channel", "--kv-cache", "fp8"), "--kv-cache"),
                                      (SOURCE, ("--quantization", "int4"), "no whole groups of 128"),
                                      (MIXTRAL, ("--quantization", "fp8-per-channel"), "leave it out with a rule")):
            with self.subTest(options=options):
                result = slipway("plan", source, *target, *options)
                self.assertEqual((REFUSED, "OPTION_UNSUPPORTED"), (result.returncode, reason_of(result)),
                                 describe(result))
                self.assertIn(says, result.stderr)


if __name__ == "__main__":
    unittest.main()
