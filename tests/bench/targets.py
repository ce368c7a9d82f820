#!/usr/bin/env python3
"""How long one export of several targets takes beside an export of the slower target alone.

    tests/bench/targets.py CHECKPOINT SCRATCH [--targets A,B] [--options "..."] [--states warm,cold] [--runs 3]

In each of the runs, one after the other and in another order every time: an export of each target alone, and one of them
all. SCRATCH is a directory on the file system that is measured, with room for all outputs. Warm: the checkpoint was
read before and is in the page cache; cold: it is dropped from the cache before every command (posix_fadvise; what is
still there is printed). What a run wrote is removed, dirty pages are flushed and free memory is touched before every
command, outside the measured time. Why it is touched: export.py. None is held back as there, since the kernel lets only
a part of the memory hold pages that wait for the disk: outputs beyond it are written back while the export runs, and the
disk is measured. So it refuses to measure those, and says what to raise. Prints a Markdown table of medians; fails where
several targets take more than 1.6 times as long as the slower one, in any state that was measured.
"""
import argparse
import ctypes
import mmap
import os
import shlex
import subprocess
import sys
from pathlib import Path

from export import BUILD, MARGIN, free_memory, measure, medians, processor, remove, rotated, size_of, take_memory, warm

LIMIT = 1.6


def files_of(directory):
    return [path for path in sorted(Path(directory).rglob("*")) if path.is_file()]


def drop(directory):
    """Takes the files below out of the page cache."""
    for path in files_of(directory):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def cached_share(directory):
    """How much of the files below is in the page cache, from 0 to 1."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    pages = cached = 0
    for path in files_of(directory):
        size = path.stat().st_size
        if size == 0:
            continue
        with open(path, "rb") as file:
            address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        count = -(-size // mmap.PAGESIZE)
        resident = ctypes.create_string_buffer(count)
        if libc.mincore(address, size, resident) != 0:
            sys.exit(f"mincore: {os.strerror(ctypes.get_errno())}")
        libc.munmap(address, size)
        pages += count
        cached += sum(value & 1 for value in resident.raw)
    return cached / max(pages, 1)


def check_write_back(expected):
    """That the kernel does not begin to write back before so many bytes wait for the disk."""
    percent = int(Path("/proc/sys/vm/dirty_background_ratio").read_text())
    available = next(int(line.split()[1]) << 10 for line in Path("/proc/meminfo").read_text().splitlines()
                     if line.startswith("MemAvailable:"))
    if expected > available * percent // 100:
        sys.exit(f"{expected:,} bytes of outputs would be written back while they are made: vm.dirty_background_ratio is "
                 f"{percent} % of {available:,} bytes. Take a smaller checkpoint, or raise it for the measurement: "
                 "sysctl vm.dirty_background_ratio=70 vm.dirty_ratio=80")
    return percent


class Measurement:
    def __init__(self, arguments):
        self.arguments = arguments
        self.targets = arguments.targets.split(",")
        self.output = arguments.scratch / "bench-targets"
        base = [str(arguments.build / "bin" / "slipway"), "export", str(arguments.checkpoint), str(self.output), "--quiet",
                *shlex.split(arguments.options)]
        ranks = shlex.split(arguments.rank_options)
        self.commands = {}
        for chosen in [[target] for target in self.targets] + [self.targets]:
            words = [word for target in chosen for word in ("--target", target)]
            self.commands[" + ".join(chosen)] = base + words + (ranks if chosen != ["huggingface"] else [])
        self.bytes = {}

    def prepare(self, state):
        remove(self.output)
        subprocess.run(["sync"], check=True)
        (drop if state == "cold" else warm)(self.arguments.checkpoint)
        take_memory(free_memory() - MARGIN, hold=False)
        if state == "warm":
            warm(self.arguments.checkpoint)  # again: the kernel may have given up pages for what was touched
        share = cached_share(self.arguments.checkpoint)
        if (share > 0.05) if state == "cold" else (share < 0.99):
            sys.exit(f"{share:.0%} of the checkpoint is in the page cache, which is not {state}")

    def run(self, state):
        """{command: [(seconds, CPU seconds, peak)]}"""
        results = {name: [] for name in self.commands}
        for run, name in rotated(self.commands, self.arguments.runs):
            self.prepare(state)
            results[name].append(measure(self.commands[name]))
            self.bytes[name] = size_of(self.output)
            print(f"{state}, run {run + 1}: {name}: {results[name][-1][0]:.2f} s", file=sys.stderr, flush=True)
        remove(self.output)
        return results

    def report(self, state, results):
        """Prints the rows; returns the ratio."""
        median = medians(results)
        slower = max(median[target][0] for target in self.targets)
        for name, (seconds, cpu, resident) in median.items():
            each = [value[0] for value in results[name]]
            print(f"| {state} | `{name}` | {self.bytes[name]:,} | {seconds:.2f} ({min(each):.2f} to {max(each):.2f}) | "
                  f"{cpu:.2f} | {resident / 1e6:.0f} MB | {seconds / slower:.2f} |")
        return median[" + ".join(self.targets)][0] / slower


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--targets", default="huggingface,vllm-sharded")
    parser.add_argument("--options", default="", help="more options of every export")
    parser.add_argument("--rank-options", default="", help="more options where a target has ranks: --tensor-parallel 2")
    parser.add_argument("--states", default="warm,cold")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--build", type=Path, default=BUILD)
    arguments = parser.parse_args()
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    measurement = Measurement(arguments)
    states = arguments.states.split(",")
    percent = check_write_back(size_of(arguments.checkpoint) * len(measurement.targets))
    results = {state: measurement.run(state) for state in states}

    print(f"\ncheckpoint of {size_of(arguments.checkpoint):,} bytes; {os.cpu_count()} cores, {processor()}; free memory "
          f"touched; vm.dirty_background_ratio {percent}; interleaved medians of {arguments.runs}; options: {arguments.options or 'none'}; of ranks: "
          f"{arguments.rank_options or 'none'}\n")
    print("| checkpoint's pages | targets | bytes written | seconds (min to max) | CPU seconds | peak RSS of its largest "
          "process | of the slower target |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ratios = {state: measurement.report(state, results[state]) for state in states}
    print("\n" + "; ".join(f"{state}: {ratio:.2f}" for state, ratio in ratios.items()) +
          f" of the slower target alone (at most {LIMIT} wanted)")
    return 0 if max(ratios.values()) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
