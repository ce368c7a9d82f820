"""Every small checkpoint exports bit for bit as its golden, which Slipway did not make."""
import json
import unittest

from artifact import config_differences, read_directory, tensor_differences
from harness import CHECKPOINTS, Scratch, Service, describe, fixtures, options_of, slipway


class Goldens(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        cls.service = cls.enterClassContext(Service(cls.scratch / "svc", workers=2))

    def check(self, output, fixture):
        golden = CHECKPOINTS / fixture / "golden_hf"
        self.assertEqual([], tensor_differences(read_directory(output), read_directory(golden)))
        self.assertEqual([], config_differences(output, golden))

    def test_every_checkpoint_through_a_service(self):
        for fixture in fixtures():
            with self.subTest(fixture):
                output = self.scratch / fixture
                result = self.service.run("export", CHECKPOINTS / fixture, output, *options_of(fixture))
                self.assertEqual(0, result.returncode, describe(result) + self.service.logs())
                self.check(output, fixture)
                verified = slipway("verify", output)
                self.assertEqual(0, verified.returncode, describe(verified))
        self.assertEqual([], self.service.leftovers())

    def test_many_shards_hold_the_same_tensors_as_one(self):
        fixture = "llama3_tp2_pp2_torch_dist"
        output = self.scratch / "many"
        result = self.service.run("export", CHECKPOINTS / fixture, output, "--max-shard-size", "64KB")
        self.assertEqual(0, result.returncode, describe(result) + self.service.logs())
        self.assertGreater(len(list(output.glob("*.safetensors"))), 3)
        self.check(output, fixture)

    def test_the_manifest_names_every_file_and_tensor(self):
        fixture = "qwen25_tp1_pp2_vpp2_torch"
        output = self.scratch / "manifest"
        result = self.service.run("export", CHECKPOINTS / fixture, output)
        self.assertEqual(0, result.returncode, describe(result) + self.service.logs())
        text = (output / "manifest.json").read_text()
        json.loads(text)
        for path in output.iterdir():
            if path.name != "manifest.json":
                self.assertIn(path.name, text)
        for name in read_directory(output):
            self.assertIn(name, text)


class Paths(unittest.TestCase):
    def test_the_iteration_directory_itself_is_a_checkpoint_too(self):
        fixture = "llama3_tp2_pp2_torch_dist"
        with Scratch() as scratch:
            result = slipway("export", CHECKPOINTS / fixture / "iter_0000100", scratch / "out")
            self.assertEqual(0, result.returncode, describe(result))
            golden = CHECKPOINTS / fixture / "golden_hf"
            self.assertEqual([], tensor_differences(read_directory(scratch / "out"), read_directory(golden)))


if __name__ == "__main__":
    unittest.main()
