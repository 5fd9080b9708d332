"""What a run costs besides training: a whole ``fmnist train`` of 30 epochs on all images, and ``fmnist --help``.

Run it on an otherwise idle machine: ``python benchmarks/overhead.py``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import psutil


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()

    helps = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "fmnist", "--help"], check=True, stdout=subprocess.DEVNULL)
        helps.append(time.perf_counter() - started)
    print(f"fmnist --help: {median(helps):.2f} s, median of {len(helps)}")

    with tempfile.TemporaryDirectory() as artifacts:
        command = ["fmnist", "train", "--artifacts", artifacts, "--run-id", "run", "--patience", "0"]
        command += ["--epochs", str(options.epochs)]
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL)
        peaks: dict[str, int] = {}
        watcher = threading.Thread(target=watch_memory, args=(process.pid, peaks), daemon=True)
        watcher.start()
        if process.wait():
            raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
        wall = time.perf_counter() - started
        metrics = json.loads(Path(artifacts, "run", "metrics.json").read_text())
    training = metrics["seconds"]["training"]
    print(f"{' '.join(command[:2])}, {metrics['epochs']} epochs: {wall:.1f} s wall, {training:.1f} s of it training")
    print(f"everything else: {wall - training:.1f} s, {(wall - training) / wall:.1%} of the wall time")
    print(f"test accuracy {metrics['test']['accuracy']:.4f}, {metrics['images_per_second']:,.0f} images/s")
    for name, peak in sorted(peaks.items()):
        print(f"peak memory of the {name}: {peak / 2**20:,.0f} MiB resident")


def watch_memory(driver: int, peaks: dict[str, int]) -> None:
    """Keeps the largest resident size seen of the driver and of its workers, until the driver ends."""
    while psutil.pid_exists(driver):
        try:
            family = [psutil.Process(driver), *psutil.Process(driver).children(recursive=True)]
            for process in family:
                title = " ".join(process.cmdline())
                name = "driver" if process.pid == driver else "worker" if "RayTrainWorker" in title else None
                if name:
                    peaks[name] = max(peaks.get(name, 0), process.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.2)


if __name__ == "__main__":
    main()
