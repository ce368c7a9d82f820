#!/usr/bin/env python3
"""Runs the end-to-end tests against the programs in build/bin (SLIPWAY_BUILD names another build).

    tests/e2e/run.py [--fast] [NAME ...]      NAME: goldens, determinism, bad_input, ...; without: all
                                              --fast leaves out what takes minutes

Ends with a line "N passed, N failed, N skipped".
"""
import os
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
SLOW = {"crash", "kill_points", "load"}


class Result(unittest.TextTestResult):
    """Counts passes, and prints how long each test took."""
    passed = 0

    def startTest(self, test):
        self.started = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        self.passed += 1
        super().addSuccess(test)

    def stopTest(self, test):
        super().stopTest(test)
        self.stream.writeln(f"    {time.monotonic() - self.started:.1f} s")
        self.stream.flush()


def main():
    arguments = sys.argv[1:]
    if "-h" in arguments or "--help" in arguments:
        print(__doc__)
        return 0
    fast = "--fast" in arguments
    names = [a for a in arguments if not a.startswith("-")]
    sys.path.insert(0, str(HERE))
    known = sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.py"))
    unknown = set(names) - set(known)
    if unknown:
        print(f"run.py: no such tests: {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = names or [name for name in known if not (fast and name in SLOW)]
    loader = unittest.defaultTestLoader
    suite = unittest.TestSuite(loader.loadTestsFromName(f"test_{name}") for name in chosen)
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Result).run(suite)
    for test, why in result.skipped:
        print(f"skipped: {test}: {why}")
    failed = len(result.failures) + len(result.errors)
    print(f"{result.passed} passed, {failed} failed, {len(result.skipped)} skipped")
    return 1 if failed or not result.passed else 0


if __name__ == "__main__":
    sys.exit(main())
