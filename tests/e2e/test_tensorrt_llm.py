"""TensorRT-LLM checkpoints hold the golden's weights: what was cut for ranks, put together again."""
import json
import unittest

from artifact import read_directory, tensor_differences
from harness import CHECKPOINTS, REFUSED, Scratch, Service, describe, digests, options_of, reason_of, slipway
from tensorrt_llm import as_engine_stores, reassemble

LLAMA = "llama3_tp2_pp2_torch_dist"
MIXTRAL = "mixtral_tp1_pp1_ep2_grouped_torch"
QWEN3_MOE = "qwen3-moe_tp2_pp1_ep2_grouped_torch_dist"
# Ranks, stages, groups of experts.
GRID = [(1, 1, 1), (2, 1, 1), (4, 1, 1), (1, 2, 1), (2, 2, 1)]
EXPERTS = [(2, 1, 2), (4, 2, 2)]
EVERYWHERE = [LLAMA, MIXTRAL, QWEN3_MOE]
# Each once: 4 ranks are more than most have heads of keys and values.
ONCE = {"llama2_tp4_pp1_padded-vocab_torch_dist": (4, 2, 1), "llama-tied_tp1_pp2_nonhomogeneous_torch_dist": (2, 3, 1),
        "mistral_tp1_pp1_fp16_torch_dist": (4, 1, 1), "qwen25_tp1_pp2_vpp2_torch": (4, 2, 1),
        "qwen3_tp2_pp2_mcore014_torch_dist": (4, 2, 1), "gemma3_tp2_pp1_torch_dist": (2, 2, 1), "derived_gemma": (2, 1, 1),
        "derived_gemma2": (2, 1, 1), "derived_falcon": (2, 1, 1), "derived_phi3": (2, 1, 1), "derived_gpt_neox": (2, 2, 1),
        "nemotron_tp2_pp1_torch_dist": (4, 2, 1), "starcoder2_tp2_pp1_fp32_torch_dist": (4, 2, 1),
        "gpt2_tp1_pp1_local-spec_torch_dist": (4, 2, 1), "zarr_core0.8_llama3_tp2_pp1": (2, 1, 1)}


class TensorRtLlm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        cls.service = cls.enterClassContext(Service(cls.scratch / "svc", workers=2))

    def export(self, checkpoint, output, ranks, *options):
        tensor, pipeline, expert = ranks
        result = self.service.run("export", checkpoint, output, "--target", "tensorrt-llm", "--tensor-parallel", tensor,
                                  "--pipeline-parallel", pipeline, "--expert-parallel", expert, *options)
        self.assertEqual(0, result.returncode, describe(result) + self.service.logs())
        return output

    def check(self, fixture, ranks, *options, source=None):
        with self.subTest(fixture=fixture, ranks=ranks):
            golden = CHECKPOINTS / fixture / "golden_hf"
            output = self.export(source or CHECKPOINTS / fixture, self.scratch / f"{fixture}-{len(options)}-{ranks}", ranks,
                                 *options_of(fixture), *options)
            model_type = json.loads((golden / "config.json").read_text())["model_type"]
            self.assertEqual([], tensor_differences(reassemble(output, model_type),
                                                    as_engine_stores(read_directory(golden), model_type)))
            verified = slipway("verify", output)
            self.assertEqual(0, verified.returncode, describe(verified))

    def test_ranks_stages_and_groups_of_experts_hold_the_golden(self):
        for fixture in EVERYWHERE:
            for ranks in GRID + (EXPERTS if fixture != LLAMA else []):
                self.check(fixture, ranks)
        self.assertEqual([], self.service.leftovers())

    def test_every_family_holds_its_golden(self):
        for fixture, ranks in ONCE.items():
            self.check(fixture, ranks)

    def test_latent_attention_is_multiplied_out_for_each_rank(self):
        for ranks in [*GRID, *EXPERTS]:
            self.check("derived_deepseek_v2", ranks)
        self.check("derived_deepseek_v2", (2, 1, 1), "--tensorrt-llm-version", "0.17",
                   source=CHECKPOINTS / "derived_deepseek_v2" / "golden_hf")

    def test_layers_that_stages_do_not_divide_need_a_version_that_takes_them(self):
        tied = "llama-tied_tp1_pp2_nonhomogeneous_torch_dist"
        self.check(tied, (2, 2, 1), "--tensorrt-llm-version", "1.0")

    def test_a_hugging_face_directory_gives_the_same_files_as_the_checkpoint(self):
        for fixture in (LLAMA, QWEN3_MOE, "gpt2_tp1_pp1_local-spec_torch_dist"):
            with self.subTest(fixture):
                outputs = [digests(self.export(source, self.scratch / f"{fixture}-of-{number}", (2, 2, 1)))
                           for number, source in enumerate((CHECKPOINTS / fixture, CHECKPOINTS / fixture / "golden_hf"))]
                weights = [{name: digest for name, digest in output.items() if name.endswith(".safetensors")}
                           for output in outputs]
                self.assertEqual(4, len(weights[0]))
                self.assertEqual(weights[0], weights[1])

    def test_workers_do_not_show(self):
        output = self.export(CHECKPOINTS / MIXTRAL, self.scratch / "two", (2, 1, 2))
        alone = slipway("export", CHECKPOINTS / MIXTRAL, self.scratch / "alone", "--target", "tensorrt-llm",
                        "--tensor-parallel", 2, "--expert-parallel", 2, "--workers", 1, "--threads", 1)
        self.assertEqual(0, alone.returncode, describe(alone))
        self.assertEqual(digests(output), digests(self.scratch / "alone"))

    def test_what_cannot_be_is_refused_before_anything_is_written(self):
        cases = [(LLAMA, ["--tensor-parallel", 3], "1, 2, 4"), (LLAMA, ["--pipeline-parallel", 3], "--pipeline-parallel 3"),
                 (LLAMA, ["--expert-parallel", 2], "no experts"), (LLAMA, ["--tensorrt-llm-version", "0.9"], "0.11"),
                 (QWEN3_MOE, ["--tensorrt-llm-version", "0.17"], "1.0"),
                 ("derived_deepseek_v2", ["--tensorrt-llm-version", "1.0"], "--tensorrt-llm-version 0.17"),
                 ("derived_deepseek_v2", ["--quantization", "int8"], "--target huggingface"),
                 ("deepseek-v3_tp2_pp1_ep2_torch_dist", [], "--target huggingface")]
        for fixture, options, says in cases:
            with self.subTest(options):
                output = self.scratch / "refused"
                result = slipway("export", CHECKPOINTS / fixture, output, "--target", "tensorrt-llm", *options)
                self.assertEqual((REFUSED, "OPTION_UNSUPPORTED"), (result.returncode, reason_of(result)), describe(result))
                self.assertIn(says, result.stderr)
                self.assertFalse(output.exists())


if __name__ == "__main__":
    unittest.main()
