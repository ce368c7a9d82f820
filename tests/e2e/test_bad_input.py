"""Damaged checkpoints and outputs that cannot be written: a reason, a place, the right exit status, and nothing left."""
import os
import shutil
import subprocess
import unittest

from damage import CASES, MARKER
from harness import (BIN, CHECKPOINTS, DONE, FAILED, REFUSED, Scratch, Service, big_checkpoint, describe, digests,
                     options_of, reason_of, slipway, state_of, wait_until)

FIXTURE = "llama3_tp2_pp2_torch_dist"


def copy_of(fixture, to):
    shutil.copytree(CHECKPOINTS / fixture, to)
    return next(path for path in to.iterdir() if path.name.startswith("iter_"))


class DamagedCheckpoints(unittest.TestCase):
    """One coordinator and one worker take all of them: none may hurt the next one."""

    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        cls.service = cls.enterClassContext(Service(cls.scratch / "svc", workers=1))

    def check(self, number, case):
        checkpoint = self.scratch / f"in{number}"
        directory = copy_of(case.fixture, checkpoint)
        case.damage(directory)
        output = self.scratch / f"out{number}"
        result = self.service.run("export", checkpoint, output, *options_of(case.fixture), *case.options, timeout=60)
        said = describe(result)
        self.assertIn(reason_of(result), case.reasons, said)
        self.assertEqual(REFUSED, result.returncode, said)
        for word in case.words:
            self.assertIn(word, result.stderr, said)
        self.assertFalse(MARKER.exists(), "something ran")
        self.assertFalse(output.exists(), "an output was left")
        self.assertEqual([], self.service.leftovers())
        self.assertTrue(self.service.server.alive and self.service.workers[0].alive, self.service.logs())
        shutil.rmtree(checkpoint)

    def test_each_damage_is_refused_by_name_and_leaves_nothing(self):
        for number, case in enumerate(CASES):
            with self.subTest(case.name):
                self.check(number, case)
        # The worker that met all of them still works, and did not grow without bound.
        result = self.service.run("export", CHECKPOINTS / FIXTURE, self.scratch / "sound")
        self.assertEqual(DONE, result.returncode, describe(result))
        self.assertLess(self.service.workers[0].resident_bytes("VmHWM"), 2 << 30)


class AChangingCheckpoint(unittest.TestCase):
    def test_a_file_that_shrinks_while_it_is_read_fails_the_export(self):
        with Scratch() as scratch:
            checkpoint = scratch / "in"
            shutil.copytree(big_checkpoint(self), checkpoint)
            with Service(scratch / "svc", 1, ("--threads", "1")) as service:
                name = service.submit(checkpoint, "--max-shard-size", "1MB")
                wait_until(lambda: service.get(name).get("progress", {}).get("shards_done", 0) >= 1, "a first shard")
                largest = max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
                os.truncate(largest, 4096)
                export = service.wait(name)
                self.assertEqual("FAILED", state_of(export), service.logs())
                self.assertIn("CHECKPOINT_CHANGED", str(export["error"]["reason"]))
                self.assertIn(largest.name, str(export["error"]))
                self.assertEqual([], service.leftovers())
                self.assertTrue(service.workers[0].alive, "the worker crashed")


