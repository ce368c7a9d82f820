"""`slipway export` without a server: no set-up, nothing left, little time."""
import os
import shutil
import signal
import statistics
import subprocess
import time
import unittest
from random import Random

from artifact import read_directory, tensor_differences
from harness import (BIN, CHECKPOINTS, INTERRUPTED, Scratch, Service, big_checkpoint, describe, digests, leftovers,
                     processes_with, slipway, wait_until)

FIXTURE = "llama3_tp2_pp2_torch_dist"
ROUNDS = int(os.environ.get("SLIPWAY_LOCAL_ROUNDS", "10"))
SEED = int(os.environ.get("SLIPWAY_SEED", "1"))


class LocalMode(unittest.TestCase):
    def test_an_empty_environment_is_enough(self):
        with Scratch() as scratch:
            result = slipway("export", CHECKPOINTS / FIXTURE, scratch / "out", env={}, cwd="/")
            self.assertEqual(0, result.returncode, describe(result))
            golden = read_directory(CHECKPOINTS / FIXTURE / "golden_hf")
            self.assertEqual([], tensor_differences(read_directory(scratch / "out"), golden))

    def test_paths_may_be_relative(self):
        with Scratch() as scratch:
            result = slipway("export", os.path.relpath(CHECKPOINTS / FIXTURE, scratch.path), "out", cwd=scratch.path)
            self.assertEqual(0, result.returncode, describe(result))
            self.assertEqual(["out"], os.listdir(scratch.path))

    def test_nothing_is_left_in_tmpdir_or_beside_the_output(self):
        with Scratch() as scratch:
            (scratch / "tmp").mkdir()
            for output in ("out", "out"):  # done, then refused
                slipway("export", CHECKPOINTS / FIXTURE, scratch / output, env={"TMPDIR": str(scratch / "tmp")})
            self.assertEqual([], os.listdir(scratch / "tmp"))
            self.assertEqual([], leftovers(scratch.path))
            self.assertEqual([], processes_with(str(scratch / "tmp")))

    def test_an_interrupt_ends_it_with_130_and_leaves_nothing(self):
        with Scratch() as scratch:
            big = big_checkpoint(self)
            (scratch / "tmp").mkdir()
            process = subprocess.Popen([BIN / "slipway", "export", big, scratch / "out", "--max-shard-size", "1MB"], env={"TMPDIR": str(scratch / "tmp")}, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            wait_until(lambda: leftovers(scratch.path), "the staging directory")
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
            self.assertEqual(INTERRUPTED, process.returncode, stderr)
            self.assertEqual(["tmp"], os.listdir(scratch.path))
            self.assertEqual([], os.listdir(scratch / "tmp"))

    def test_a_killed_command_takes_its_programs_along_and_the_next_one_cleans_up(self):
        with Scratch() as scratch:
            big, random = big_checkpoint(self), Random(SEED)
            (scratch / "tmp").mkdir()
            environment = {"TMPDIR": str(scratch / "tmp")}
            command = ["export", big, scratch / "out", "--max-shard-size", "4MB", "--overwrite"]
            started = time.monotonic()
            self.assertEqual(0, slipway(*command, env=environment).returncode)
            whole = time.monotonic() - started
            expected, cut_short = digests(scratch / "out"), 0
            for number in range(ROUNDS):
                if number % 2:  # over an output, and where there is none
                    shutil.rmtree(scratch / "out")
                process = subprocess.Popen([BIN / "slipway", *command], env=environment, stdin=subprocess.DEVNULL,
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(random.uniform(0, whole))
                process.kill()
                cut_short += process.wait() == -signal.SIGKILL
                wait_until(lambda: not processes_with(str(scratch / "tmp")), "the private server and worker to end", 15)
                self.assertIn(len(leftovers(scratch.path)), (0, 1))
                result = slipway(*command, env=environment)
                self.assertEqual(0, result.returncode, describe(result))
                self.assertEqual(expected, digests(scratch / "out"), number)
                self.assertEqual([], leftovers(scratch.path), number)
                self.assertEqual([], os.listdir(scratch / "tmp"), number)
            print(f"\n    {cut_short} of {ROUNDS} commands killed before their end (seed {SEED})")
            self.assertGreater(cut_short, 0)

    def test_programs_that_start_after_their_command_was_killed_end_at_once(self):
        with Scratch() as scratch:
            gone = subprocess.Popen(["true"])
            gone.wait()
            address = f"unix:{scratch / 's'}"
            for program in (["slipway-server", "--listen", address, "--data", scratch / "data", "--artifacts", scratch.path],
                            ["slipway-worker", "--server", address]):
                ended = subprocess.run([BIN / program[0], *program[1:], "--exit-with-parent", str(gone.pid)], timeout=10,
                                       capture_output=True, text=True)
                self.assertIn(ended.returncode, (0, INTERRUPTED), ended.stderr)

    def test_the_time_that_it_adds(self):
        """Printed, not judged: the machine may be busy."""
        with Scratch() as scratch:
            def times(run):
                result = []
                for number in range(7):
                    started = time.monotonic()
                    done = run(scratch / f"{run.__name__}{number}")
                    result.append((time.monotonic() - started) * 1000)
                    self.assertEqual(0, done.returncode, describe(done))
                return statistics.median(result)

            def local(output):
                return slipway("export", CHECKPOINTS / FIXTURE, output, "--quiet")

            with Service(scratch / "svc") as service:
                def served(output):
                    return service.run("export", CHECKPOINTS / FIXTURE, output, "--quiet")
                with_service = times(served)
            alone = times(local)
            print(f"\n    tiny export, median of 7: {alone:.0f} ms local, {with_service:.0f} ms with a running service: "
                  f"local mode adds {alone - with_service:.0f} ms")


if __name__ == "__main__":
    unittest.main()
