"""Several targets of one export: each directory is, file by file, what its target alone would leave."""
import json
import os
import shutil
import time
import unittest
from pathlib import Path

from harness import (CHECKPOINTS, Scratch, Service, big_checkpoint, describe, leftovers, reason_of, slipway, state_of,
                     wait_until)

FIXTURE = "llama3_tp2_pp2_torch_dist"
TARGETS = ("huggingface", "tensorrt-llm", "vllm-sharded")
SMALL_FILES = ("--max-shard-size", "64KB")


def options_for(targets, *more):
    ranks = ("--tensor-parallel", "2") if set(targets) != {"huggingface"} else ()
    return [word for target in targets for word in ("--target", target)] + [*ranks, *more]


def contents(directory):
    """{path: bytes} of an artifact; of a manifest.json what it says, but for the job's name and whether the iteration was
    asked for: a worker that starts in the middle of an export is told which one it is."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name == "manifest.json":
                content = json.loads(content)
                del content["export"]
                content["options"].pop("iteration", None)
            found[str(path.relative_to(directory))] = content
    return found


class Targets(unittest.TestCase):
    def setUp(self):
        self.scratch = self.enterContext(Scratch())

    def export(self, checkpoint, output, targets, *more):
        result = slipway("export", checkpoint, self.scratch / output, *options_for(targets), *more)
        self.assertEqual(0, result.returncode, describe(result))
        return result

    def alone(self, checkpoint, *more):
        for target in TARGETS:
            self.export(checkpoint, f"alone-{target}", [target], *more)

    def check(self, output, said="whole"):
        """Each directory of `output` beside the export of its target alone."""
        self.assertEqual(sorted([*TARGETS, "manifest.json"]), sorted(os.listdir(output)))
        for target in TARGETS:
            ours, theirs = contents(Path(output, target)), contents(self.scratch / f"alone-{target}")
            self.assertEqual(sorted(theirs), sorted(ours))
            for path in theirs:
                self.assertEqual(theirs[path], ours[path], f"{target}/{path}")
        verified = slipway("verify", output)
        self.assertEqual(0, verified.returncode, describe(verified))
        for target in TARGETS:
            self.assertIn(f"{target}: {said}", verified.stdout)
            self.assertEqual(0, slipway("verify", Path(output, target)).returncode)

    def test_each_directory_is_what_its_target_alone_leaves(self):
        for more in ((), SMALL_FILES, ("--digest", "none"), ("--dtype", "fp32")):
            with self.subTest(options=more):
                self.alone(CHECKPOINTS / FIXTURE, *more, "--overwrite")
                self.export(CHECKPOINTS / FIXTURE, "out", TARGETS, *more, "--overwrite")
                self.check(self.scratch / "out", "complete, contents not proven" if "none" in more else "whole")
        self.assertEqual([], leftovers(self.scratch.path))

    def test_what_is_said_of_them(self):
        result = slipway("export", CHECKPOINTS / FIXTURE, self.scratch / "out", *options_for(TARGETS), "--json")
        self.assertEqual(0, result.returncode, describe(result))
        self.assertEqual(list(TARGETS), json.loads(result.stdout.splitlines()[-1])["directories"])
        verified = json.loads(slipway("verify", self.scratch / "out", "--json", "--against",
                                      CHECKPOINTS / FIXTURE).stdout)
        self.assertEqual(list(TARGETS), [directory["target"] for directory in verified["directories"]])
        self.assertEqual([True] * len(TARGETS), [directory["comparison"]["passed"] for directory in verified["directories"]])
        self.assertEqual(verified["tensors"], sum(directory["tensors"] for directory in verified["directories"]))
        plan = json.loads(slipway("plan", CHECKPOINTS / FIXTURE, *options_for(TARGETS), "--json").stdout)["plan"]
        self.assertEqual(list(TARGETS), [directory["path"] for directory in plan["directories"]])

    def test_two_workers_one_of_them_killed_in_the_middle(self):
        big = big_checkpoint(self)
        more = ("--max-shard-size", "4MB")
        self.alone(big, *more)
        with Service(self.scratch / "svc", 2) as service:
            name = service.submit(big, *options_for(TARGETS), *more)

            def in_the_middle():
                done = (service.get(name) or {}).get("progress", {}).get("shards_done", 0)
                return done >= 2
            wait_until(in_the_middle, "two finished shards", 60, 0.01)
            service.workers[0].kill()
            time.sleep(0.2)
            service.workers[0].start()
            export = service.wait(name)
            self.assertEqual("SUCCEEDED", state_of(export), service.logs())
            self.check(export["artifact_path"])
            self.assertEqual([], service.leftovers())

            downloaded = service.run("download", name, self.scratch / "downloaded")
            self.assertEqual(0, downloaded.returncode, describe(downloaded))
            self.assertEqual(contents(export["artifact_path"]), contents(self.scratch / "downloaded"))
            self.check(self.scratch / "downloaded")

            deleted = service.run("delete", name)
            self.assertEqual(0, deleted.returncode, describe(deleted))
            self.assertEqual([], os.listdir(service.artifacts))

    def test_workers_and_threads_do_not_show_in_the_output(self):
        self.alone(CHECKPOINTS / FIXTURE, *SMALL_FILES)
        for workers, threads in ((1, 1), (2, 1), (3, 4)):
            with self.subTest(workers=workers, threads=threads), \
                    Service(self.scratch / f"svc{workers}", workers, ("--threads", threads)) as service:
                export = service.wait(service.submit(CHECKPOINTS / FIXTURE, *options_for(TARGETS), *SMALL_FILES))
                self.assertEqual("SUCCEEDED", state_of(export), service.logs())
                self.check(export["artifact_path"])

    def test_damage_of_one_is_found_in_all(self):
        self.export(CHECKPOINTS / FIXTURE, "out", TARGETS)
        for target in TARGETS:
            with self.subTest(target=target):
                shutil.copytree(self.scratch / "out", self.scratch / "damaged")
                victim = sorted(Path(self.scratch / "damaged", target).glob("*.safetensors"))[0]
                content = bytearray(victim.read_bytes())
                content[-1] ^= 1
                victim.write_bytes(content)
                result = slipway("verify", self.scratch / "damaged")
                self.assertNotEqual(0, result.returncode)
                self.assertEqual("ARTIFACT_CORRUPT", reason_of(result), describe(result))
                self.assertIn(f"{target}/{victim.name}", result.stderr)
                shutil.rmtree(self.scratch / "damaged")

    def test_a_directory_of_another_target_than_the_manifest_says_is_found(self):
        self.export(CHECKPOINTS / FIXTURE, "out", TARGETS)
        manifest = Path(self.scratch / "out", "manifest.json")
        content = json.loads(manifest.read_text())
        content["directories"][0]["target"] = TARGETS[1]
        manifest.write_text(json.dumps(content))
        result = slipway("verify", self.scratch / "out")
        self.assertEqual("ARTIFACT_CORRUPT", reason_of(result), describe(result))
        self.assertIn(f"{TARGETS[0]}/manifest.json", result.stderr)

    def test_an_existing_output_is_replaced_as_a_whole(self):
        self.export(CHECKPOINTS / FIXTURE, "out", ["huggingface"])
        refused = slipway("export", CHECKPOINTS / FIXTURE, self.scratch / "out", *options_for(TARGETS))
        self.assertEqual("OUTPUT_EXISTS", reason_of(refused), describe(refused))
        self.alone(CHECKPOINTS / FIXTURE)
        self.export(CHECKPOINTS / FIXTURE, "out", TARGETS, "--overwrite")
        self.check(self.scratch / "out")


if __name__ == "__main__":
    unittest.main()
