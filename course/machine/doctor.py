"""What is missing on this machine and how to mend it; what each preset needs and about how long it takes."""

import json
import os
import platform
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from course import steps
from course.errors import CourseError
from course.machine import compute, host, setup
from course.machine.files import write

MEASURED = Path(__file__).with_name("measured.json")  # preset -> what its run took, where, and the probe there
PROGRAMS = {  # what tests (a browser) and grading (confinement) run and pip does not bring: Debian's package, its names
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "chromium-driver": ("chromedriver",),
    "bubblewrap": ("bwrap",),
}
SPARE_MB = 1024  # memory or disk below which something is sure to go wrong


@dataclass
class Point:
    """One thing that was looked at. A remedy says what to do; `needed` that nothing works without it."""

    name: str
    says: str
    remedy: str = ""
    needed: bool = False


def examine(probing: bool = True) -> list[Point]:
    """Look at everything; with `probing`, also time a second of training for the estimates."""
    points = [python(), packages(), *devices(), memory(), disk(), writing(), *programs()]
    return points + (presets() if probing else [])


def python() -> Point:
    version = platform.python_version()
    old = sys.version_info < setup.PYTHON_FLOOR
    return Point(
        "Python",
        f"{version}, {sys.executable}",
        f"install Python {'.'.join(map(str, setup.PYTHON_FLOOR))} or newer" if old else "",
        old,
    )


def packages() -> Point:
    """The verbs that lack a package, and torch's age."""
    lacking = sorted(set(setup.missing((*setup.LAB, *setup.TESTS))))
    found = setup.torch_version()
    if found is not None and found[:2] < setup.TORCH_FLOOR:
        oldest = ".".join(map(str, setup.TORCH_FLOOR))
        return Point(
            "packages",
            f"torch {torch.__version__}",
            f"the course needs torch {oldest} or newer: pip install -r requirements.txt",
            needed=True,
        )
    if lacking:
        return Point(
            "packages",
            f"torch {torch.__version__}; not there: {', '.join(lacking)}",
            "the command that needs one installs it; all at once: pip install -r requirements.txt",
        )
    return Point("packages", f"torch {torch.__version__}; all there")


def devices() -> list[Point]:
    machine = compute.hardware()
    points = [Point("CPU", f"{machine['cpu']}, {machine['cores']} cores")]
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(i)
            points.append(Point(f"cuda:{i}", f"{card.name}, {card.total_memory / 2**30:.0f} GB"))
    elif shutil.which("nvidia-smi") and torch.version.cuda is None:
        points.append(
            Point(
                "GPU",
                "there is an NVIDIA driver, but this torch was built without CUDA",
                "for the GPU, in .venv: python3 -m course setup --torch cuda; elsewhere: https://pytorch.org/get-started",
            )
        )
    elif shutil.which("nvidia-smi"):
        points.append(
            Point(
                "GPU",
                "there is an NVIDIA driver, but torch finds no GPU",
                f"nvidia-smi should list one, and the driver must suit CUDA {torch.version.cuda}",
            )
        )
    elif torch.backends.mps.is_available():
        points.append(Point("mps", "an Apple GPU; used with --device mps"))
    else:
        points.append(Point("GPU", "none: the course runs on the CPU, at preset tiny"))
    return points


def memory() -> Point:
    free = host.available_mb()
    scarce = free < SPARE_MB
    return Point("memory", f"{free / 1024:.1f} GB free", "close other programs" if scarce else "", scarce)


def disk() -> Point:
    free = shutil.disk_usage(steps.ROOT).free / 2**20
    scarce = free < SPARE_MB
    return Point(
        "disk",
        f"{free / 1024:.1f} GB free beside the course",
        "make room, or keep artifacts elsewhere: python3 -m course run --out FOLDER" if scarce else "",
        scarce,
    )


