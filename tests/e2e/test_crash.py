"""kill -9 of a worker, of the coordinator, of both, at random moments: every acknowledged export ends, whole.

SLIPWAY_CRASH_ROUNDS (50) and SLIPWAY_CRASH_SEED (1) in the environment; a failed round prints its seed.
"""
import os
import random
import subprocess
import time
import unittest

from harness import (BIN, CHECKPOINTS, Scratch, Service, big_checkpoint, describe, digests, leftovers, processes_with,
                     slipway, state_of, wait_until)

ROUNDS = int(os.environ.get("SLIPWAY_CRASH_ROUNDS", "50"))
SEED = int(os.environ.get("SLIPWAY_CRASH_SEED", "1"))
WORKERS = 2
SLOTS = 2  # tasks of one worker at once: what one kill of a worker may cost
SMALL = ("llama3_tp2_pp2_torch_dist", "qwen25_tp1_pp2_vpp2_torch")


def redone(export):
    """Tries over the first, of all shards of an export."""
    tries = [attempt["shard"] for attempt in export["attempts"] if attempt["task"] == "shard"]
    if set(tries) != set(range(export["progress"]["shards_total"])):
        raise AssertionError(f"tries were forgotten: {export}")
    return len(tries) - len(set(tries))


class Crash(unittest.TestCase):
    def setUp(self):
        self.scratch = self.enterContext(Scratch())
        self.big = big_checkpoint(self)
        self.service = self.enterContext(Service(self.scratch / "svc", WORKERS, ("--slots", SLOTS)))
        self.expected = {}

    def kill_something(self, chance):
        """Kills and starts again; returns (how many workers, whether the coordinator)."""
        victims = chance.choice(["worker", "worker", "coordinator", "both"])
        workers = [] if victims == "coordinator" else chance.sample(self.service.workers, chance.randint(1, WORKERS))
        processes = workers + ([] if victims == "worker" else [self.service.server])
        for process in processes:
            process.kill()
        time.sleep(chance.choice([0, 0, 0.1, 0.5]))
        if self.service.server in processes:
            self.service.start_server()
        for worker in workers:
            worker.start()
        return len(workers), self.service.server in processes

    def submit_all(self):
        names = {self.service.submit(self.big, "--max-shard-size", "4MB"): "big"}
        for fixture in SMALL:
            names[self.service.submit(CHECKPOINTS / fixture, "--max-shard-size", "64KB")] = fixture
        return names

    def check(self, name, source):
        export = self.service.wait(name, 180)
        self.assertEqual("SUCCEEDED", state_of(export), f"{export}\n{self.service.logs()}")
        verified = slipway("verify", export["artifact_path"])
        self.assertEqual(0, verified.returncode, describe(verified))
        found = digests(export["artifact_path"])
        self.assertEqual(self.expected.setdefault(source, found), found)
        return redone(export)

    def test_seeded_rounds(self):
        total_redone = total_allowed = kills = 0
        started = time.monotonic()
        for number in range(ROUNDS):
            seed = SEED * 1000 + number
            chance = random.Random(seed)
            with self.subTest(seed=seed):
                names = self.submit_all()
                killed_workers = 0
                for _ in range(chance.randint(1, 2)):
                    time.sleep(chance.uniform(0, 0.7))
                    workers, _ = self.kill_something(chance)
                    killed_workers += workers
                    kills += 1
                again = sum(self.check(name, source) for name, source in names.items())
                self.assertLessEqual(again, killed_workers * SLOTS, f"{killed_workers} workers killed")
                total_redone += again
                total_allowed += killed_workers * SLOTS
                self.assertEqual([], self.service.leftovers())
                for name in names:
                    deleted = self.service.run("delete", name)
                    self.assertEqual(0, deleted.returncode, describe(deleted))
                self.assertEqual([], sorted(os.listdir(self.service.artifacts)))
        print(f"\n    {ROUNDS} rounds, {kills} kills: {total_redone} shards redone, at most {total_allowed} in flight, "
              f"{time.monotonic() - started:.0f} s")


class LocalModeKilled(unittest.TestCase):
    def test_a_killed_local_export_is_done_again_by_the_next_and_leaves_no_process(self):
        with Scratch() as scratch:
            big = big_checkpoint(self)
            (scratch / "tmp").mkdir()
            environment = {"TMPDIR": str(scratch / "tmp")}
            arguments = [BIN / "slipway", "export", big, scratch / "out", "--max-shard-size", "8MB"]
            victim = subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
            time.sleep(0.3)
            victim.kill()
            victim.wait()
            wait_until(lambda: not processes_with(str(scratch.path)), "its children to end", 30)
            result = subprocess.run([*arguments, "--overwrite"], env=environment, capture_output=True, text=True,
                                    timeout=300)
            self.assertEqual(0, result.returncode, describe(result))
            self.assertEqual(0, slipway("verify", scratch / "out").returncode)
            self.assertEqual([], leftovers(scratch.path))


if __name__ == "__main__":
    unittest.main()
