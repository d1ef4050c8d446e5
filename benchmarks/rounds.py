"""What all benchmarks share: programs take turns on the same work, so that a busy machine slows them all alike."""

import contextlib
import os
import platform
import time
from collections.abc import Callable
from importlib import metadata


def best_seconds(programs: dict[str, Callable], rounds: int, clock=time.perf_counter) -> dict[str, float]:
    """The best wall-clock time of each program: every round runs all of them once, one after the other."""
    best = dict.fromkeys(programs, float("inf"))
    for _ in range(rounds):
        for name, program in programs.items():
            start = clock()
            program()
            best[name] = min(best[name], clock() - start)
    return best


def machine() -> str:
    """Processor, cores, Python, and how busy the machine is: what a figure is to be read with."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), name)
    load = f", load {os.getloadavg()[0]:.1f} before the start" if hasattr(os, "getloadavg") else ""
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}{load}"


def version(package: str) -> str | None:
    """The installed version of a peer; None without it."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return f"{package} {metadata.version(package)}"


def verdict(name: str, ratio: float, bound: float, smaller_is_better: bool = False) -> str:
    """One line: the ratio, what it should be, and whether it is."""
    good = ratio <= bound if smaller_is_better else ratio >= bound
    return f"{name}: {ratio:.2f}x (bound: {'at most' if smaller_is_better else 'at least'} {bound:g}x)  " + (
        "met" if good else "NOT MET"
    )
