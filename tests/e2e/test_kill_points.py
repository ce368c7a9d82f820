"""Kills a program at every named point of its sources (SLIPWAY_KILL_POINT): the export ends whole all the same.

Needs a build with -DSLIPWAY_TEST_HOOKS=ON.
"""
import re
import unittest

from harness import (BIN, CHECKPOINTS, REPOSITORY, Scratch, Service, describe, digests, slipway, state_of, wait_until)

FIXTURE = "llama3_tp2_pp2_torch_dist"
POINT = re.compile(rb'SLIPWAY_KILL_POINT\("([a-z0-9-]+)"\)')
PASSES = (1, 2)  # the first pass through a point and, where there is one, the second


def kill_points():
    """Names by room: {"worker": {...}, "server": {...}}; the engine's and common's run in workers."""
    found = {"server": set(), "worker": set()}
    for room in ("server", "worker", "common"):
        for path in (REPOSITORY / room).rglob("*.cc"):
            names = {name.decode() for name in POINT.findall(path.read_bytes())}
            found["server" if room == "server" else "worker"] |= names
    return found


def hooks_are_built():
    return any(b"SLIPWAY_KILL_AT" in (BIN / name).read_bytes() for name in ("slipway-worker",) if (BIN / name).exists())


class KillPoints(unittest.TestCase):
    def setUp(self):
        if not hooks_are_built():
            self.skipTest("built without SLIPWAY_TEST_HOOKS")

    def export_with_a_kill(self, room, point, number, expected):
        with Scratch() as scratch:
            service = self.enterContext(Service(scratch.path, 1, start=False))
            victim = service.server if room == "server" else service.workers[0]
            victim.env = {"SLIPWAY_KILL_AT": f"{point}:{number}"}
            victim_may_die_at_start = room == "server"
            try:
                service.start()
                name = service.submit(CHECKPOINTS / FIXTURE, "--max-shard-size", "64KB")
            except RuntimeError:
                if not victim_may_die_at_start:
                    raise
                name = None  # not acknowledged: it may be lost
            def over():
                return not victim.alive or (name and (service.get(name) or {}).get("end_time"))
            wait_until(over, f"{point} or the end", 60, 0.05)
            reached = not victim.alive
            if reached:
                victim.process.wait()
                victim.env = {}
                service.start_server() if room == "server" else victim.start()
                if not service.workers[0].alive:
                    service.workers[0].start()
            if name is None:
                name = service.submit(CHECKPOINTS / FIXTURE, "--max-shard-size", "64KB")
            export = service.wait(name)
            self.assertEqual("SUCCEEDED", state_of(export), f"{export}\n{service.logs()}")
            verified = slipway("verify", export["artifact_path"])
            self.assertEqual(0, verified.returncode, describe(verified))
            if expected is not None:
                self.assertEqual(expected, digests(export["artifact_path"]))
            self.assertEqual([], service.leftovers())
            for process in (*service.workers, service.server):
                process.kill()
            return reached, digests(export["artifact_path"])

    def test_at_every_point(self):
        points = kill_points()
        self.assertTrue(points["worker"], "no kill points in the sources")
        _, expected = self.export_with_a_kill("worker", "no-such-point", 1, None)
        killed = 0
        for room, names in sorted(points.items()):
            for point in sorted(names):
                for number in PASSES:
                    with self.subTest(room=room, point=point, number=number):
                        reached, _ = self.export_with_a_kill(room, point, number, expected)
                        killed += reached
                        self.assertTrue(reached or number > 1, f"{point} was never passed")
        print(f"\n    {sum(map(len, points.values()))} points, {killed} kills")


if __name__ == "__main__":
    unittest.main()
