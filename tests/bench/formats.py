#!/usr/bin/env python3
"""How long a quantized export takes beside the unquantized export of the same checkpoint.

    tests/bench/formats.py CHECKPOINT SCRATCH [--formats fp8,nvfp4] [--runs 3] [--options "--scale-search mse"]

In each of the runs, one after the other and beginning with another one every time: the unquantized export and one of each format
that needs no calibration. SCRATCH is a directory on the file system that is measured, with room for one output. The
checkpoint is in the page cache; what a run wrote is removed, dirty pages are flushed and free memory is touched before
every command, outside the measured time and before every command alike (why: export.py). Prints a Markdown table of
medians; fails where a format takes more than 1.5 times as long as the unquantized export.
"""
import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from export import BUILD, MARGIN, free_memory, measure, medians, processor, remove, rotated, size_of, take_memory, warm

LIMIT = 1.5
FORMATS = "fp8,fp8-per-channel,fp8-block,int8,int4,nvfp4,mxfp4,mxfp8"
INSTRUCTION_SETS = [("avx512bw", "AVX-512"), ("avx2", "AVX2"), ("sse4_1", "SSE4"), ("asimd", "NEON")]


def instruction_set():
    """The best of this machine's that is compiled in: it is chosen when a worker starts."""
    flags = next((line.split() for line in open("/proc/cpuinfo") if line.startswith(("flags", "Features"))), [])
    return next((name for flag, name in INSTRUCTION_SETS if flag in flags), "none")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--formats", default=FORMATS)
    parser.add_argument("--options", default="", help="more options of every quantized export")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--build", type=Path, default=BUILD)
    arguments = parser.parse_args()
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    output = arguments.scratch / "bench-formats"
    base = [str(arguments.build / "bin" / "slipway"), "export", str(arguments.checkpoint), str(output), "--quiet"]
    commands = {"none": base}
    for name in arguments.formats.split(","):
        commands[name] = [*base, "--quantization", name, *shlex.split(arguments.options)]
    results = {name: [] for name in commands}
    written = {}
    for run, name in rotated(commands, arguments.runs):
        remove(output)
        subprocess.run(["sync"], check=True)
        take_memory(free_memory() - MARGIN, hold=False)
        warm(arguments.checkpoint)
        results[name].append(measure(commands[name]))
        written[name] = size_of(output)
        print(f"run {run + 1}: {name}: {results[name][-1][0]:.2f} s", file=sys.stderr, flush=True)
    remove(output)

    median = medians(results)
    plain = median["none"][0]
    print(f"\ncheckpoint of {size_of(arguments.checkpoint):,} bytes; {os.cpu_count()} cores, {processor()}, "
          f"{instruction_set()}; page cache warm, free memory touched; interleaved medians of {arguments.runs}; "
          f"options: {arguments.options or 'none'}\n")
    print("| `--quantization` | bytes written | seconds (min to max) | CPU seconds | peak RSS of its largest process | "
          "of the unquantized export |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (seconds, cpu, resident) in median.items():
        each = [value[0] for value in results[name]]
        print(f"| {name} | {written[name]:,} | {seconds:.2f} ({min(each):.2f} to {max(each):.2f}) | {cpu:.2f} | "
              f"{resident / 1e6:.0f} MB | {seconds / plain:.2f} |")
    worst = max(seconds / plain for seconds, _, _ in median.values())
    print(f"\nthe slowest takes {worst:.2f} of the unquantized export (at most {LIMIT} wanted)")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
