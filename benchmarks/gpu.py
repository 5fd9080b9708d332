"""One GPU: our epoch as one program against Keras' ``fit``, PyTorch with a CUDA graph a step and JAX's ``lax.scan``.

``make bench-gpu`` runs every step, each with a time limit of its own, and ends within eight minutes: what no time is
left for is named. Results: a table, and ``gpu-benchmark.json``, which is written after each step. ``--only`` chooses
steps, ``--rehearse`` runs them in small on a machine without a GPU. A peer that is not installed is named.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_children
from measure import RESULT

Figures = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A measurement: what it is, its time limit in seconds, and the function that returns its figures."""

    title: str
    limit: float
    measure: Callable[[Bench], Figures]


@dataclass
class Bench:
    """What every step gets: the options, and the moment at which its time is over."""

    options: argparse.Namespace
    ends: float = 0.0

    @property
    def small(self) -> bool:
        return bool(self.options.rehearse)

    def child(self, name: str, environment: dict[str, str] | None = None, **settings: Any) -> Figures:
        """Runs a function of `gpu_children` in a process of its own; returns its figures, or why there are none."""
        settings = {"data": self.options.data, "small": self.small, **settings}
        command = [sys.executable, gpu_children.__file__, name, json.dumps(settings)]
        code, lines = self.run(command, environment)
        for _, line in lines:
            if line.startswith(RESULT):
                found: Figures = json.loads(line.removeprefix(RESULT))
                return found
        last = next((line for _, line in reversed(lines) if line.strip()), "no output")
        return {"failed": "its time was over" if code is None else last[:200]}

    def run(self, command: list[str], environment: dict[str, str] | None = None) -> tuple[int | None, list[Any]]:
        """Runs a command; returns its exit code, None if its time was over, and its lines with the seconds of each."""
        began, lines = time.perf_counter(), []
        process = subprocess.Popen(
            command,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Its processes end with it, also those of a Ray of its own.
            start_new_session=True,
        )
        over = threading.Timer(max(1.0, self.ends - began), os.killpg, (process.pid, signal.SIGKILL))
        over.start()
        assert process.stdout
        for line in process.stdout:
            lines.append((time.perf_counter() - began, line.rstrip("\n")))
        code = process.wait()
        timed_out = not over.is_alive()
        over.cancel()
        return None if timed_out else code, lines

    def command(self, job: str, *settings: str, environment: dict[str, str] | None = None) -> Figures:
        """Runs a whole command of fmnist and returns its seconds in phases."""
        few = ("--limit", "400") if self.small else ()
        with tempfile.TemporaryDirectory() as artifacts:
            given = ["--data", self.options.data, "--artifacts", artifacts, "--run-id", "run", *few, *settings]
            code, lines = self.run([sys.executable, "-m", "fmnist", job, *given], environment)
            if code != 0:
                last = next((line for _, line in reversed(lines) if line.strip()), "no output")
                return {"failed": "its time was over" if code is None else last[:200]}
            metrics = json.loads(Path(artifacts, "run", "metrics.json").read_text())
        epochs = [at for at, line in lines if line.startswith("epoch ")]
        ray = next((at for at, line in lines if line.startswith("Ray: ")), None)
        figures: Figures = {"whole command, s": lines[-1][0], "until Ray is there, s": ray}
        if epochs:
            figures |= {
                "until the first epoch has ended, s": epochs[0],
                "later epochs and their checkpoints, s": epochs[-1] - epochs[0],
                "test, report, end, s": lines[-1][0] - epochs[-1],
            }
        seconds = metrics.get("seconds") or {}
        return figures | {f"metrics.json, {name}, s": value for name, value in seconds.items()}


def device(bench: Bench) -> Figures:
    return bench.child("device")


def rates(bench: Bench) -> Figures:
    """Images/s of the same training by each way; the ways of one framework share a process."""
    wanted = [(64, "float32"), (64, "bfloat16"), (512, "float32")]
    figures: Figures = {}
    for way in ("ours", "jax", "torch", "keras"):
        of_way = wanted if way != "keras" else [(64, "float32"), (512, "float32")]
        figures[way] = bench.child(way, runs=of_way)
    return figures


