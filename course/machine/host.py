"""The machine as its system tells it: processor, cores, memory. No torch here, so it is quick to ask."""

import contextlib
import platform
from pathlib import Path

import psutil


def processor() -> str:
    """The processor's name: psutil does not know it, and Python's own answer on Linux is only "x86_64"."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """How many processor cores this process may use."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return len(process.cpu_affinity())
    return psutil.cpu_count() or 1


def memory_mb() -> float:
    """Physical memory, in MB."""
    return round(psutil.virtual_memory().total / 2**20)


def available_mb() -> float:
    """Memory that programs can get now without swapping, in MB."""
    return psutil.virtual_memory().available / 2**20


def peak_memory_mb() -> float:
    """The most memory this process has held so far, in MB of RAM.

    psutil knows it on Windows only. Linux: VmHWM, not getrusage, whose maximum a child inherits from the process that
    started it.
    """
    if psutil.WINDOWS:
        return psutil.Process().memory_info().peak_wset / 2**20
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if psutil.MACOS else peak / 1024
