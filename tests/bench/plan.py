#!/usr/bin/env python3
"""How long planning takes, and in how much memory, for a model of a trillion parameters in Kimi-K2's shape.

    tests/bench/plan.py SCRATCH

Makes the metadata of the checkpoint (its files are holes), plans and inspects it in one process and through a
coordinator and a worker, and exports, through the same two, a whole checkpoint of as many tensors and pieces that are
tiny: the time of everything around the weights. Prints a table; fails where a plan takes more than 10 s or 2 GiB.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import time

BINARIES = pathlib.Path(__file__).resolve().parents[2] / "build" / "bin"
LIMIT_SECONDS = 10
LIMIT_MIB = 2048
MAX_SHARD_SIZE = "82KB"  # of the tiny one: about as many shards as the large one has


def timed(*command):
    """Seconds and peak resident size in MiB of a command, which must succeed."""
    start = time.monotonic()
    process = subprocess.Popen([BINARIES / command[0], *command[1:]], stdout=subprocess.PIPE)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    if status != 0:
        sys.exit(f"{command}: status {status >> 8}")
    return seconds, usage.ru_maxrss / 1024, output


def peak(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0


class Service:
    def __init__(self, scratch):
        self.directory = scratch / "service"
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        self.address = f"unix:{self.directory}/socket"
        self.server = self.start("slipway-server", "--listen", self.address, "--data", self.directory / "data",
                                 "--artifacts", self.directory / "artifacts")
        self.worker = self.start("slipway-worker", "--server", self.address)
        time.sleep(1)

    def start(self, name, *arguments):
        log = open(self.directory / f"{name}.log", "wb")
        return subprocess.Popen([BINARIES / name, *arguments], stdout=log, stderr=log)

    def stop(self):
        for process in (self.worker, self.server):
            process.terminate()
            process.wait()


def through_service(scratch, *command):
    """The same through a fresh service: seconds, and the peaks of client, worker and server."""
    service = Service(scratch)
    try:
        seconds, client, _ = timed(*command, "--server", service.address)
        return seconds, client, peak(service.worker), peak(service.server)
    finally:
        service.stop()


def main():
    scratch = pathlib.Path(sys.argv[1]).resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    checkpoints = {"weights": ["--trillion"], "with Adam's state": ["--trillion", "--optimizer"],
                   "tiny": ["--trillion-pieces"]}
    for name, options in checkpoints.items():
        if not (scratch / name).exists():
            timed("make_sparse_checkpoint", scratch / name, *options)
    rows = []

    def add(what, seconds, client, worker=0, server=0):
        cells = [f"{value:.0f}" if value else "" for value in (client, worker, server)]
        rows.append((seconds, max(client, worker, server)))
        print(f"| {what} | {seconds:.2f} | {' | '.join(cells)} |", flush=True)

    print("| command | seconds | client MiB | worker MiB | server MiB |\n| --- | --- | --- | --- | --- |")
    for name in ("weights", "with Adam's state"):
        size = (scratch / name / "iter_0000100" / ".metadata").stat().st_size / 1e6
        add(f"`plan`, {name} (index of {size:.0f} MB)", *timed("slipway", "plan", scratch / name)[:2])
    weights = scratch / "weights"
    add("`plan --json`, weights", *timed("slipway", "plan", weights, "--json")[:2])
    add("`plan --tensors`, weights", *timed("slipway", "plan", weights, "--tensors")[:2])
    add("`inspect`, weights", *timed("slipway", "inspect", weights)[:2])
    add("`plan --server`, weights", *through_service(scratch, "slipway", "plan", weights))
    add("`plan --json --server`, weights", *through_service(scratch, "slipway", "plan", weights, "--json"))
    add("`inspect --server`, weights", *through_service(scratch, "slipway", "inspect", weights))
    output = scratch / "output"
    shutil.rmtree(output, ignore_errors=True)
    tiny = ("slipway", "export", scratch / "tiny", output, "--max-shard-size", MAX_SHARD_SIZE)
    seconds, client, worker, server = through_service(scratch, *tiny)
    shards = len(list(output.glob("*.safetensors")))
    add(f"`export --server`, tiny ({shards} shards)", seconds, client, worker, server)
    shutil.rmtree(output)
    return any(seconds > LIMIT_SECONDS or size > LIMIT_MIB for seconds, size in rows[:-1])


if __name__ == "__main__":
    sys.exit(main())
