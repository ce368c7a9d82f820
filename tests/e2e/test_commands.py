"""The other commands of the command line, against a running service."""
import json
import subprocess
import unittest
from pathlib import Path

from artifact import read_directory
from harness import (BIN, CHECKPOINTS, Scratch, Service, big_checkpoint, describe, digests, reason_of, slipway, state_of,
                     wait_until)

FIXTURE = "llama3_tp2_pp2_torch_dist"


class Programs(unittest.TestCase):
    def test_each_program_tells_its_version_and_its_options(self):
        for program in ("slipway", "slipway-server", "slipway-worker"):
            for option in ("--version", "--help"):
                with self.subTest(f"{program} {option}"):
                    result = subprocess.run([BIN / program, option], capture_output=True, text=True, timeout=30)
                    self.assertEqual(0, result.returncode)
                    self.assertTrue(result.stdout.strip())

    def test_a_termination_signal_ends_both_programs_with_0(self):
        with Scratch() as scratch, Service(scratch.path) as service:
            self.assertEqual(0, service.workers[0].terminate(), service.logs())
            self.assertEqual(0, service.server.terminate(), service.logs())


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        cls.service = cls.enterClassContext(Service(cls.scratch / "svc", workers=1))

    def json(self, *arguments):
        result = self.service.run(*arguments, "--json")
        self.assertEqual(0, result.returncode, describe(result) + self.service.logs())
        return [json.loads(line) for line in result.stdout.splitlines()]

    def test_plan_names_every_tensor_and_writes_nothing(self):
        golden = read_directory(CHECKPOINTS / FIXTURE / "golden_hf")
        text = json.dumps(self.json("plan", CHECKPOINTS / FIXTURE))
        for name in golden:
            self.assertIn(f'"{name}"', text)
        self.assertEqual([], self.service.leftovers())

    def test_inspect_says_what_is_there(self):
        text = json.dumps(self.json("inspect", CHECKPOINTS / FIXTURE))
        self.assertIn("torch_dist", text)
        self.assertIn("LlamaForCausalLM", text)

    def test_formats_lists_what_there_is(self):
        result = slipway("formats")
        self.assertEqual(0, result.returncode, describe(result))
        for word in ("huggingface", "LlamaForCausalLM", "Qwen3ForCausalLM", "MistralForCausalLM"):
            self.assertIn(word, result.stdout)

    def test_watch_ends_with_the_export_and_its_events_have_no_gap(self):
        name = self.service.submit(CHECKPOINTS / FIXTURE, "--max-shard-size", "64KB")
        lines = self.json("watch", name)
        numbers = [line["event"]["sequence"] for line in lines if "event" in line]
        self.assertEqual(list(range(1, len(numbers) + 1)), numbers)
        self.assertEqual("SUCCEEDED", state_of(self.service.get(name)))

    def test_list_has_what_was_submitted_and_delete_forgets_it(self):
        name = self.service.submit(CHECKPOINTS / FIXTURE)
        export = self.service.wait(name)
        self.assertIn(name, json.dumps(self.json("list")))
        result = self.service.run("delete", name)
        self.assertEqual(0, result.returncode, describe(result))
        self.assertNotIn(name, json.dumps(self.json("list")))
        self.assertFalse(Path(export["artifact_path"]).exists())
        gone = self.service.run("get", name)
        self.assertEqual("NOT_FOUND", reason_of(gone), describe(gone))

    def test_download_gives_the_artifact_and_resumes_where_it_broke_off(self):
        name = self.service.submit(CHECKPOINTS / FIXTURE, "--max-shard-size", "64KB")
        expected = digests(self.service.wait(name)["artifact_path"])
        first = self.service.run("download", name, self.scratch / "copy")
        self.assertEqual(0, first.returncode, describe(first))
        self.assertEqual(expected, digests(self.scratch / "copy"))
        self.assertEqual(0, slipway("verify", self.scratch / "copy").returncode)

    def test_verify_finds_one_changed_byte(self):
        name = self.service.submit(CHECKPOINTS / FIXTURE)
        self.service.wait(name)
        output = self.scratch / "damaged"
        self.service.run("download", name, output)
        path = output / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-1000] ^= 1
        path.write_bytes(content)
        result = slipway("verify", output)
        self.assertEqual((1, "ARTIFACT_CORRUPT"), (result.returncode, reason_of(result)), describe(result))
        self.assertIn("model.safetensors", result.stderr)

    def test_verify_says_what_it_cannot_prove_without_digests(self):
        for digest, said in (("sha256", ": whole; "), ("none", ": complete, contents not proven; ")):
            output = self.scratch / digest
            self.assertEqual(0, slipway("export", CHECKPOINTS / FIXTURE, output, "--digest", digest).returncode)
            result = slipway("verify", output)
            self.assertEqual(0, result.returncode, describe(result))
            self.assertIn(said, result.stdout)

    def test_cancel_ends_an_export_and_leaves_nothing(self):
        name = self.service.submit(big_checkpoint(self), "--max-shard-size", "1MB")
        wait_until(lambda: state_of(self.service.get(name)) in ("RUNNING", "SUCCEEDED"), "the first shard")
        result = self.service.run("cancel", name)
        self.assertEqual(0, result.returncode, describe(result))
        export = self.service.wait(name)
        self.assertEqual("CANCELLED", state_of(export), self.service.logs())
        wait_until(lambda: not self.service.leftovers(), "the staging directory to go")


if __name__ == "__main__":
    unittest.main()
