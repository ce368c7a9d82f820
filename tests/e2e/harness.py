"""Drives the real programs: temporary directories, a coordinator and workers as processes, the command line.

Everything a Service starts ends with it, whatever a test does. Nothing listens on a TCP port: Unix sockets only.
"""
import atexit
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("SLIPWAY_BUILD", REPOSITORY / "build")).resolve()
BIN = BUILD / "bin"
CHECKPOINTS = REPOSITORY / "tests" / "data" / "checkpoints"
# Slow machines and sanitizers: every limit below is multiplied by this.
PATIENCE = float(os.environ.get("SLIPWAY_PATIENCE", "1"))

DONE, FAILED, USAGE, REFUSED, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 130

# What a checkpoint does not tell about its model.
# What nothing in a checkpoint tells: one family from another, and settings that Megatron's arguments do not know.
EXTRA_OPTIONS = {
    "mistral_tp1_pp1_fp16_torch_dist": ["--architecture", "MistralForCausalLM"],
    "derived_glm4_moe_lite": ["--architecture", "Glm4MoeLiteForCausalLM"],
    "derived_phi3": ["--architecture", "Phi3ForCausalLM"],
    "derived_qwen3_5_moe": ["--architecture", "Qwen3_5MoeForCausalLM"],
} | {name: ["--hf-config", CHECKPOINTS / name / "golden_hf"]
     for name in ("derived_falcon", "derived_gemma", "derived_gemma2", "derived_nemotron_h_latent",
                  "derived_qwen2_5_vl", "derived_qwen3_vl_moe", "gemma3_tp2_pp1_torch_dist",
                  "gpt-oss_tp1_pp1_torch_dist", "qwen25-vl_tp2_pp1_torch_dist", "qwen3-vl_tp2_pp1_torch_dist")}


def fixtures():
    return sorted(path.name for path in CHECKPOINTS.iterdir() if path.is_dir())


def options_of(fixture):
    return EXTRA_OPTIONS.get(fixture, [])


def slipway(*arguments, timeout=120, env=None, cwd=None, preexec_fn=None):
    """One run of the command line; the result has returncode, stdout and stderr."""
    return subprocess.run([str(BIN / "slipway"), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace", timeout=timeout * PATIENCE, env=env, cwd=cwd,
                          preexec_fn=preexec_fn)


def describe(result):
    return (f"exit status {result.returncode} of {' '.join(map(str, result.args))}\n"
            f"--- stdout\n{result.stdout[-3000:]}\n--- stderr\n{result.stderr[-3000:]}")


def wait_until(condition, what, seconds=60, interval=0.02):
    """Polls until condition() is true and returns its value; raises TimeoutError naming `what`."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds * PATIENCE:.0f} s for {what}")
        time.sleep(interval)


def big_checkpoint(test):
    """A torch_dist checkpoint of 128 MB of noise, made once and read by many; skips where the tool is not built."""
    tool = BIN / "make_sparse_checkpoint"
    if not tool.exists():
        test.skipTest("make_sparse_checkpoint is not built")
    if not BIG:
        directory = Scratch("slip-big-")
        atexit.register(directory.__exit__)
        subprocess.run([tool, directory / "big", "--layers", "3", "--hidden", "1024", "--ffn", "4096", "--heads", "16", "--kv",
                        "4", "--vocab", "8192", "--tp", "2", "--fill", "random"], check=True, capture_output=True)
        BIG.append(directory / "big")
    return BIG[0]


BIG = []  # the path, once it is made


def processes_with(text):
    """Ids of running processes with `text` in their command line, but not this one."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                command = Path("/proc", entry, "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if text in command:
                found.append(int(entry))
    return found


class Scratch:
    """A temporary directory; short, because Unix socket paths are limited to 107 bytes."""

    def __init__(self, prefix="slip-e2e-"):
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=os.environ.get("SLIPWAY_E2E_TMP", "/tmp")))

    def __truediv__(self, name):
        return self.path / name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for directory, _, _ in os.walk(self.path):
            os.chmod(directory, 0o700)
        shutil.rmtree(self.path, ignore_errors=True)


