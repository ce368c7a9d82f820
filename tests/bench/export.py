#!/usr/bin/env python3
"""How long an export takes beside what any copy of the same bytes must take.

    tests/bench/export.py CHECKPOINT SCRATCH [--runs 5] [--build DIR] [--peer COMMAND]

CHECKPOINT is a Megatron checkpoint; SCRATCH is a directory on the file system that is measured, with room for three
copies. In each of the runs, one after the other and in another order every time: `cp -r` of the exported directory,
`openssl dgst -sha256` of its files, `slipway export` with SHA-256 and with --digest none, and the peer where one is
given (a shell command with {checkpoint} and {output} in it). Everything is read before each
command, so the page cache is warm; what a run wrote is removed, dirty pages are flushed, and free memory is touched,
outside the measured time and before every command alike. Touched, because a virtual machine that reports free memory to
its host pays for every page that it takes anew, about a second a gigabyte: that would measure the host. What it hides is
in RESULTS.md. Prints a Markdown table of medians.
"""
import argparse
import mmap
import os
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

MADV_POPULATE_WRITE = 23  # Linux 5.14
HOLD_SECONDS = 10  # until held memory is touched
MARGIN = 256 << 20  # of free memory that is left alone
BUILD = Path(__file__).resolve().parents[2] / "build"


def measure(command, shell=False):
    """(seconds, CPU seconds, peak resident bytes of the largest process) of a command that must succeed."""
    before = os.times()
    started = time.monotonic()
    process = subprocess.Popen(command, shell=shell, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command}: {error.decode(errors='replace')[-2000:]}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu, usage.ru_maxrss * 1024


def free_memory():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/meminfo") if line.startswith("MemFree"))


def take_memory(length, hold):
    """Takes that much memory and touches it, in a process of its own; with `hold`, which lives as long as this one."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        memory = mmap.mmap(-1, max(length, mmap.PAGESIZE), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory.madvise(MADV_POPULATE_WRITE)
        while hold and os.getppid() == parent:
            time.sleep(1)
        os._exit(0)
    if not hold:
        os.waitpid(child, 0)
    return child


def size_of(directory):
    return sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())


def warm(directory):
    for path in Path(directory).rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                while file.read(1 << 24):
                    pass


def remove(path):
    if path.exists():
        shutil.rmtree(path)


def rotated(names, runs):
    """(run, name): in every run all names, beginning with another one."""
    names = list(names)
    for run in range(runs):
        for name in names[run % len(names):] + names[:run % len(names)]:
            yield run, name


def medians(results):
    """{name: (seconds, CPU seconds, peak)} of what `measure` returned for each name."""
    return {name: [statistics.median(column) for column in zip(*values)] for name, values in results.items()}


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--peer", help="a shell command with {checkpoint} and {output}")
    parser.add_argument("--peer-runs", type=int, default=1, help="the peer is slow: it runs in the first so many runs")
    parser.add_argument("--options", default="", help="more options of slipway export")
    arguments = parser.parse_args()
    slipway = str(arguments.build / "bin" / "slipway")
    scratch = arguments.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    source, output = scratch / "bench-source", scratch / "bench-output"
    remove(source)
    remove(output)

    export = [slipway, "export", str(arguments.checkpoint)]
    options = ["--quiet", *shlex.split(arguments.options)]
    subprocess.run([*export, str(source), *options], check=True, stdout=subprocess.DEVNULL)
    files = sorted(str(path) for path in source.iterdir() if path.is_file())
    commands = {
        "cp -r": ["cp", "-r", str(source), str(output)],
        "openssl dgst -sha256": ["openssl", "dgst", "-sha256", *files],
        "slipway export (SHA-256)": [*export, str(output), *options],
        "slipway export --digest none": [*export, str(output), "--digest", "none", *options],
    }
    if arguments.peer:
        commands["Python peer"] = arguments.peer.format(checkpoint=arguments.checkpoint, output=output)
    results = {name: [] for name in commands}
    warm(arguments.checkpoint)
    warm(source)
    bytes_written = size_of(source)
    # What is free beyond the need is kept out of the way: touching it again and again would take long.
    held = take_memory(free_memory() - 2 * bytes_written, hold=True)
    time.sleep(HOLD_SECONDS)
    for run, name in rotated(commands, arguments.runs):
        if name == "Python peer" and run >= arguments.peer_runs:
            continue
        remove(output)
        subprocess.run(["sync"], check=True)
        take_memory(free_memory() - MARGIN, hold=False)
        warm(arguments.checkpoint)  # again: the kernel may give up pages that nobody has read for a while
        warm(source)
        results[name].append(measure(commands[name], shell=isinstance(commands[name], str)))
        print(f"run {run + 1}: {name}: {results[name][-1][0]:.2f} s", file=sys.stderr, flush=True)
    os.kill(held, signal.SIGKILL)
    remove(output)
    remove(source)

    median = medians(results)
    copy, digest = median["cp -r"][0], median["openssl dgst -sha256"][0]
    print(f"\n{bytes_written:,} bytes written; {os.cpu_count()} cores, {processor()}; page cache warm, free memory touched; "
          f"interleaved medians of {arguments.runs} (peer: {arguments.peer_runs})\n")
    print("| command | seconds (min to max) | CPU seconds | peak RSS of its largest process | GB/s | of `cp -r` |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (seconds, cpu, resident) in median.items():
        each = [value[0] for value in results[name]]
        print(f"| `{name}` | {seconds:.2f} ({min(each):.2f} to {max(each):.2f}) | {cpu:.2f} | {resident / 1e6:.0f} MB | "
              f"{bytes_written / seconds / 1e9:.2f} | {seconds / copy:.2f} |")
    with_digest = median["slipway export (SHA-256)"][0] / max(copy, digest)
    without = median["slipway export --digest none"][0] / copy
    print(f"\nwith SHA-256: {with_digest:.2f} of the slower of `cp -r` and `openssl dgst -sha256` (at most 1.25 wanted); "
          f"`--digest none`: {without:.2f} of `cp -r` (at most 1.1 wanted)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
