"""200 queued exports and 100 watchers on one coordinator: none lost, no event missing, memory flat."""
import json
import subprocess
import time
import unittest

from harness import BIN, CHECKPOINTS, Scratch, Service

FIXTURE = "mistral_tp1_pp1_fp16_torch_dist"
EXPORTS, WATCHERS, IDLE = 200, 100, 50
MEGABYTE = 1_000_000
# What 200 more finished exports may add to the coordinator, whose live state is a few kB an export.
GROWTH = 64 * MEGABYTE


class Load(unittest.TestCase):
    def load(self, service, prefix, exports, watchers):
        result = subprocess.run([BIN / "load_client", service.address, CHECKPOINTS / FIXTURE, str(exports), str(watchers),
                                 prefix], capture_output=True, text=True, timeout=900)
        self.assertEqual(0, result.returncode, result.stderr[-2000:] + service.logs())
        return json.loads(result.stdout)

    def test_a_full_queue_with_many_watchers(self):
        if not (BIN / "load_client").exists():
            self.skipTest("load_client is not built")
        with Scratch() as scratch, Service(scratch.path, 2) as service:
            idle = [self.load(service, f"idle-{number}", 1, 1) for number in range(IDLE)]
            latencies = sorted(one["heard_us_p50"] / 1000 for one in idle)
            before = service.server.resident_bytes()
            sizes = [before]
            for batch in range(2):
                started = time.monotonic()
                counts = self.load(service, f"batch-{batch}", EXPORTS, WATCHERS)
                seconds = time.monotonic() - started
                self.assertEqual((EXPORTS, EXPORTS, 0), (counts["created"], counts["succeeded"], counts["lost"]), counts)
                self.assertEqual((0, 0), (counts["gaps"], counts["unfinished"]), counts)
                self.assertGreater(counts["events"], WATCHERS * 3)
                sizes.append(service.server.resident_bytes())
                print(f"\n    {EXPORTS} exports, {WATCHERS} watchers: {seconds:.1f} s, {counts}", end="")
            print(f"\n    coordinator RSS: {', '.join(f'{size / MEGABYTE:.0f} MB' for size in sizes)} (before, after each)"
                  f"\n    from submitting to hearing of the first lease, idle workers: "
                  f"p50 {latencies[len(latencies) // 2]:.1f} ms, p99 {latencies[-1]:.1f} ms of {IDLE}")
            self.assertLess(sizes[2] - sizes[1], GROWTH)
            self.assertEqual([], service.leftovers())


if __name__ == "__main__":
    unittest.main()
