"""The same plan gives the same bytes, however many workers and threads write them and whoever is killed meanwhile."""
import unittest

from harness import CHECKPOINTS, Scratch, Service, digests, state_of

FIXTURE = "llama3_tp2_pp2_torch_dist"
SHARDS = ("--max-shard-size", "32KB")


def artifact_of(service):
    name = service.submit(CHECKPOINTS / FIXTURE, *SHARDS)
    export = service.wait(name)
    if state_of(export) != "SUCCEEDED":
        raise AssertionError(f"{export}\n{service.logs()}")
    return digests(export["artifact_path"])


class Determinism(unittest.TestCase):
    def run_with(self, workers, threads):
        with Scratch() as scratch, Service(scratch.path, workers, ("--threads", threads)) as service:
            return artifact_of(service)

    def test_workers_and_threads_do_not_show_in_the_output(self):
        expected = self.run_with(1, 1)
        self.assertGreater(len(expected), 8)
        for workers, threads in ((4, 1), (1, 8), (4, 8)):
            with self.subTest(workers=workers, threads=threads):
                self.assertEqual(expected, self.run_with(workers, threads))

    def test_a_killed_worker_does_not_show_in_the_output(self):
        expected = self.run_with(1, 1)
        with Scratch() as scratch, Service(scratch.path, 2) as service:
            name = service.submit(CHECKPOINTS / FIXTURE, *SHARDS)
            service.workers[0].kill()
            service.workers[0].start()
            export = service.wait(name)
            self.assertEqual("SUCCEEDED", state_of(export), service.logs())
            self.assertEqual(expected, digests(export["artifact_path"]))

    def test_two_layouts_of_one_model_give_the_same_weights_files(self):
        with Scratch() as scratch, Service(scratch.path, 2) as service:
            names = [service.submit(CHECKPOINTS / fixture, *SHARDS)
                     for fixture in ("legacy-v0_llama2_tp2", "legacy-v1.0_llama2_tp2")]
            outputs = [digests(service.wait(name)["artifact_path"]) for name in names]
            weights = [{name: digest for name, digest in output.items() if name.endswith(".safetensors")}
                       for output in outputs]
            self.assertEqual(weights[0], weights[1])


if __name__ == "__main__":
    unittest.main()
