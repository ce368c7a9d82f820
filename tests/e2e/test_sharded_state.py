"""Sharded states of vLLM and SGLang hold the golden's weights, each rank what the engine takes on that rank."""
import json
import unittest

from artifact import read_directory, tensor_differences
from harness import CHECKPOINTS, REFUSED, USAGE, Scratch, Service, describe, digests, options_of, reason_of, slipway
from sharded_state import reassemble

LLAMA = "llama3_tp2_pp2_torch_dist"
# Fixture, ranks, stages: each family, more ranks than heads of keys and values, tied embeddings, a padded vocabulary.
VLLM = [(LLAMA, 1, 1), (LLAMA, 2, 1), (LLAMA, 4, 1), (LLAMA, 2, 3), ("llama3_tp2_pp2_torch", 4, 2),
        ("llama2_tp4_pp1_padded-vocab_torch_dist", 4, 1), ("llama-tied_tp1_pp2_nonhomogeneous_torch_dist", 2, 1),
        ("llama-tied_tp1_pp2_nonhomogeneous_torch_dist", 2, 2), ("mistral_tp1_pp1_fp16_torch_dist", 2, 1),
        ("qwen25_tp1_pp2_vpp2_torch", 4, 1), ("qwen25_tp1_pp2_vpp2_torch", 1, 4),
        ("qwen3_tp2_pp2_mcore014_torch_dist", 4, 1), ("mixtral_tp1_pp1_ep2_grouped_torch", 4, 1),
        ("qwen3-moe_tp2_pp1_ep2_grouped_torch_dist", 4, 2), ("zarr_core0.8_llama3_tp2_pp1", 2, 1)]
SGLANG = [(LLAMA, 4), ("qwen25_tp1_pp2_vpp2_torch", 2), ("mixtral_tp1_pp1_ep2_grouped_torch", 2),
          ("qwen3-moe_tp2_pp1_ep2_grouped_torch_dist", 4)]