def graph(bench: Bench) -> Figures:
    """What a model that XLA cannot compile costs: the same engine as a graph."""
    return bench.child("ours", runs=[(64, "float32")], xla=False)


def extended(bench: Bench) -> Figures:
    """The best model of the space ``extended``, with its augmentation and batch size."""
    return {way: bench.child("extended", xla=way == "compiled") for way in ("compiled", "graph")}


def whole(bench: Bench) -> Figures:
    """``fmnist train`` the first time on a machine, with an empty cache, and the second."""
    with tempfile.TemporaryDirectory() as cache:
        settings = ("--epochs", "2" if bench.small else "30", "--patience", "0", *_gpus(bench, "worker", 1))
        # The images come from where they are.
        environment = {"FMNIST_CACHE": cache}
        return {time_: bench.command("train", *settings, environment=environment) for time_ in ("first", "second")}


def folds(bench: Bench) -> Figures:
    settings = ("--folds", "2", "--epochs", "1") if bench.small else ("--epochs", "30", "--patience", "0")
    return bench.command("crossval", *settings, *_gpus(bench, "fold", 0.1))


def hyperband(bench: Bench) -> Figures:
    settings = ("--max-epochs", "2", "--retrain-epochs", "1") if bench.small else ("--max-epochs", "10")
    return bench.command("tune", *settings, "--factor", "3", *_gpus(bench, "trial", 0.1))