class Outputs(unittest.TestCase):
    def test_an_existing_output_is_refused_and_untouched(self):
        with Scratch() as scratch:
            first = slipway("export", CHECKPOINTS / FIXTURE, scratch / "out")
            self.assertEqual(DONE, first.returncode, describe(first))
            before = digests(scratch / "out")
            second = slipway("export", CHECKPOINTS / "qwen25_tp1_pp2_vpp2_torch", scratch / "out")
            self.assertEqual((REFUSED, "OUTPUT_EXISTS"), (second.returncode, reason_of(second)), describe(second))
            self.assertEqual(before, digests(scratch / "out"))
            third = slipway("export", CHECKPOINTS / "qwen25_tp1_pp2_vpp2_torch", scratch / "out", "--overwrite")
            self.assertEqual(DONE, third.returncode, describe(third))
            self.assertNotEqual(before, digests(scratch / "out"))
            self.assertEqual(["out"], os.listdir(scratch.path))

    def test_overwriting_never_replaces_what_is_read_or_is_no_artifact(self):
        with Scratch() as scratch:
            shutil.copytree(CHECKPOINTS / FIXTURE, scratch / "checkpoint")
            (scratch / "precious").mkdir()
            (scratch / "precious" / "file").write_text("x")
            before = digests(scratch / "checkpoint")
            for output, expected in (("checkpoint", "OUTPUT_EXISTS"), ("precious", "OUTPUT_EXISTS")):
                result = slipway("export", scratch / "checkpoint", scratch / output, "--overwrite")
                self.assertEqual((REFUSED, expected), (result.returncode, reason_of(result)), describe(result))
            first = slipway("export", scratch / "checkpoint", scratch / "artifact")
            self.assertEqual(DONE, first.returncode, describe(first))
            again = slipway("export", scratch / "artifact", scratch / "artifact", "--overwrite")
            self.assertNotEqual(DONE, again.returncode, describe(again))
            self.assertIn("which is read", again.stderr)
            self.assertEqual(before, digests(scratch / "checkpoint"))
            self.assertEqual("x", (scratch / "precious" / "file").read_text())

    def in_own_mount(self, scratch, options, command):
        """Runs `command` in a mount namespace where scratch/mnt is a file system of its own."""
        (scratch / "mnt").mkdir()
        script = f'mount -t tmpfs -o {options} tmpfs "$0/mnt" && {command}; status=$?; ls -A "$0/mnt"; exit $status'
        result = subprocess.run(["unshare", "-rm", "sh", "-c", script, str(scratch.path)], capture_output=True, text=True,
                                timeout=120)
        if "unshare" in result.stderr or "mount:" in result.stderr:
            self.skipTest(f"no mount namespace here: {result.stderr.strip()}")
        return result

    def export_to_mount(self, scratch, options):
        return self.in_own_mount(scratch, options, f'"{BIN}/slipway" export "{CHECKPOINTS / FIXTURE}" "$0/mnt/out"')

    def test_a_full_disk_leaves_nothing(self):
        with Scratch() as scratch:
            result = self.export_to_mount(scratch, "size=128k")
            self.assertEqual((FAILED, "OUTPUT_DISK_FULL"), (result.returncode, reason_of(result)), describe(result))
            self.assertNotIn("out", result.stdout, describe(result))

    def test_a_read_only_output_is_refused(self):
        with Scratch() as scratch:
            result = self.export_to_mount(scratch, "ro")
            self.assertEqual((FAILED, "OUTPUT_UNWRITABLE"), (result.returncode, reason_of(result)), describe(result))

    def test_an_output_under_a_file_is_refused(self):
        with Scratch() as scratch:
            (scratch / "file").write_text("x")
            result = slipway("export", CHECKPOINTS / FIXTURE, scratch / "file" / "out")
            self.assertEqual((FAILED, "OUTPUT_UNWRITABLE"), (result.returncode, reason_of(result)), describe(result))
            self.assertEqual(["file"], os.listdir(scratch.path))


class Usage(unittest.TestCase):
    def test_wrong_usage_is_2_and_says_so(self):
        for arguments in ([], ["export"], ["export", "a"], ["frobnicate"], ["export", "a", "b", "--digest", "crc"],
                          ["export", "a", "b", "--max-shard-size", "-5"], ["export", "a", "b", "--no-such-option"],
                          ["export", "a", "b", "--recipe", "/nonexistent"], ["export", "a", "b", "--kv-cache", "int8"]):
            with self.subTest(arguments):
                self.assertEqual(2, slipway(*arguments).returncode)

    def test_an_unreachable_server_is_4(self):
        with Scratch() as scratch:
            result = slipway("list", "--server", f"unix:{scratch.path}/nobody")
            self.assertEqual((4, "SERVER_UNREACHABLE"), (result.returncode, reason_of(result)), describe(result))

    def test_formats_that_need_calibration_are_refused_without_it(self):
        with Scratch() as scratch:
            for options in (["--quantization", "int4-awq"], ["--quantization", "nvfp4-awq"]):
                with self.subTest(options):
                    result = slipway("export", CHECKPOINTS / FIXTURE, scratch / "out", *options)
                    self.assertEqual((REFUSED, "OPTION_UNSUPPORTED"), (result.returncode, reason_of(result)),
                                     describe(result))
                    self.assertEqual([], os.listdir(scratch.path))


if __name__ == "__main__":
    unittest.main()