def writing() -> Point:
    closed = [step.name for step in steps.ROOMS if step.folder.is_dir() and not os.access(step.folder, os.W_OK)]
    if not os.access(steps.ROOT, os.W_OK):
        closed.insert(0, str(steps.ROOT))
    return Point(
        "folders",
        f"no permission to write in {', '.join(closed)}" if closed else "can be written",
        "copy the course to a folder of your own, for example your home" if closed else "",
        bool(closed),
    )


def program(package: str) -> str | None:
    """The path of the program of one of PROGRAMS, if it is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS[package])), None)


def programs() -> list[Point]:
    """What the tests and grading need beside Python's packages. A copy for students has neither."""
    if not (steps.ROOT / "tests").is_dir():
        return []
    lacking = [package for package in PROGRAMS if not program(package)]
    names = ", ".join(PROGRAMS[package][0] for package in lacking)
    return [
        Point(
            "programs",
            f"for tests and grading: {f'not there: {names}' if lacking else 'all there'}",
            f"only for these two, on Debian: sudo apt-get install {' '.join(lacking)}" if lacking else "",
        )
    ]


def probe(seconds: float = 1.0) -> float:
    """Milliseconds for one small step of what training does: products, attention, and their gradients; the median."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 320, 32, generator=generator)
    weights = [torch.randn(128, 128, generator=generator).mul_(0.09).requires_grad_() for _ in range(12)]
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 4:
        start = time.perf_counter()
        y = F.scaled_dot_product_attention(x, x, x, is_causal=True).transpose(1, 2).flatten(2)
        for weight in weights:
            y = F.silu(y @ weight)
        y.square().mean().backward()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def presets() -> list[Point]:
    """What each preset took where it was measured, and what that means here."""
    try:
        measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [Point("presets", "measured.json is missing", "get it back, for example with git checkout")]
    points, speed = [], probe()
    for name, needs in (("smoke", "for tests"), ("tiny", "any CPU"), ("small", "one GPU"), ("base", "several GPUs")):
        if name not in measured:
            points.append(Point(name, f"{needs}; not measured"))
            continue
        one = measured[name]
        here = one["seconds"] * speed / one["probe_ms"] / 60
        remedy = ""
        if host.available_mb() < one["memory_mb"] * 1.2:
            remedy = f"it needs {one['memory_mb'] / 1024:.1f} GB of memory: close other programs"
        points.append(
            Point(
                name,
                f"{needs}; all six steps take about {max(1, round(here))} min here and "
                f"{one['memory_mb'] / 1024:.1f} GB (measured: {one['seconds'] / 60:.0f} min on {one['on']})",
                remedy,
            )
        )
    return points


def text(points: list[Point]) -> str:
    """A line per point, its remedy under it, and a last line that sums up."""
    lines = []
    for point in points:
        lines.append(f"{'!' if point.remedy else ' '} {point.name:<9} {point.says}")
        if point.remedy:
            lines.append(f"  {'':<9} to do: {point.remedy}")
    wrong = ", ".join(point.name for point in in_the_way(points))
    lines += ["", f"In the way: {wrong}." if wrong else "Nothing is in the way."]
    return "\n".join(lines)


def in_the_way(points: list[Point]) -> list[Point]:
    """What nothing works without."""
    return [point for point in points if point.remedy and point.needed]


def quietly() -> None:
    """For the first cell of a lesson: say only what is in the way."""
    for point in in_the_way(examine(probing=False)):
        print(f"{point.name}: {point.says}. To do: {point.remedy}.")


def keep(path: Path) -> None:
    """Write the figures of a run's report.json into MEASURED, with the probe's time on this machine, which must be the
    run's. Raises CourseError where the file is no such report.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        machine = report["hardware"]
        figures = {
            "seconds": round(report["seconds"]),
            "memory_mb": round(report["peak_memory_mb"]),
            "on": machine["gpu"] or f"{machine['cores']} {platform.machine()} cores",
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CourseError(f"{path} is no report of a run ({error!r}): artifacts/PRESET/report.json is one.") from None
    measured = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    measured[report["preset"]] = {**figures, "probe_ms": round(probe(5), 3)}
    write(MEASURED, json.dumps(measured, indent=1) + "\n")
