"""The course sets itself up: if a verb's imports are missing, make .venv beside the README and go on inside.

Only the standard library here. An environment that has what the verb needs (conda, Colab, a GPU image) is
used as it is; otherwise a file of requirements goes into .venv, which no system that guards its own Python
objects to. How they get there, and which build of torch, is in installer.py.
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
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from course.errors import CourseError
from course.machine import installer
from course.machine.files import write
from course.steps import ROOT

PYTHON_FLOOR = (3, 11)
TORCH_FLOOR = (2, 11)
GUARD = "COURSE_SETUP"  # how often this command has already gone on in .venv: never a third time
REQUIREMENTS = "requirements.txt"
# What verbs import, by import name; requirements.txt brings all of it, requirements-dev.txt what LINT adds.
CORE = ("torch", "numpy", "regex", "PIL", "safetensors", "tqdm", "psutil")
LESSON = (*CORE, "matplotlib", "jinja2")
LAB = (*LESSON, "jupyterlab", "ipykernel")
TESTS = (
    *(*LESSON, "pytest", "xdist", "nbclient", "nbformat", "ipykernel"),
    *("transformers", "tokenizers", "tiktoken", "selenium"),
)
LINT = ("ruff", "mypy", "codespell_lib", "markdown_it")


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


def missing(modules: Collection[str]) -> list[str]:
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
        version = torch_version() if name == "torch" and importlib.util.find_spec("torch") else None
        newer = f"torch {'.'.join(map(str, TORCH_FLOOR))} or newer (it has {'.'.join(map(str, version or ()))})"
        words.append(newer if version else name)
    return ", ".join(words)


# The environment beside the README --------------------------------------------------------------------------


class Venv:
    """`.venv` and what is known about it: a marker says whether an install of ours is under way or done, whether the
    course made the environment (so may remake it), which build of torch was chosen, and what each file of requirements
    said."""

    def __init__(self, root: Path = ROOT):
        self.root = root
        self.folder = root / ".venv"
        self.before = root / ".course" / "venv-before"  # while another build of torch is fetched
        self.lock = root / ".course" / "setup.lock"
        self.marker = self.folder / "course-setup.json"
        self.python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def state(self) -> dict:
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self.marker.read_text(encoding="utf-8"))
        return {}

    def installed(self) -> dict[str, str]:
        """{file of requirements: the hash of its text} as it was when it was installed."""
        said = self.state().get("requirements")
        files = said if isinstance(said, dict) else {REQUIREMENTS: ""} if said else {}  # a text: the course before
        return {name: text for name, text in files.items() if (self.root / name).exists()}

    def wanted(self, files: Iterable[str]) -> dict[str, str]:
        """The same for files as they are now."""
        return {name: hashlib.sha256((self.root / name).read_bytes()).hexdigest() for name in files}

    def mark(self, state: str, made: bool, torch: str, files: Iterable[str]) -> None:
        """Note how far an install of these files got."""
        said = {"state": state, "made": made, "torch": torch, "requirements": self.wanted(files)}
        write(self.marker, json.dumps(said))

    def torch(self) -> str | None:
        """The build of torch in it, "cpu" or "cuda", on Linux."""
        for found in self.folder.glob("lib/python*/site-packages/torch-*.dist-info"):
            return "cpu" if "+cpu" in found.name else "cuda"
        return None

    def is_current(self) -> bool:
        """Does this very process run in it?"""
        return self.folder.exists() and Path(sys.prefix).resolve() == self.folder.resolve()

    def works(self) -> bool:
        """Its Python starts (it does not once the Python it was made from is gone)."""
        with contextlib.suppress(OSError):
            return subprocess.run([self.python, "-c", ""], capture_output=True).returncode == 0
        return False

    def lacks(self, modules: Collection[str]) -> list[str]:
        """What its Python would say to `missing(modules)`."""
        code = (
            f"import sys; sys.path.insert(0, sys.argv[1]); from {__name__} import missing; "
            "print(*missing(sys.argv[2:]))"
        )
        done = subprocess.run([self.python, "-c", code, str(ROOT), *modules], capture_output=True, text=True)
        return done.stdout.split() if done.returncode == 0 else list(modules)


@contextlib.contextmanager
def alone(venv: Venv) -> Iterator[None]:
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


def ensure(
    modules: Collection[str], arguments: list[str], requirements: str = REQUIREMENTS, venv: Venv | None = None
) -> None:
    """Return if this Python has `modules`; else go on in .venv, made or mended, and do not return.

    `requirements` is the file that brings them.
    """
    rounds = int(os.environ.pop(GUARD, "0"))
    venv = venv or Venv()
    lacking = missing(modules)
    if not lacking and not (venv.is_current() and venv.state().get("state") == "installing"):
        return
    if rounds >= 2:
        raise SetupError(
            f"{venv.folder} was set up, but it still lacks {reasons(lacking)}. Remove that folder and try again; if "
            f"that does not help, look at what  {venv.python} -m pip install -r {venv.root / requirements}  says."
        )
    with alone(venv):
        prepare(venv, modules, lacking, requirements)
    go_on(venv, arguments, rounds + 1)


def prepare(venv: Venv, modules: Collection[str], lacking: list[str], requirements: str = REQUIREMENTS) -> None:
    """Make sure that .venv has `modules`: as it is, mended, or new."""
    torch = venv.state().get("torch", "auto")
    made = mend(venv)
    files = dict.fromkeys((REQUIREMENTS, *venv.installed(), requirements))
    if venv.folder.exists() and not venv.is_current() and not venv.lacks(modules):
        changed = [name for name, text in venv.installed().items() if venv.wanted([name])[name] != text]
        if changed:
            say(f"{' and '.join(changed)} has changed since .venv was set up; updating it.")
            try:
                install(venv, made, torch, files)
            except SetupError as error:
                # With today's texts: what is there will do, and is not tried again.
                venv.mark("done", made, torch, files)
                say(f"{error}\nGoing on with what is installed.")
        return
    say(f"This Python ({sys.executable}) lacks {reasons(lacking)}.")
    create(venv)
    install(venv, made, torch, files)


def set_up(torch: str | None = None, venv: Venv | None = None) -> None:
    """Make or update .venv now. `torch`, one of installer.BUILDS, is remembered; None keeps what was chosen before.

    Where another build of torch is there, .venv is made anew, because the libraries of CUDA would stay otherwise.
    """
    venv = venv or Venv()
    if torch == "cuda" and not installer.chooses():
        raise SetupError(
            "The set-up fetches the CUDA build on Linux only. For a GPU under Windows, put it into .venv as "
            "https://pytorch.org/get-started says; on macOS there is none."
        )
    with alone(venv):
        torch = torch or venv.state().get("torch", "auto")
        files = dict.fromkeys((*venv.installed(), REQUIREMENTS))
        made = mend(venv)
        there, gpu = venv.torch(), installer.sees_gpu()
        if there not in (None, installer.build(torch, gpu)):
            by = program(venv)
            if not by.settings:
                renew(venv, made, torch, files)
                return
            say(by.about(torch, gpu))
        create(venv)
        install(venv, made, torch, files)


def renew(venv: Venv, made: bool, torch: str, files: Iterable[str]) -> None:
    """Make .venv anew with another build of torch; what was there stays until that is done."""
    has = f"{venv.folder} has the {str(venv.torch()).upper()} build of torch"
    if venv.is_current():
        raise SetupError(f"{has}, and you are working in it: leave it (`deactivate`) and run the command again.")
    if not made:
        raise SetupError(f"{has}, and the course did not make it: remove it and run the command again.")
    say(f"{has}. It stays until the new environment is there.")
    shutil.rmtree(venv.before, ignore_errors=True)
    venv.folder.rename(venv.before)
    try:
        create(venv)
        install(venv, made, torch, files)
    except BaseException:
        shutil.rmtree(venv.folder, ignore_errors=True)
        venv.before.rename(venv.folder)
        raise
    shutil.rmtree(venv.before, ignore_errors=True)


def mend(venv: Venv) -> bool:
    """Remove an environment of ours that is half made or does not start. Did the course make, or may it make, .venv?"""
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
    return made


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
    """Make the environment, if it is not there, with what this Python has: venv, venv and an installer outside, or
    virtualenv."""
    if venv.folder.exists():
        return
    has = {name: importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip", "virtualenv")}
    if has["venv"] and has["ensurepip"]:
        command = ["venv", str(venv.folder)]
    elif has["venv"] and (pip_version() >= (22, 3) or shutil.which("uv")):
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


def program(venv: Venv) -> installer.Installer:
    """What installs into it. Raises SetupError where there is nothing."""
    found = installer.find(venv.python)
    if found is None:
        raise SetupError(f"{venv.folder} has no pip. Remove that folder and try again.")
    return found


def install(venv: Venv, made: bool, torch: str, files: Iterable[str]) -> None:
    """Install files of requirements in .venv, in full view; what went wrong becomes advice."""
    by, gpu = program(venv), installer.sees_gpu()
    if not venv.marker.exists():
        say(
            f"Setting up the course's own environment, once: {venv.folder}, from {' and '.join(files)}. That takes "
            f"about 3 to 10 minutes, and nothing outside that folder changes.\n{by.about(torch, gpu)}"
        )
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(venv.folder.parent).free / 1e9
            if free < installer.SIZES[installer.build(torch, gpu)][1]:
                say(f"Only {free:.1f} GB are free there.")
    venv.mark("installing", made, torch, files)
    named = [word for name in files for word in ("-r", str(venv.root / name))]
    command = [*by.command, *named, *by.options(torch, gpu)]
    say("  " + " ".join(command))
    # A `user = true` in somebody's pip configuration has no meaning inside an environment.
    environment = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    tail: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", env=environment) as process:
        try:
            for line in process.stderr or ():
                sys.stderr.write(line)
                tail = [*tail[-60:], line]
        except KeyboardInterrupt:
            process.terminate()
            raise SetupError("The set-up was interrupted. Run the same command to start it again.") from None
    if process.returncode:
        raise SetupError(f"The install into {venv.folder} failed. {explain(''.join(tail), venv)}")
    venv.mark("done", made, torch, files)
    say(f"Set up: {venv.folder}\n")


def explain(text: str, venv: Venv) -> str:
    """What a failed install means and what to do, from what pip or uv wrote."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if re.search(r"No space left|Errno 28|Disk quota|not enough space", text, re.I):
        return (
            f"The disk is full. Free some space (torch is large) where {venv.folder.parent} lies, or in the "
            "temporary folder (TMPDIR), and run the command again."
        )
    if re.search(r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerification|invalid peer certificate", text):
        return (
            "The package index's certificate was not accepted. Behind a company's proxy, point PIP_CERT (for uv: "
            "SSL_CERT_FILE) to its certificate bundle, and run the command again."
        )
    if re.search(
        r"name resolution|Failed to resolve|NameResolutionError|NewConnectionError|Network is unreachable"
        r"|ConnectTimeout|ReadTimeout|ProxyError|Connection refused|ConnectionReset|timed out|getaddrinfo"
        r"|No route to host|IncompleteRead|Connection broken|error sending request",
        text,
    ):
        return (
            "The package index cannot be reached. Check the network (and the proxy, if there is one: HTTPS_PROXY),"
            " and run the command again; what was fetched already is not fetched twice. Without a network, point "
            "PIP_FIND_LINKS to a folder of wheels and set PIP_NO_INDEX=1."
        )
    if re.search(r"Permission denied|[Ee]rr(no|or) 13|Read-only file system|[Ee]rr(no|or) 30", text):
        return f"{venv.folder.parent} may not be written. Copy the course to a folder of your own and try there."
    if found := re.search(
        r"No matching distribution found for (\S+)|Could not find a version that satisfies the requirement (\S+)"
        r"|there is no version of (\S+)|Because (\S+) was not found",
        text,
    ):
        return (
            f"There is no {next(filter(None, found.groups()))} for this Python {version} on this machine "
            f"({sys.platform}). The pins are for Python 3.11 to 3.13: run the command with such a Python, for "
            "example  python3.12 -m course run  after removing .venv."
        )
    if re.search(
        r"Failed (to build|building)|error: subprocess-exited-with-error|metadata-generation-failed|Failed to download "
        r"and build",
        text,
    ):
        return (
            f"A package had to be built here, because there is no ready wheel of it for Python {version}. The "
            "pins are for Python 3.11 to 3.13: run the command with such a Python after removing .venv."
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
