"""Whose file is which: a folder per student, a flat folder, an LMS's zip, or one file.

Names are taken apart, contents are not looked at: nothing of a stranger's is parsed here, no link is
followed, no pipe waited for, no archive unpacked to disk. What cannot be graded becomes a submission with a
fault that says why.
"""

import os
import re
import stat
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from course.errors import CourseError
from course.grading.text import file_name, one_line

LARGEST = 2**20  # bytes of a submission
MEMBERS = 20_000  # files in an archive or a folder
DEEPEST = 6  # folders inside a student's folder
EXERCISE = "model_exercise"

# Canvas: lastnamefirstname[_LATE]_userid_submissionid_name[-attempt].py
CANVAS = re.compile(r"(?P<name>[^_]+?)_(?P<late>LATE_)?(?P<id>\d+)_(?P<number>\d+)_(?P<file>.+)", re.IGNORECASE)
# Moodle: "First Last_12345_assignsubmission_file[_]/name.py" as a folder, or the same as one name
MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)", re.IGNORECASE)
ATTEMPT = re.compile(r"-(\d{1,3})(?=\.[^.]+$|$)")


@dataclass
class Submission:
    """One student's file, not read yet. `read()` gives its bytes or raises Unfit."""

    student: str  # the name of its reports
    name: str  # as people read it
    file: str  # what it was called
    read: Callable[[], bytes] = field(repr=False)
    ids: tuple[str, ...] = ()  # what a gradebook may know the student by
    time: float = 0.0  # seconds since 1970; 0 where nobody knows
    late: bool = False  # the LMS said so
    order: tuple = ()  # of two by one student the larger counts
    notes: list[str] = field(default_factory=list)


class Unfit(Exception):
    """A submission that is no file to grade; the message says why."""


def found(path: Path | str, exclude: Path | str | None = None) -> list[Submission]:
    """The submissions in `path`, one per student, in the order of their names. `exclude` is a folder of ours.

    Raises CourseError where there are none.
    """
    path = Path(path)
    if path.is_dir():
        everything = _folder(path, Path(exclude).resolve() if exclude is not None else None)
    elif path.is_file() and zipfile.is_zipfile(path):
        everything = _archive(path)
    elif path.is_file():
        everything = [_one(path.name, [], lambda: read(path), path.stat().st_mtime)]
    elif path.exists():
        raise CourseError(f"{path} is neither a file nor a folder.")
    else:
        raise CourseError(f"There is no {path}. Give a folder of submissions, an archive from the LMS, or one file.")
    if not everything:
        raise CourseError(f"{path} holds no submissions: a folder per student, or their files, are looked for.")
    return _newest(everything)


def read(path: Path) -> bytes:
    """The bytes of a plain file. Raises Unfit for everything else."""
    flags = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    try:
        if path.is_symlink():
            raise Unfit("It is a link, which is not followed.")
        handle = os.open(path, flags)
    except OSError as error:
        raise Unfit(f"It cannot be read: {error.strerror or error}.") from None
    with open(handle, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Unfit("It is no file but a pipe, a device or a folder.")
        return _whole(file)


def _whole(file) -> bytes:
    parts, size = [], 0
    while part := file.read(2**16):
        size += len(part)
        if size > LARGEST:
            raise Unfit(f"It is larger than {LARGEST >> 20} MB, which no exercise is.")
        parts.append(part)
    data = b"".join(parts)
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06") or data[:2] == b"\x1f\x8b":
        raise Unfit("It is an archive: hand in the .py file itself.")
    if data[:1] == b"{" and b'"cells"' in data:
        raise Unfit("It is a notebook: hand in model_exercise.py.")
    if not data.strip():
        raise Unfit("It is empty.")
    return data


def _folder(path: Path, exclude) -> list[Submission]:
    found = []
    entries = [
        entry
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name)
        if not _ours(entry.name) and (exclude is None or Path(entry.path).resolve() != exclude)
    ]
    if len(entries) == 1 and entries[0].is_dir(follow_symlinks=False):
        inside = [entry for entry in os.scandir(entries[0].path) if not _ours(entry.name)]
        if _wraps(
            [entry.name for entry in inside if not entry.is_dir(follow_symlinks=False)],
            any(entry.is_dir(follow_symlinks=False) for entry in inside),
        ):
            return _folder(Path(entries[0].path), exclude)
    for entry in entries:
        place = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            files = [(place / name, name) for name in _inside(place)]
            found += _of_student(
                entry.name, [(name, lambda file=file: read(file), _time(file)) for file, name in files]
            )
        elif _candidate(entry.name):
            found.append(_one(entry.name, [], lambda place=place: read(place), _time(place)))
        if len(found) > MEMBERS:
            raise CourseError(f"{path} holds more than {MEMBERS} files: is it the right folder?")
    return found


