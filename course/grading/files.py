"""Which files make up the course: what `release` and `gradescope` copy."""

import fnmatch
import os
import shutil
import subprocess
from pathlib import Path

from course.steps import ROOT

# Where there is no git to ask: what no copy should carry.
STRAY = (
    ".git",
    ".venv",
    ".course",
    "artifacts",
    "__pycache__",
    ".ipynb_checkpoints",
    ".pytest_cache",
    ".ruff_cache",
    "*.pyc",
    "*.egg-info",
    "*.backup-*.py",
)


def course_files(root: Path = ROOT) -> list[str]:
    """The course's files relative to its root: those that git knows, or those that are none of STRAY."""
    try:
        said = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=True
        ).stdout
        found = [name for name in said.decode().split("\0") if name]
        if found:
            return [name for name in found if (root / name).is_file()]
    except (OSError, subprocess.SubprocessError):
        pass
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not any(fnmatch.fnmatch(name, stray) for stray in STRAY)]
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in names
                  if not any(fnmatch.fnmatch(name, stray) for stray in STRAY)]
    return sorted(found)


def copy(names, to: Path, root: Path = ROOT) -> None:
    for name in names:
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)
        shutil.copymode(root / name, target)
