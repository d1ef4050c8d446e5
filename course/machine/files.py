"""Text and bytes written whole or not at all, and copies of what is about to be replaced. Standard library only."""

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from course.errors import CourseError


class FileError(CourseError):
    """A file or folder cannot be written, or is damaged; the message says what to do."""


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into sentences that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise FileError(
                f"There is no space left to write {path}. Nothing was changed there. Free some space, or (where the "
                "command has it) choose another place with --out, and run it again; a training goes on with --resume."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise FileError(
                f"{path} may not be written (no permission). Change its permissions, or choose another place with "
                "--out FOLDER where the command has it."
            ) from error
        raise FileError(f"{path} could not be written: {error}") from error


def fsync(path: Path) -> None:
    """Let `path` (a file or a folder) survive a power cut; Windows cannot sync folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """A new file to fill, which takes the place of `path` at the end: a reader sees the old one or the new one.

    It lies beside its place, with the old one's permissions; if filling it fails, it is removed and the old one stays.
    Raises FileError.
    """
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
            fsync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file, text as UTF-8 with its line ends as they are. Raises FileError."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def make_folder(path: Path) -> None:
    """Make a folder and see that it can be written: better said before an hour of training than after."""
    write(path / ".writable", "")
    (path / ".writable").unlink(missing_ok=True)


def backup(path: Path) -> Path:
    """Copy a file beside itself under a name with the time in it, and return that name. Raises FileError."""
    path = Path(path)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    copy, number = path.with_name(f"{path.stem}.backup-{stamp}{path.suffix}"), 1
    while copy.exists():
        number += 1
        copy = path.with_name(f"{path.stem}.backup-{stamp}-{number}{path.suffix}")
    write(copy, path.read_bytes())
    return copy
