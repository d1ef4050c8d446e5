"""How well a stranger's code can be confined here: found out by trying, and said in every report.

3   bubblewrap, namespaces, Landlock and seccomp
2   seccomp, and Landlock or bubblewrap
1   a process of its own with resource limits: against accidents, not against malice
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from course.errors import CourseError
from course.grading import probe as trial

NOBODY = 65534
SYSTEM = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")
BUBBLEWRAP = """--unshare-user-try --unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try
    --die-with-parent --new-session --clearenv --proc /proc --dev /dev --tmpfs /tmp"""
SAYS = {
    3: "level 3: bubblewrap, namespaces, Landlock, seccomp and resource limits",
    2: "level 2: seccomp, resource limits and {}",
    1: "level 1: a process of its own with resource limits, which stop accidents and not malice",
}


@dataclass
class Level:
    """What holds for the processes of submissions on this machine."""

    number: int
    says: str
    sandbox: bool = False  # bubblewrap
    namespaces: bool = False  # a process table of its own per submission
    landlock: bool = False
    seccomp: bool = False
    user: int | None = None  # whom the zygote runs as, where that is somebody else
    readable: tuple[str, ...] = ()
    trusted: bool = False  # the instructor said that the submissions are trusted
    why: str = ""  # why the level is no higher


def readable_roots() -> tuple[str, ...]:
    """What a child needs to read: Python, its packages, the system's libraries. As real paths."""
    roots = [path for path in SYSTEM if os.path.exists(path)]
    base = os.path.realpath(sys.base_prefix)
    if base in ("/usr", "/usr/local"):
        roots.append(sysconfig.get_path("stdlib"))
    else:
        roots.append(base)
    if os.path.realpath(sys.prefix) != base:
        roots.append(sys.prefix)
    roots += [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    real = list(dict.fromkeys(os.path.realpath(path) for path in roots if os.path.exists(path)))
    return tuple(path for path in real if not any(path != other and Path(path).is_relative_to(other) for other in real))


def python() -> str:
    """The interpreter's path with the folders above it resolved: a virtual environment is known by its own
    name."""
    folder, name = os.path.split(sys.executable)
    return os.path.join(os.path.realpath(folder), name)


def environment(stage: Path, level: Level) -> dict[str, str]:
    """All of it: nothing of the instructor's environment is handed on."""
    home = "/tmp" if level.sandbox else str(stage / "home")
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": home,
    }


def command(stage: Path, level: Level, module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of the stage, in bubblewrap where the level has it."""
    # no -I: it would ignore PYTHONHASHSEED, and with it one seed would not give one grade
    start = f"import runpy, sys; sys.path[0] = {str(stage)!r}; runpy.run_module({module!r}, None, '__main__')"
    inner = [python(), "-s", "-c", start, *arguments]
    if not level.sandbox:
        return inner
    outer = [shutil.which("bwrap") or "bwrap", *BUBBLEWRAP.split()]
    for name, value in environment(stage, level).items():
        outer += ["--setenv", name, value]
    for path in ("/lib", "/lib32", "/lib64"):
        if os.path.islink(path):
            outer += ["--symlink", os.readlink(path), path]
    for path in (*_interpreters(level.readable), *level.readable, str(stage)):
        outer += ["--ro-bind", path, path]
    return [*outer, "--chdir", "/", "--", *inner]


def _interpreters(readable) -> list[str]:
    """The Python that is started and those that it is a link to, as far as they lie outside of what is
    readable."""
    paths = [python()]
    while os.path.islink(paths[-1]) and len(paths) < 20:
        paths.append(os.path.normpath(os.path.join(os.path.dirname(paths[-1]), os.readlink(paths[-1]))))
    return [
        path
        for path in paths
        if not any(Path(os.path.realpath(os.path.dirname(path))).is_relative_to(root) for root in readable)
    ]


def probe(stage: Path, trusted: bool = False, highest: int = 3) -> Level:
    """The level of this machine. Raises CourseError where it is below 2, unless the submissions are trusted.

    `highest` leaves out what a higher level would need, for tests.
    """
    if not hasattr(os, "fork"):
        raise CourseError(
            "Grading needs fork, which this system does not have: use Linux (WSL 2 on Windows), or a container."
        )
    level, why = _probed(stage, highest)
    level.why = why
    if level.number < 2 and not trusted:
        raise CourseError(
            f"Submissions would run at {level.says}.\n{why}\nIf you trust whoever wrote them, say "
            "--trust-submissions; every report will carry that."
        )
    if level.number < 2:
        level.trusted, level.says = True, f"{level.says}; --trust-submissions was given"
    return level


def _probed(stage: Path, highest: int) -> tuple[Level, str]:
    readable, reasons = readable_roots(), []
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    attempts = [Level(3, "", sandbox=True)] if highest >= 3 else []
    attempts += [Level(2, "", user=NOBODY)] if root else []
    attempts += [Level(2, "")]
    if highest < 2:
        attempts, reasons = [], ["Level 1 was asked for."]
    for attempt in attempts:
        attempt.readable = readable
        if attempt.sandbox and not shutil.which("bwrap"):
            reasons.append("bubblewrap is not installed (apt-get install bubblewrap).")
            continue
        said, error = _tried(stage, attempt)
        if said is None:
            if attempt.user is None or not reasons:
                reasons.append(f"{'bubblewrap' if attempt.sandbox else 'the process'} does not start here: {error}")
            continue
        attempt.landlock, attempt.seccomp, attempt.namespaces = (said[k] for k in ("landlock", "seccomp", "namespaces"))
        if attempt.sandbox and not said["hidden"]:
            reasons.append("bubblewrap hides no files here.")
            continue
        if attempt.sandbox and attempt.landlock and attempt.seccomp and attempt.namespaces:
            attempt.says = SAYS[3]
            return attempt, ""
        if attempt.seccomp and (attempt.landlock or attempt.sandbox):
            attempt.number = 2
            what = " and ".join(
                name for name, there in (("Landlock", attempt.landlock), ("bubblewrap", attempt.sandbox)) if there
            )
            attempt.says = SAYS[2].format(what)
            return attempt, " ".join(reasons)
        reasons.append("The kernel offers no seccomp." if not attempt.seccomp else "The kernel offers no Landlock.")
    lowest = Level(1, SAYS[1], user=NOBODY if root else None, readable=readable)
    if root and _tried(stage, lowest)[0] is None:
        lowest.user = None
    return lowest, " ".join(dict.fromkeys(reasons))


def _tried(stage: Path, level: Level) -> tuple[dict | None, str]:
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        os.chmod(folder, 0o777)
        secret = Path(folder) / "secret"
        secret.write_text("secret")
        arguments = json.dumps([level.readable, str(secret), folder])
        try:
            done = subprocess.run(
                command(stage, level, trial.__name__, arguments),
                env=environment(stage, level),
                capture_output=True,
                text=True,
                timeout=30,
                **as_user(level),
            )
            return json.loads(done.stdout), ""
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            said = done.stderr.strip().splitlines()[-1:] if "done" in locals() else []
            return None, (said or [str(error)])[0][:200]


def as_user(level: Level) -> dict:
    return {} if level.user is None else {"user": level.user, "group": level.user, "extra_groups": []}