class Process:
    """A program in the background, its output in a file."""

    def __init__(self, name, arguments, log, env=None):
        self.name, self.arguments, self.log, self.env = name, [str(a) for a in arguments], Path(log), env
        self.process = None

    def start(self):
        environment = {**os.environ, **(self.env or {})}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment)
        return self

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.process is not None:
            if self.alive:
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def terminate(self, seconds=30):
        """SIGTERM; the exit status, or None where it had to be killed."""
        if self.process is None:
            return None
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def log_tail(self, characters=3000):
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def resident_bytes(self, field="VmRSS"):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise ValueError(f"no {field}")


class Service:
    """A coordinator and workers below one directory."""

    def __init__(self, root, workers=1, worker_options=(), server_options=(), start=True, artifacts=None):
        self.root = Path(root)
        self.artifacts = Path(artifacts or self.root / "artifacts")
        for directory in (self.root / "data", self.artifacts):
            directory.mkdir(parents=True, exist_ok=True)
        self.address = f"unix:{self.root}/s"
        self.server = Process("server", [BIN / "slipway-server", "--listen", self.address, "--data",
                                         self.root / "data", "--artifacts", self.artifacts, *server_options],
                              self.root / "server.log")
        self.workers = [self.worker(f"worker-{number}", *worker_options) for number in range(1, workers + 1)]
        if start:
            self.start()

    def worker(self, name, *options, env=None):
        return Process(name, [BIN / "slipway-worker", "--server", self.address, "--name", name, *options],
                       self.root / f"{name}.log", env)

    def start(self):
        self.start_server()
        for worker in self.workers:
            worker.start()
        for worker in self.workers:
            wait_until(lambda: not worker.alive or "ready" in worker.log_tail(), f"{worker.name} to be ready", 30)

    def start_server(self):
        self.server.start()
        try:
            wait_until(lambda: not self.server.alive or self.run("list").returncode == 0, "the coordinator", 30)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.server.log_tail()}") from None
        if not self.server.alive:
            raise RuntimeError(f"the coordinator ended:\n{self.server.log_tail()}")

    def run(self, *arguments, **options):
        return slipway(*arguments, "--server", self.address, **options)

    def submit(self, checkpoint, *options):
        result = self.run("submit", checkpoint, *options)
        if result.returncode != 0:
            raise RuntimeError(describe(result))
        return result.stdout.split()[-1].strip()

    def get(self, name):
        """The export as the coordinator's JSON, or None where it does not answer now."""
        result = self.run("get", name, "--json")
        return json.loads(result.stdout.splitlines()[-1])["export"] if result.returncode == 0 else None

    def wait(self, name, seconds=120):
        """The export once it has ended."""
        def ended():
            export = self.get(name)
            return export if export and state_of(export) in ("SUCCEEDED", "FAILED", "CANCELLED") else None
        try:
            return wait_until(ended, f"the end of {name}", seconds, 0.1)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.get(name)}\n{self.logs()}") from None

    def logs(self):
        return "".join(f"--- {p.name}\n{p.log_tail()}\n" for p in (self.server, *self.workers))

    def leftovers(self):
        """What no published artifact explains: staging directories and temporary files under the artifact root."""
        return leftovers(self.artifacts)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in (*self.workers, self.server):
            process.kill()


def state_of(export):
    """"SUCCEEDED" from "EXPORT_STATE_SUCCEEDED"."""
    return str(export.get("state", "")).removeprefix("EXPORT_STATE_")


def leftovers(directory):
    """Staging directories and temporary files below an output's parent."""
    found = []
    for parent, directories, files in os.walk(directory):
        found += [os.path.join(parent, name) for name in directories + files
                  if (name.startswith(".") and name != ".metadata") or ".slipway-" in name or name.endswith(".tmp")]
    return found


def reason_of(result):
    """REASON of the line `slipway: REASON: message` on stderr."""
    for line in result.stderr.splitlines():
        parts = line.split(": ", 2)
        if len(parts) == 3 and parts[0] == "slipway" and parts[1].isupper():
            return parts[1]
    return None


def digests(directory):
    """SHA-256 of every file of an artifact, except manifest.json, which names the job."""
    result = {}
    for path in sorted(Path(directory).rglob("*")):
        if path.is_file() and path.name != "manifest.json":
            result[str(path.relative_to(directory))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return result
