"""pip or uv: how packages get into .venv here, and which build of torch they bring.

On Linux torch comes in two builds. The CUDA build is fetched where an NVIDIA GPU is seen, the CPU build elsewhere,
unless somebody chose otherwise: with `setup --torch`, or by settings of pip or uv that say where packages come from.
On macOS and Windows there is nothing to choose. Only the standard library here.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

BUILDS = ("auto", "cpu", "cuda")  # of torch; auto: what the machine can use
SIZES = {"cpu": (0.4, 1.5), "cuda": (3, 5.3)}  # GB to download and on disk: all of requirements.txt, on Linux
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
SETTINGS = {  # what a user has set in one of these says where packages come from, or which torch
    "pip": ("index-url", "extra-index-url", "find-links", "no-index", "constraint"),
    "uv": (
        *("index", "default-index", "index-url", "extra-index-url", "find-links", "no-index"),
        *("constraint", "constraint-dependencies", "torch-backend"),
    ),
}


def chooses() -> bool:
    """Does torch come in more than one build here?"""
    return sys.platform.startswith("linux")


def sees_gpu() -> bool:
    """Does the driver list an NVIDIA GPU?"""
    return b"GPU 0" in said_by("nvidia-smi", "-L")


def build(torch: str, gpu: bool) -> str:
    """The build, "cpu" or "cuda", that `torch`, one of BUILDS, means on a machine with or without a GPU."""
    return torch if torch != "auto" else "cuda" if gpu else "cpu"


@dataclass(frozen=True)
class Installer:
    """pip or uv, for one environment."""

    name: str
    command: tuple[str, ...]  # up to and with "install"
    settings: tuple[str, ...] = ()  # the user's own that say where packages come from: they win

    def options(self, torch: str, gpu: bool) -> list[str]:
        """What brings that build of torch."""
        if not chooses() or self.settings:
            return []
        cpu = build(torch, gpu) == "cpu"
        if (
            self.name == "uv"
        ):  # its `auto` suits the driver; without a GPU it would not take CUDA, and PyPI's build does
            return ["--torch-backend", "cpu"] if cpu else ["--torch-backend", "auto"] if gpu else []
        return ["--extra-index-url", CPU_WHEELS] if cpu else []  # 2.13.0+cpu counts as newer than PyPI's 2.13.0

    def about(self, torch: str, gpu: bool) -> str:
        """Which build is about to be fetched, why, how large it is, and how to get the other."""
        cpu, cuda = ("about {} GB to download and {} GB on disk".format(*SIZES[kind]) for kind in ("cpu", "cuda"))
        if not chooses():
            return f"That is {cpu}, less where wheels are cached."
        if self.settings:
            return (
                f"Your settings of {self.name} ({', '.join(self.settings)}) say where packages come from, so they "
                f"decide on the build of torch: with the CPU build it is {cpu}, with the CUDA build {cuda}."
            )
        seen = f"{'An' if gpu else 'No'} NVIDIA GPU is seen here" if torch == "auto" else "You chose it"
        kind, size, other = ("CPU", cpu, "cuda") if build(torch, gpu) == "cpu" else ("CUDA", cuda, "cpu")
        return (
            f"{seen}, so torch comes in its {kind} build: {size} in all, less where wheels are cached. "
            f"For the other build:  python3 -m course setup --torch {other}"
        )


def find(python: Path) -> Installer | None:
    """What installs into the environment of `python`: uv, or the first pip that can; None where there is neither.

    Where pip has been told where packages come from, it is pip, since uv does not read its settings.
    """
    pips = (pip_of(one, python) for one in (str(python), sys.executable, base_python()))
    pip = next(filter(None, pips), None)
    uv = shutil.which("uv")
    if uv and not (pip and pip.settings) and b"--torch-backend" in said_by(uv, "pip", "install", "-h"):
        return Installer("uv", (uv, "pip", "install", "--python", str(python)), uv_settings())
    return pip


def said_by(*command: str) -> bytes:
    """What a program prints; nothing where it fails."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    return b""


def base_python() -> str:
    """The Python that the running environment was made from."""
    return getattr(sys, "_base_executable", None) or sys.executable


def pip_of(python: str, target: Path) -> Installer | None:
    """The pip of `python`, installing for `target`, and which of SETTINGS it has from its files and from the
    environment; None if there is no pip that can."""
    pip = (python, "-m", "pip", *([] if python == str(target) else ["--python", str(target)]))
    try:
        done = subprocess.run([*pip, "config", "list"], capture_output=True, text=True)
    except OSError:
        return None
    found = re.findall(r"^\S*\.([\w-]+)='(.+)'$", done.stdout, re.MULTILINE)
    told = dict.fromkeys(key for key, value in found if key in SETTINGS["pip"] and value not in ("0", "false"))
    return Installer("pip", (*pip, "install"), tuple(told)) if done.returncode == 0 else None


def uv_settings() -> tuple[str, ...]:
    """Which of SETTINGS uv has from its files and from the environment."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    files = [home / "uv" / "uv.toml", Path("/etc/xdg/uv/uv.toml"), Path("/etc/uv/uv.toml")]
    if named := os.environ.get("UV_CONFIG_FILE"):
        files = [Path(named)]
    told: set[str] = set()
    for file in files:
        with contextlib.suppress(OSError, ValueError):
            said = tomllib.loads(file.read_text(encoding="utf-8"))
            told |= {*said, *said.get("pip", {})}
    told |= {key for key in SETTINGS["uv"] if os.environ.get("UV_" + key.upper().replace("-", "_"))}
    return tuple(key for key in SETTINGS["uv"] if key in told)