def sharing(bench: Bench) -> Figures:
    """Images/s of all processes that share the GPU, while all of them train."""
    figures: Figures = {}
    for processes in (1, 2) if bench.small else (1, 2, 5, 10):
        # Children start together; only the time in which each trains counts.
        with ThreadPoolExecutor(processes) as pool:
            started = [pool.submit(bench.child, "spans", epochs=5 + 40 // processes) for _ in range(processes)]
        figures[f"{1 / processes:g} of a GPU"] = _together([one.result() for one in started])
    return figures


def _together(found: list[Figures]) -> Figures:
    if failed := [one["failed"] for one in found if "failed" in one]:
        return {"failed": failed[0]}
    begin = max(one["spans"][0][1] for one in found)
    end = min(one["spans"][-1][1] for one in found)
    if end <= begin:
        return {"failed": "the processes did not train at the same time"}
    images = sum(
        one["images"] * max(0.0, min(end, stop) - max(begin, start)) / (stop - start)
        for one in found
        for start, stop in one["spans"]
    )
    return {"images/s": images / (end - begin)}


def determinism(bench: Bench) -> Figures:
    """The cost of deterministic operations, and whether two processes then have the same losses."""
    first, second = (bench.child("ours", runs=[(64, "float32")], deterministic=True) for _ in range(2))
    return {"first": first, "second": second}


def features(bench: Bench) -> Figures:
    return bench.child("features")


def leads(bench: Bench) -> Figures:
    """The same training with other settings of XLA, to be kept or dropped."""
    buffers = "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUDNN,CONDITIONAL,WHILE,CUSTOM_CALL"
    variants = {
        "command buffers, WHILE included": f"{buffers} --xla_gpu_graph_min_graph_size=1",
        "no command buffers": "--xla_gpu_enable_command_buffer=",
        "no autotuning": "--xla_gpu_autotune_level=0",
    }
    if bench.small:
        # The flags of a GPU have no effect there; any is enough.
        variants = {"no autotuning": "--xla_gpu_autotune_level=0"}
    own = os.environ.get("XLA_FLAGS", "")
    return {
        name: bench.child("ours", {"XLA_FLAGS": f"{own} {flags}"}, runs=[(64, "float32")])
        for name, flags in variants.items()
    }


# In the order of their weight: what no time is left for is at the end.
STEPS = {
    "device": Step("the machine", 40, device),
    "rates": Step("images/s after the first epoch", 170, rates),
    "extended": Step("best model of the space extended, with augmentation", 80, extended),
    "whole": Step("fmnist train, lenet5, 30 epochs, the first and the second time", 110, whole),
    "folds": Step("10 folds of 30 epochs", 120, folds),
    "graph": Step("the engine without XLA", 40, graph),
    "determinism": Step("deterministic operations", 70, determinism),
    "features": Step("features of the pretrained networks", 90, features),
    "sharing": Step("several processes on one GPU", 150, sharing),
    "leads": Step("settings of XLA", 100, leads),
    "hyperband": Step("Hyperband of 10 epochs and factor 3, and the retraining", 220, hyperband),
}


def _gpus(bench: Bench, kind: str, share: float) -> tuple[str, ...]:
    return () if bench.small else (f"--gpus-per-{kind}", f"{share:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(STEPS), help="steps, with commas between")
    parser.add_argument("--seconds", type=float, default=465, help="for all steps together")
    parser.add_argument("--data", default=os.environ.get("FMNIST_DATA", "auto"), help="as fmnist's --data")
    parser.add_argument("--out", type=Path, default=Path("gpu-benchmark.json"))
    parser.add_argument("--rehearse", action="store_true", help="every step in small, on a CPU")
    options = parser.parse_args()
    began, bench, results = time.perf_counter(), Bench(options), {}
    for name, step in STEPS.items():
        if name not in options.only.split(",") and name != "device":
            continue
        left = began + options.seconds - time.perf_counter()
        step_began = time.perf_counter()
        if options.rehearse:
            left = step.limit * 20
        if left < min(step.limit, 30):
            results[name] = {"not run": "no time was left"}
        else:
            bench.ends = step_began + min(left, step.limit * (20 if options.rehearse else 1))
            results[name] = step.measure(bench)
        seconds = time.perf_counter() - step_began
        options.out.write_text(json.dumps({**results, "rehearsal": options.rehearse}, indent=1))
        print(f"\n{step.title} ({seconds:.0f} s)", flush=True)
        for line in shown(results[name]):
            print(f"  {line}", flush=True)
        if name == "device" and not options.rehearse and not results[name].get("GPU"):
            raise SystemExit("no GPU: TensorFlow finds none here; --rehearse runs every step in small on the CPU")
    print("\nratios of images/s" + (" (a rehearsal: they mean nothing)" if options.rehearse else ""))
    for line in ratios(results):
        print(f"  {line}")


def shown(figures: Figures, before: str = "") -> list[str]:
    """Returns a line for each figure of nested figures."""
    lines: list[str] = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += shown(value, f"{before}{name}, ")
        elif isinstance(value, float):
            lines.append(f"{before}{name}: {value:,.0f}" if value >= 1000 else f"{before}{name}: {value:.4g}")
        else:
            lines.append(f"{before}{name}: {value}")
    return lines


def ratios(results: Figures) -> list[str]:
    """Returns a line for each ratio whose two figures were measured."""

    def rate(*path: str) -> float | None:
        figures: Any = results
        for name in (*path, "images/s"):
            figures = figures.get(name, {}) if isinstance(figures, dict) else {}
        return figures if isinstance(figures, float) else None

    wanted = [
        (f"{setting}: ours / {peer}", rate("rates", "ours", setting), rate("rates", peer, setting))
        for setting in ("64 float32", "64 bfloat16", "512 float32")
        for peer in ("jax", "torch", "keras")
    ]
    plain = rate("rates", "ours", "64 float32")
    wanted += [
        ("64 float32: compiled / graph", plain, rate("graph", "64 float32")),
        ("extended: compiled / graph", rate("extended", "compiled"), rate("extended", "graph")),
        ("64 float32: deterministic / not", rate("determinism", "first", "64 float32"), plain),
    ]
    wanted += [
        (f"64 float32: {name} / as it is", rate("leads", name, "64 float32"), plain)
        for name in results.get("leads", {})
    ]
    return [f"{name}: {one / other:.2f}" for name, one, other in wanted if one and other]


if __name__ == "__main__":
    main()