def _inside(folder: Path, depth: int = 0) -> list[str]:
    """The names of the files in a student's folder, with the folders they lie in."""
    names: list[str] = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return names
    for entry in entries[:1000]:
        if _ours(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth < DEEPEST:
                names += [f"{entry.name}/{name}" for name in _inside(Path(entry.path), depth + 1)]
        else:
            names.append(entry.name)
    return names


def _time(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _archive(path: Path) -> list[Submission]:
    try:
        archive = zipfile.ZipFile(path)
        members = [member for member in archive.infolist() if not member.is_dir()]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CourseError(f"{path} is no archive that can be read: {error}") from None
    if len(members) > MEMBERS:
        raise CourseError(f"{path} holds more than {MEMBERS} files: is it the right archive?")
    parts = [member.filename.replace("\\", "/").strip("/").split("/") for member in members]
    if (
        parts
        and all(len(names) > 1 for names in parts)
        and len({names[0] for names in parts}) == 1
        and _wraps([names[1] for names in parts if len(names) == 2], any(len(names) > 2 for names in parts))
    ):
        parts = [names[1:] for names in parts]
    students: dict[str, list] = {}
    found = []
    for member, names in zip(members, parts):
        if any(_ours(name) for name in names):
            continue
        item = ("/".join(names[1:]), lambda member=member: _member(archive, member), _stamped(member))
        if len(names) > 1:
            students.setdefault(names[0], []).append(item)
        elif _candidate(names[0]):
            found.append(_one(names[0], [], *item[1:]))
    for name, items in students.items():
        found += _of_student(name, items)
    return found


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if stat.S_ISLNK(member.external_attr >> 16):
        raise Unfit("It is a link, which is not followed.")
    if member.flag_bits & 1:
        raise Unfit("It is encrypted.")
    if member.file_size > LARGEST:
        raise Unfit(f"It is larger than {LARGEST >> 20} MB, which no exercise is.")
    try:
        with zipfile.ZipFile(str(archive.filename)) as mine, mine.open(member) as file:  # two threads, two files
            return _whole(file)
    except Unfit:
        raise
    except Exception as error:  # a broken archive fails in many ways
        raise Unfit(f"It cannot be read from the archive: {one_line(str(error))}.") from None


def _stamped(member) -> float:
    try:
        return time.mktime((*member.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        return 0.0


def _wraps(files: list[str], folders: bool) -> bool:
    """Whether the only folder there is holds the class, and is not one student's: by the files directly in
    it."""
    if any(CANVAS.fullmatch(name) or MOODLE.fullmatch(name) for name in files):
        return True
    python = [name for name in files if name.lower().endswith(".py")]
    return (folders and not python) or (len(python) > 1 and f"{EXERCISE}.py" not in python)


def _ours(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "__pycache__", "Thumbs.db")


def _candidate(name: str) -> bool:
    return Path(name).suffix.lower() not in (".csv", ".json", ".html", ".md", ".pdf", ".png", ".xlsx", ".pyc")


def _of_student(folder: str, files) -> list[Submission]:
    """The files of a student's folder as submissions: those that are the exercise by name, or else Python
    files, or else what there is. An empty folder is a submission too, with a fault."""
    if not files:

        def nothing():
            raise Unfit("The folder holds no file.")

        return [_one("", [folder], nothing, 0.0)]
    for fits in (
        lambda name: EXERCISE in name.lower() and name.lower().endswith(".py"),
        lambda name: name.lower().endswith(".py"),
        lambda name: EXERCISE in name.lower(),
        _candidate,
        lambda name: True,
    ):
        chosen = [item for item in files if fits(item[0])]
        if chosen:
            return [_one(name, [folder], get, when) for name, get, when in chosen]
    raise AssertionError("the last rule takes everything")


def _one(name: str, folders, get, when: float) -> Submission:
    """A submission by the name of its file, or of the student's folder around it."""
    name = name[-300:]  # a name from an archive may be as long as it likes
    label = (folders[0] if folders else name)[:300]
    base = name.rpartition("/")[2]
    for pattern in (MOODLE, CANVAS):
        match = pattern.fullmatch(label)
        if match:
            said = match.groupdict()
            base = base if folders else said["file"]
            attempt = ATTEMPT.search(base)
            return Submission(
                file_name(f"{said['name']}_{said['id']}"),
                one_line(said["name"]),
                one_line(base or name),
                get,
                (said["id"], one_line(said["name"])),
                when,
                bool(said.get("late")),
                (int(said.get("number") or 0), int(attempt.group(1)) if attempt else 0, when, name),
            )
    student = label if folders else Path(label).stem
    attempt = ATTEMPT.search(base)
    return Submission(
        file_name(student),
        one_line(student),
        one_line(base or name),
        get,
        (one_line(student),),
        when,
        False,
        (when, 0, int(attempt.group(1)) if attempt else 0, name),
    )


def _newest(everything: list[Submission]) -> list[Submission]:
    """One per student, the newest; names that would be one file on some disk are told apart."""
    by_student: dict[tuple, list[Submission]] = {}
    for one in everything:
        by_student.setdefault((one.student, one.ids), []).append(one)
    found, taken = [], set()
    for several in sorted(by_student.values(), key=lambda several: several[0].student.casefold()):
        several.sort(key=lambda one: one.order)
        one = replace(several[-1], notes=[])
        if len(several) > 1:
            older = ", ".join(other.file for other in several[:-1][-3:])
            one.notes.append(f"{len(several)} files were handed in; {one.file} is the newest and counts, not {older}.")
        name, number = one.student, 1
        while one.student.casefold() in taken:
            number += 1
            one = replace(one, student=f"{name}-{number}")
        taken.add(one.student.casefold())
        found.append(one)
    return found