class ShardedState(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        cls.service = cls.enterClassContext(Service(cls.scratch / "svc", workers=2))

    def export(self, checkpoint, output, *options, target="vllm-sharded"):
        result = self.service.run("export", checkpoint, output, "--target", target, *options)
        self.assertEqual(0, result.returncode, describe(result) + self.service.logs())
        return output

    def check(self, output, fixture, engine):
        golden = CHECKPOINTS / fixture / "golden_hf"
        self.assertEqual([], tensor_differences(reassemble(output, engine), read_directory(golden)))
        self.assertFalse((output / "model.safetensors.index.json").exists())
        verified = slipway("verify", output)
        self.assertEqual(0, verified.returncode, describe(verified))

    def test_vllm_ranks_and_stages_hold_the_golden(self):
        for fixture, ranks, stages in VLLM:
            with self.subTest(fixture=fixture, ranks=ranks, stages=stages):
                output = self.export(CHECKPOINTS / fixture, self.scratch / f"{fixture}-{ranks}-{stages}",
                                     "--tensor-parallel", ranks, "--pipeline-parallel", stages, *options_of(fixture))
                self.check(output, fixture, "vllm")
                note = json.loads((output / "slipway_sharded_state.json").read_text())
                self.assertEqual(("vllm", ranks, stages),
                                 (note["engine"], note["tensor_parallel"], note["pipeline_parallel"]))
        self.assertEqual([], self.service.leftovers())

    def test_ranks_are_compared_with_the_checkpoint_each_with_its_own_part(self):
        output = self.export(CHECKPOINTS / LLAMA, self.scratch / "compared", "--tensor-parallel", 2, "--digest", "none")
        result = slipway("verify", output, "--against", CHECKPOINTS / LLAMA)
        self.assertEqual(0, result.returncode, describe(result))
        manifest = json.loads((output / "manifest.json").read_text())
        rank = "model-rank-1-part-0.safetensors"
        weight = next(entry for entry in manifest["tensors"]
                      if entry["file"] == rank and entry["name"].endswith("layers.3.mlp.down_proj.weight"))
        content = bytearray((output / rank).read_bytes())
        content[weight["offset"]] ^= 1
        (output / rank).write_bytes(content)
        result = slipway("verify", output, "--against", CHECKPOINTS / LLAMA)
        self.assertNotEqual(0, result.returncode, describe(result))
        self.assertIn("layers.3.mlp.down_proj.weight", result.stdout + result.stderr)

    def test_sglang_ranks_hold_the_golden(self):
        for fixture, ranks in SGLANG:
            with self.subTest(fixture=fixture, ranks=ranks):
                output = self.export(CHECKPOINTS / fixture, self.scratch / f"sg-{fixture}", "--tensor-parallel", ranks,
                                     *options_of(fixture), target="sglang-sharded")
                self.check(output, fixture, "sglang")

    def test_parts_hold_the_same_as_whole_files_and_workers_do_not_show(self):
        options = ("--tensor-parallel", 2, "--max-shard-size", "48KB")
        output = self.export(CHECKPOINTS / LLAMA, self.scratch / "parts", *options)
        self.assertGreater(len(list(output.glob("model-rank-1-part-*.safetensors"))), 2)
        self.check(output, LLAMA, "vllm")
        alone = slipway("export", CHECKPOINTS / LLAMA, self.scratch / "alone", "--target", "vllm-sharded", *options,
                        "--workers", 1, "--threads", 1)
        self.assertEqual(0, alone.returncode, describe(alone))
        self.assertEqual(digests(output), digests(self.scratch / "alone"))

    def test_a_hugging_face_directory_gives_the_same_files_as_the_checkpoint(self):
        for fixture in (LLAMA, "qwen3-moe_tp2_pp1_ep2_grouped_torch_dist"):
            with self.subTest(fixture):
                outputs = [digests(self.export(source, self.scratch / f"{fixture}-of-{number}", "--tensor-parallel", 2))
                           for number, source in enumerate((CHECKPOINTS / fixture, CHECKPOINTS / fixture / "golden_hf"))]
                weights = [{name: digest for name, digest in output.items() if name.endswith(".safetensors")}
                           for output in outputs]
                self.assertEqual(2, len(weights[0]))
                self.assertEqual(weights[0], weights[1])

    def test_what_cannot_be_is_refused_before_anything_is_written(self):
        cases = [(["vllm-sharded", "--tensor-parallel", 3], "OPTION_UNSUPPORTED", "--tensor-parallel 3", REFUSED),
                 (["vllm-sharded", "--pipeline-parallel", 5], "OPTION_UNSUPPORTED", "--pipeline-parallel 5", REFUSED),
                 (["vllm-sharded", "--expert-parallel", 2], "OPTION_UNSUPPORTED", "--expert-parallel", REFUSED),
                 (["sglang-sharded", "--pipeline-parallel", 2], "OPTION_UNSUPPORTED", "--pipeline-parallel", REFUSED),
                 (["sglang-sharded", "--quantization", "int8"], "OPTION_UNSUPPORTED", "huggingface", REFUSED),
                 (["huggingface", "--tensor-parallel", 2], "INVALID_ARGUMENT", "vllm-sharded", USAGE)]
        for options, reason, says, status in cases:
            with self.subTest(options):
                output = self.scratch / "refused"
                result = slipway("export", CHECKPOINTS / LLAMA, output, "--target", *options)
                self.assertEqual((status, reason), (result.returncode, reason_of(result)), describe(result))
                self.assertIn(says, result.stderr)
                self.assertFalse(output.exists())
        result = slipway("plan", CHECKPOINTS / "gpt2_tp1_pp1_local-spec_torch_dist", "--target", "vllm-sharded")
        self.assertEqual((REFUSED, "ARCHITECTURE_UNSUPPORTED"), (result.returncode, reason_of(result)), describe(result))


if __name__ == "__main__":
    unittest.main()
