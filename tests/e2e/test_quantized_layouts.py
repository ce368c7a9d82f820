"""A quantized export does not show how its source was cut, who wrote it and what happened meanwhile."""
import json
import unittest

from artifact import read_directory, tensor_differences
from harness import (CHECKPOINTS, REPOSITORY, Scratch, Service, big_checkpoint, describe, digests, options_of, slipway,
                     state_of, wait_until)
from quantized import recipe_of

ADAPTER = REPOSITORY / "tests" / "data" / "adapters" / "bridge-lora_llama3_tp2_pp1"
SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1, "I8": 1, "I32": 4, "I64": 8}

# Fixtures whose golden_hf is the same model as a Hugging Face directory.
LAYOUTS = ("llama2_tp4_pp1_padded-vocab_torch_dist", "llama3_tp2_pp2_torch", "qwen3-moe_tp2_pp1_ep2_grouped_torch_dist",
           "mixtral_tp1_pp1_ep2_grouped_torch", "starcoder2_tp2_pp1_fp32_torch_dist", "derived_qwen3_vl_moe",
           "derived_llama4")

# Name: rules, what else the recipe says, --config-form.
WAYS = {
    "fp8": ([("*", "fp8", None)], "activations: dynamic", "compressed-tensors"),
    "fp8 searched": ([("*", "fp8", None)], "activations: dynamic\nscale_search: mse", "native"),
    "nvfp4": ([("*", "nvfp4", None)], "", "modelopt"),
    "nvfp4 searched": ([("*", "nvfp4", None)], "scale_search: mse", "compressed-tensors"),
    "int4 in strips": ([("*", "int4", 32)], "", "native"),
    "int4 in pairs of rows": ([("*", "int4", 32)], "scale_search: mse", "modelopt"),
    "fp8 in blocks": ([("*", "fp8-block", None)], "scale_search: mse", "native"),
    "int8": ([("*", "int8", None)], "", "compressed-tensors"),
}
# K is too narrow there for groups of 16 or 32.
NARROW = {("derived_llama4", way) for way in WAYS if "4" in way} | {
    ("derived_qwen3_vl_moe", way) for way in WAYS if "4" in way} | {
    (fixture, way) for way in ("int4 in strips", "int4 in pairs of rows")
    for fixture in ("qwen3-moe_tp2_pp1_ep2_grouped_torch_dist", "mixtral_tp1_pp1_ep2_grouped_torch")}


def misaligned(directory):
    """Tensors that do not begin at a multiple of their element's size."""
    found = []
    for path in sorted(directory.glob("*.safetensors")):
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        for name, entry in json.loads(content[8:8 + length]).items():
            if name != "__metadata__" and (8 + length + entry["data_offsets"][0]) % SIZES[entry["dtype"]] != 0:
                found.append(f"{path.name}: {name}")
    return found


class QuantizedLayouts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        cls.service = cls.enterClassContext(Service(cls.scratch / "svc", workers=2))
        cls.count = 0

    def export(self, source, way, *options):
        rules, settings, form = WAYS[way]
        recipe = self.scratch / "recipe.yaml"
        recipe.write_text(recipe_of(rules, settings))
        type(self).count += 1
        output = self.scratch / f"out-{self.count}"
        result = self.service.run("export", source, output, "--recipe", recipe, "--config-form", form, *options)
        self.assertEqual(0, result.returncode, describe(result) + self.service.logs())
        self.assertEqual([], misaligned(output))
        return output

    def test_parallel_ranks_and_layouts_do_not_show(self):
        for fixture in LAYOUTS:
            for way in WAYS:
                if (fixture, way) in NARROW:
                    continue
                with self.subTest(fixture, way=way):
                    megatron = self.export(CHECKPOINTS / fixture, way, "--max-shard-size", "48KB", *options_of(fixture))
                    plain = self.export(CHECKPOINTS / fixture / "golden_hf", way)
                    self.assertEqual([], tensor_differences(read_directory(megatron), read_directory(plain)))

    def test_an_adapter_is_merged_before_quantization(self):
        for way in WAYS:
            if "int4" not in way:  # 48 columns are no groups of 32
                with self.subTest(way):
                    merged = self.export(ADAPTER / "base", way, "--adapter", ADAPTER / "adapter")
                    plain = self.export(ADAPTER / "golden_hf", way)
                    self.assertEqual([], tensor_differences(read_directory(merged), read_directory(plain)))


class QuantizedExecution(unittest.TestCase):
    FIXTURE = CHECKPOINTS / "llama3_tp2_pp2_torch_dist"

    def run_with(self, workers, threads, way, kill=False):
        rules, settings, form = WAYS[way]
        with Scratch() as scratch, Service(scratch.path, workers, ("--threads", threads)) as service:
            (scratch / "recipe.yaml").write_text(recipe_of(rules, settings))
            name = service.submit(self.FIXTURE, "--recipe", scratch / "recipe.yaml", "--config-form", form,
                                  "--max-shard-size", "16KB")
            if kill:
                service.workers[0].kill()
                service.workers[0].start()
            export = service.wait(name)
            self.assertEqual("SUCCEEDED", state_of(export), service.logs())
            return digests(export["artifact_path"])

    def test_workers_threads_and_kills_do_not_show(self):
        for way in ("nvfp4 searched", "int4 in strips", "fp8 searched"):
            expected = self.run_with(1, 1, way)
            self.assertGreater(len(expected), 6)
            for workers, threads, kill in ((4, 1, False), (1, 8, False), (2, 2, True)):
                with self.subTest(way, workers=workers, threads=threads, kill=kill):
                    self.assertEqual(expected, self.run_with(workers, threads, way, kill))

    def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(self):
        big = big_checkpoint(self)
        options = ("--quantization", "nvfp4", "--config-form", "modelopt", "--scale-search", "mse",
                   "--max-shard-size", "4MB")
        with Scratch() as scratch:
            result = slipway("export", big, scratch / "whole", *options, timeout=300)
            self.assertEqual(0, result.returncode, describe(result))
            expected = digests(scratch / "whole")
            with Service(scratch / "svc", 2, ("--threads", "1")) as service:
                name = service.submit(big, *options)
                done = wait_until(lambda: service.get(name)["progress"].get("shards_done", 0), "the first shards", 120)
                for process in (*service.workers, service.server):
                    process.kill()
                self.assertLess(done, len(list((scratch / "whole").glob("*.safetensors"))), "killed too late")
                service.start()
                export = service.wait(name, 300)
                self.assertEqual("SUCCEEDED", state_of(export), service.logs())
                self.assertEqual(expected, digests(export["artifact_path"]))


if __name__ == "__main__":
    unittest.main()
