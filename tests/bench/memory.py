#!/usr/bin/env python3
"""Peak memory of a worker that exports a checkpoint far larger than its budget.

    tests/bench/memory.py SCRATCH [--gigabytes 64] [--budget 1GiB] [--build DIR] [--threads N]

Makes a sparse torch_dist checkpoint of that size in SCRATCH (holes: it takes no disk), exports it through a coordinator
and one worker, and reads VmHWM of the worker. The output is real: SCRATCH needs room for --gigabytes.
"""
import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
import harness  # noqa: E402

# A Llama 3 70B layer in bf16, and its two embeddings.
SHAPE = {"--hidden": 8192, "--ffn": 28672, "--heads": 64, "--kv": 8, "--vocab": 128256, "--tp": 8}
LAYER = 2 * 8192 * (8192 + 2 * 1024 + 8192 + 3 * 28672)
EMBEDDINGS = 2 * 2 * 128256 * 8192
ALLOWANCE = 256 << 20  # what a process may hold beside its budget


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--gigabytes", type=float, default=64)
    parser.add_argument("--budget", type=int, default=1, help="in GiB")
    parser.add_argument("--build", type=Path, default=harness.BUILD)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--digest", default="sha256")
    arguments = parser.parse_args()
    harness.BIN = arguments.build / "bin"
    wanted = int(arguments.gigabytes * 1e9)
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(arguments.scratch).free
    if free < wanted * 1.05:
        sys.exit(f"{arguments.scratch} has {free / 1e9:.1f} GB free, {wanted * 1.05 / 1e9:.1f} GB are needed: give --gigabytes")
    layers = max(1, round((wanted - EMBEDDINGS) / LAYER))
    with harness.Scratch(prefix="slip-bench-") as state:
        checkpoint, artifacts = arguments.scratch / "bench-sparse", arguments.scratch / "bench-artifacts"
        for path in (checkpoint, artifacts):
            shutil.rmtree(path, ignore_errors=True)
        shape = [str(part) for option in SHAPE.items() for part in option]
        subprocess.run([harness.BIN / "make_sparse_checkpoint", checkpoint, "--layers", str(layers), *shape], check=True)
        try:
            options = ["--memory-budget", f"{arguments.budget}GiB", "--threads", str(arguments.threads)]
            with harness.Service(state.path, 1, options, artifacts=artifacts) as service:
                started = time.monotonic()
                name = service.submit(checkpoint, "--digest", arguments.digest)
                export = service.wait(name, 3600)
                seconds = time.monotonic() - started
                if harness.state_of(export) != "SUCCEEDED":
                    sys.exit(f"{export}\n{service.logs()}")
                peak = service.workers[0].resident_bytes("VmHWM")
                written = int(export["plan"]["output_bytes"])
                service.run("delete", name)
        finally:
            for path in (checkpoint, artifacts):
                shutil.rmtree(path, ignore_errors=True)
    limit = (arguments.budget << 30) + ALLOWANCE
    print("| bytes | budget | peak RSS of the worker | allowed | seconds | GB/s |\n| --- | --- | --- | --- | --- | --- |")
    print(f"| {written:,} | {arguments.budget} GiB | {peak / (1 << 20):.0f} MiB | {limit / (1 << 20):.0f} MiB | {seconds:.1f} | "
          f"{written / seconds / 1e9:.2f} |")
    return 0 if peak <= limit else 1


if __name__ == "__main__":
    sys.exit(main())
