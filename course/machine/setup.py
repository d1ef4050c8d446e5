"""The course sets itself up: if a verb's imports are missing, make .venv beside the README and go on inside.

Only the standard library here. An environment that has what the verb needs (conda, Colab, a GPU image) is
used as it is; otherwise requirements.txt goes into .venv, which no system that guards its own Python objects
to.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from course.errors import CourseError
from course.machine.files import write
from course.steps import ROOT

PYTHON_FLOOR = (3, 11)
TORCH_FLOOR = (2, 11)
GUARD = "COURSE_SETUP"  # how often this command has already gone on in .venv: never a third time
# What verbs import, by import name; requirements.txt brings all of it.
CORE = ("torch", "numpy", "regex", "PIL", "safetensors", "tqdm")
LESSON = (*CORE, "matplotlib")
LAB = (*LESSON, "jupyterlab", "ipykernel")
TESTS = (*LESSON, "pytest", "xdist", "nbclient", "nbformat", "ipykernel", "transformers", "tokenizers", "tiktoken")

CPU_WHEELS = "https://download.pytorch.org/whl/cpu"


class SetupError(CourseError):
    """The set-up cannot go on; the message says what to do."""


# What is there ----------------------------------------------------------------------------------------------


def torch_version() -> tuple[int, ...] | None:
    """(2, 13) for the torch that is installed here, without importing it."""
    try:
        numbers = re.match(r"(\d+)\.(\d+)", importlib.metadata.version("torch"))
    except importlib.metadata.PackageNotFoundError:
        return None  # importable without metadata (built in place): believe it
    return tuple(int(number) for number in numbers.groups()) if numbers else None


def missing(modules) -> list[str]:
    """Which of `modules` this Python lacks; a torch below the floor counts as missing."""
    importlib.invalidate_caches()
    lacking = [name for name in modules if importlib.util.find_spec(name) is None]
    if "torch" in modules and "torch" not in lacking and (torch_version() or TORCH_FLOOR) < TORCH_FLOOR:
        lacking.append("torch")
    return lacking


def reasons(lacking: list[str]) -> str:
    """The missing modules for a sentence; an old torch is said to be old."""
    words = []
    for name in lacking:
        version = torch_version() if name == "torch" else None
        old = version is not None and importlib.util.find_spec("torch") is not None
        words.append(
            f"torch {'.'.join(map(str, TORCH_FLOOR))} or newer (it has {'.'.join(map(str, version))})" if old else name
        )
    return ", ".join(words)


# The environment beside the README --------------------------------------------------------------------------


class Venv:
    """`.venv` and what is known about it: a marker says whether an install of ours is under way or done."""

    def __init__(self, root: Path = ROOT):
        self.folder = root / ".venv"
        self.requirements = root / "requirements.txt"
        self.lock = root / ".course" / "setup.lock"
        self.marker = self.folder / "course-setup.json"
        self.python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def state(self) -> dict:
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self.marker.read_text(encoding="utf-8"))
        return {}

    def wanted(self) -> str:
        return hashlib.sha256(self.requirements.read_bytes()).hexdigest()

    def mark(self, state: str, made: bool) -> None:
        """Note how far an install got, and whether the course made this environment (so may remake it)."""
        write(self.marker, json.dumps({"state": state, "made": made, "requirements": self.wanted()}))

    def is_current(self) -> bool:
        """Does this very process run in it?"""
        return self.folder.exists() and Path(sys.prefix).resolve() == self.folder.resolve()

    def works(self) -> bool:
        """Its Python starts (it does not once the Python it was made from is gone)."""
        with contextlib.suppress(OSError):
            return subprocess.run([self.python, "-c", ""], capture_output=True).returncode == 0
        return False

    def lacks(self, modules) -> list[str]:
        """What its Python would say to `missing(modules)`."""
        code = (
            f"import sys; sys.path.insert(0, sys.argv[1]); from {__name__} import missing; "
            "print(*missing(sys.argv[2:]))"
        )
        done = subprocess.run([self.python, "-c", code, str(ROOT), *modules], capture_output=True, text=True)
        return done.stdout.split() if done.returncode == 0 else list(modules)


@contextlib.contextmanager
def alone(venv: Venv):
    """One set-up at a time; the system lets go of the lock when its holder dies."""
    try:
        venv.lock.parent.mkdir(parents=True, exist_ok=True)
        file = open(venv.lock, "w")
    except OSError as error:
        raise SetupError(
            f"The course cannot write into its own folder {venv.folder.parent} ({error}). Copy it to "
            "where you may write, or install requirements.txt into your own environment."
        ) from error
    with file:
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("Another set-up is at work here; waiting for it ...")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def ensure(modules, arguments: list[str], venv: Venv | None = None) -> None:
    """Return if this Python has `modules`; else go on in .venv, made or mended, and do not return."""
    rounds = int(os.environ.pop(GUARD, "0"))
    venv = venv or Venv()
    lacking = missing(modules)
    if not lacking and not (venv.is_current() and venv.state().get("state") == "installing"):
        return
    if rounds >= 2:
        raise SetupError(
            f"{venv.folder} was set up, but it still lacks {reasons(lacking)}. Remove that folder and try "
            "again; if "
            f"that does not help, look at what  {venv.python} -m pip install -r {venv.requirements}  says."
        )
    with alone(venv):
        prepare(venv, modules, lacking)
    go_on(venv, arguments, rounds + 1)


def prepare(venv: Venv, modules, lacking: list[str]) -> None:
    """Make sure that .venv has `modules`: as it is, mended, or new."""
    state = venv.state()
    made = state.get("made", not venv.folder.exists())
    if state.get("state") == "installing" and (venv.is_current() or not made):
        raise SetupError(
            f"An earlier set-up of {venv.folder} was interrupted, and half of it may be there. Leave that "
            "environment (`deactivate`), remove the folder and run the command again."
        )
    if venv.folder.exists() and not venv.is_current():
        if state.get("state") == "installing":
            say(f"An earlier set-up of {venv.folder} was interrupted; making it anew.")
            remove(venv)
        elif not venv.works():
            if not made:
                raise SetupError(
                    f"{venv.folder} is not a working environment (its Python does not start) and the "
                    "course did not make it. Remove or rename it and try again."
                )
            say(f"{venv.folder} does not work any more (its Python is gone); making it anew.")
            remove(venv)
        elif not venv.lacks(modules):
            if state and state["requirements"] != venv.wanted():
                say("requirements.txt has changed since .venv was set up; updating it.")
                try:
                    install(venv, made)
                except SetupError as error:
                    venv.mark("done", made)  # with the hash of today: what is there will do, and is not tried again
                    say(f"{error}\nGoing on with what is installed.")
            return
    announce(venv, lacking)
    if not venv.folder.exists():
        create(venv)
    install(venv, made)


def announce(venv: Venv, lacking: list[str]) -> None:
    gpu = bool(shutil.which("nvidia-smi"))
    linux = sys.platform.startswith("linux")
    size = "about 3 GB to download and 7 GB on disk" if linux else "about 0.4 GB to download and 1.5 GB on disk"
    say(
        f"This Python ({sys.executable}) lacks {reasons(lacking)}.\n"
        f"Setting up the course's own environment, once: {venv.folder}, from {venv.requirements.name}.\n"
        f"That is {size}, less where wheels are cached or CPU-only, and takes about 3 to 10 minutes. "
        "Nothing outside "
        "that folder changes."
    )
    if linux and not gpu and not os.environ.get("PIP_EXTRA_INDEX_URL") and not os.environ.get("PIP_FIND_LINKS"):
        say(
            "No NVIDIA GPU is seen here. To fetch the CPU-only torch (0.4 GB in all), stop this and run it "
            "with "
            f"PIP_EXTRA_INDEX_URL={CPU_WHEELS} before the command."
        )
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(venv.folder.parent).free / 2**30
        if free < (7 if linux else 1.5):
            say(f"Only {free:.1f} GB are free there.")


def remove(venv: Venv) -> None:
    try:
        shutil.rmtree(venv.folder)
    except OSError as error:
        raise SetupError(f"{venv.folder} cannot be removed ({error}). Remove it by hand and try again.") from error


def pip_version() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in importlib.metadata.version("pip").split(".")[:2])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return (0,)


def create(venv: Venv) -> None:
    """Make the environment with what this Python has: venv, venv and the pip outside, or virtualenv."""
    has = {name: importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip", "virtualenv")}
    if has["venv"] and has["ensurepip"]:
        command = ["venv", str(venv.folder)]
    elif has["venv"] and pip_version() >= (22, 3):
        command = ["venv", "--without-pip", str(venv.folder)]
    elif has["virtualenv"]:
        command = ["virtualenv", str(venv.folder)]
    else:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SetupError(
            f"This Python ({sys.executable}) cannot make environments: its ensurepip is missing, as on "
            "Debian and "
            f"Ubuntu.\nInstall it with:  sudo apt install python{version}-venv   and run the command again.\n"
            "Without administrator's rights, use a Python of your own: conda, or `uv python install`."
        )
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(venv.folder, ignore_errors=True)
        raise SetupError(f"{venv.folder} could not be made. {explain(done.stdout + done.stderr, venv)}")


def base_python() -> str:
    """The Python that the running environment was made from."""
    return getattr(sys, "_base_executable", None) or sys.executable


def pip_of(venv: Venv, python: str) -> list[str] | None:
    """How to call the pip of `python` so that it installs into `venv`; None if it has none that can."""
    pip = [python, "-m", "pip"] + ([] if python == str(venv.python) else ["--python", str(venv.python)])
    return pip if subprocess.run([*pip, "--version"], capture_output=True).returncode == 0 else None


def install(venv: Venv, made: bool) -> None:
    """pip install -r requirements.txt in .venv, in full view; what went wrong becomes advice."""
    pip = next(
        filter(None, (pip_of(venv, python) for python in (str(venv.python), sys.executable, base_python()))), None
    )
    if pip is None:
        raise SetupError(f"{venv.folder} has no pip. Remove that folder and try again.")
    venv.mark("installing", made)
    command = [*pip, "install", "-r", str(venv.requirements)]
    say("  " + " ".join(command))
    # A `user = true` in somebody's pip configuration has no meaning inside an environment.
    environment = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    tail: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", env=environment) as process:
        try:
            for line in process.stderr:
                sys.stderr.write(line)
                tail = [*tail[-60:], line]
        except KeyboardInterrupt:
            process.terminate()
            raise SetupError("The set-up was interrupted. Run the same command to start it again.") from None
    if process.returncode:
        raise SetupError(f"The install into {venv.folder} failed. {explain(''.join(tail), venv)}")
    venv.mark("done", made)
    say(f"Set up: {venv.folder}\n")


def explain(text: str, venv: Venv) -> str:
    """What a failed install means and what to do, from what pip wrote."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if re.search(r"No space left|Errno 28|Disk quota|not enough space", text, re.I):
        return (
            f"The disk is full. Free some space (torch is large) where {venv.folder.parent} lies, or in the "
            "temporary folder (TMPDIR), and run the command again."
        )
    if re.search(r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerification", text):
        return (
            "The package index's certificate was not accepted. Behind a company's proxy, point PIP_CERT to "
            "its "
            "certificate bundle, and run the command again."
        )
    if re.search(
        r"name resolution|Failed to resolve|NameResolutionError|NewConnectionError|Network is unreachable"
        r"|ConnectTimeout|ReadTimeout|ProxyError|Connection refused|ConnectionReset|timed out|getaddrinfo"
        r"|No route to host|IncompleteRead|Connection broken",
        text,
    ):
        return (
            "The package index cannot be reached. Check the network (and the proxy, if there is one: "
            "HTTPS_PROXY),"
            " and run the command again; what was fetched already is not fetched twice. Without a network, "
            "point "
            "PIP_FIND_LINKS to a folder of wheels and set PIP_NO_INDEX=1."
        )
    if re.search(r"Permission denied|Errno 13|Read-only file system|Errno 30", text):
        return f"{venv.folder.parent} may not be written. Copy the course to a folder of your own and try there."
    if found := re.search(
        r"No matching distribution found for (\S+)|Could not find a version that satisfies the "
        r"requirement (\S+)",
        text,
    ):
        return (
            f"There is no {found.group(1) or found.group(2)} for this Python {version} on this machine "
            f"({sys.platform}). The pins are for Python 3.10 to 3.13: run the command with such a Python, "
            "for "
            "example  python3.12 -m course run  after removing .venv."
        )
    if re.search(r"Failed (to build|building)|error: subprocess-exited-with-error|metadata-generation-failed", text):
        return (
            f"A package had to be built here, because there is no ready wheel of it for Python {version}. "
            "The "
            "pins are for Python 3.10 to 3.13: run the command with such a Python after removing .venv."
        )
    if re.search(r"MemoryError|Killed", text):
        return "There was not enough memory. Close other programs, or set PIP_NO_CACHE_DIR=1, and run it again."
    last = [line for line in text.strip().splitlines() if line.strip()]
    return f"It said: {last[-1].strip() if last else 'nothing'}. Mend that, and run the command again."


def go_on(venv: Venv, arguments: list[str], rounds: int) -> None:
    """Continue the same command in .venv's Python; never returns."""
    environment = {**os.environ, GUARD: str(rounds)}
    environment.pop("__PYVENV_LAUNCHER__", None)  # macOS: else the environment takes itself for its parent
    command = [str(venv.python), str(ROOT / "course" / "__main__.py"), *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":
        sys.exit(subprocess.call(command, env=environment))
    os.execve(command[0], command, environment)
