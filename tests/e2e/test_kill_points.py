"""Kills a program at every named point of its sources (SLIPWAY_KILL_POINT): the export ends whole all the same.

Needs a build with -DSLIPWAY_TEST_HOOKS=ON.
"""
import os
import re
import shutil
import unittest

from harness import (BIN, CHECKPOINTS, REPOSITORY, Scratch, Service, describe, digests, slipway, state_of, wait_until)

POINT = re.compile(rb'SLIPWAY_KILL_POINT\("([a-z0-9-]+)"\)')
PASSES = (1, 2)  # the first pass through a point and, where there is one, the second
# Passed only where the file system cannot exchange two directories.
OTHER_FILE_SYSTEMS = {"publish-between-renames"}


def kill_points():
    """Names by the program that passes them: what is not the coordinator's runs in workers."""
    found = {"server": set(), "worker": set()}
    for room in ("server", "worker", "common"):
        for path in (REPOSITORY / room).rglob("*.cc"):
            names = {name.decode() for name in POINT.findall(path.read_bytes())}
            found["server" if room == "server" else "worker"] |= names
    return found


class KillPoints(unittest.TestCase):
    def setUp(self):
        worker = BIN / "slipway-worker"
        if not worker.exists() or b"SLIPWAY_KILL_AT" not in worker.read_bytes():
            self.skipTest("built without SLIPWAY_TEST_HOOKS")

    def submit(self, service, fixture, *options):
        return service.submit(CHECKPOINTS / fixture, "--max-shard-size", "64KB", "--publish", service.artifacts / "it",
                              *options)

    def check(self, service, name, expected):
        """The export ended whole, with nothing beside it; the digests of its files."""
        export = service.wait(name)
        self.assertEqual("SUCCEEDED", state_of(export), f"{export}\n{service.logs()}")
        verified = slipway("verify", export["artifact_path"])
        self.assertEqual(0, verified.returncode, describe(verified))
        found = digests(export["artifact_path"])
        self.assertEqual(expected or found, found)
        self.assertEqual([], service.leftovers())
        return found

    def export_with_a_kill(self, room, point, number, expected, overwrite):
        """Whether the point was passed, and the digests of what came out."""
        with Scratch() as scratch, Service(scratch.path, 1) as service:
            options = []
            if overwrite:
                self.check(service, self.submit(service, "qwen25_tp1_pp2_vpp2_torch"), None)
                options = ["--overwrite"]
            victim = service.server if room == "server" else service.workers[0]
            victim.kill()
            victim.env = {"SLIPWAY_KILL_AT": f"{point}:{number}"}
            victim.start()
            name = None
            try:
                wait_until(lambda: not victim.alive or service.run("list").returncode == 0, "the coordinator", 30)
                name = self.submit(service, "llama3_tp2_pp2_torch_dist", *options)
            except RuntimeError:
                self.assertFalse(service.server.alive)  # not acknowledged: it may be lost

            def over():
                return not victim.alive or (name and (service.get(name) or {}).get("end_time"))
            wait_until(over, f"{point} or the end", 60, 0.05)
            passed = not victim.alive
            if passed:
                victim.env = {}
                service.start_server() if room == "server" else victim.start()
            name = name or self.submit(service, "llama3_tp2_pp2_torch_dist", *options)
            return passed, self.check(service, name, expected)

    def test_what_local_mode_left_while_publishing_is_taken_up_by_the_next_command(self):
        """Each replacement of the worker dies at the same point, until the command gives up."""
        points = sorted(name for name in kill_points()["worker"] if "publish" in name and name not in OTHER_FILE_SYSTEMS)
        for point in points:
            for overwrite in ([], ["--overwrite"]):
                with self.subTest(point=point, overwrite=overwrite), Scratch() as scratch:
                    command = ["export", CHECKPOINTS / "llama3_tp2_pp2_torch_dist", scratch / "out", "--max-shard-size",
                               "64KB", *overwrite]
                    if overwrite:
                        slipway("export", CHECKPOINTS / "qwen25_tp1_pp2_vpp2_torch", scratch / "out")
                    killed = slipway(*command, env={"TMPDIR": str(scratch.path), "SLIPWAY_KILL_AT": point})
                    if (scratch / "out").exists() and not overwrite:
                        shutil.rmtree(scratch / "out")
                    result = slipway(*command, env={"TMPDIR": str(scratch.path)})
                    self.assertEqual(0, result.returncode, f"{describe(killed)}\n{describe(result)}")
                    self.assertEqual(0, slipway("verify", scratch / "out").returncode)
                    self.assertEqual(["out"], os.listdir(scratch.path))

    def test_at_every_point(self):
        points = kill_points()
        self.assertTrue(points["worker"], "no kill points in the sources")
        _, expected = self.export_with_a_kill("worker", "no-such-point", 1, None, False)
        kills = 0
        for room, names in sorted(points.items()):
            for point in sorted(names):
                for number in PASSES:
                    for overwrite in (False, True) if "publish" in point else (False,):
                        with self.subTest(room=room, point=point, number=number, overwrite=overwrite):
                            passed, _ = self.export_with_a_kill(room, point, number, expected, overwrite)
                            kills += passed
                            self.assertTrue(passed or number > 1 or point in OTHER_FILE_SYSTEMS,
                                            f"{point} was never passed")
        print(f"\n    {sum(map(len, points.values()))} points, {kills} kills")


if __name__ == "__main__":
    unittest.main()
