"""Which files make up the course: what `release` and `gradescope` copy."""

import fnmatch
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from course import steps
from course.steps import Step

# Where there is no git to ask: what belongs to the course, and what in it does not. Whatever else lies beside
# it (submissions, grades) must not travel to students.
OURS = ("course", "tests", "benchmarks", "docs", ".ci", ".devcontainer")
FILES = ("README.md", "LICENSE", "CHANGELOG.md", "requirements.txt", "pyproject.toml", ".gitignore", ".gitattributes")
STRAY = ("__pycache__", ".ipynb_checkpoints", "*.pyc", "*.backup-*.py")


def course_files(root: Path = steps.ROOT, chosen: Iterable[Step] = steps.ROOMS) -> list[str]:
    """The course's files relative to its root."""
    try:
        command = ["git", "-C", str(root), "ls-files", "-z"]
        said = subprocess.run(command, capture_output=True, check=True).stdout
        found = [name for name in said.decode().split("\0") if name]
        if found:
            return [name for name in found if (root / name).is_file()]
    except (OSError, subprocess.SubprocessError):
        pass
    found = [name for name in FILES if (root / name).is_file()]
    for top in (*OURS, *(step.name for step in chosen)):
        for folder, folders, names in os.walk(root / top):
            folders[:] = [name for name in folders if not _stray(name)]
            found += [(Path(folder) / name).relative_to(root).as_posix() for name in names if not _stray(name)]
    return sorted(found)


def _stray(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in STRAY)


def copy(names: Iterable[str], to: Path, root: Path = steps.ROOT) -> None:
    for name in names:
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)
        shutil.copymode(root / name, target)
