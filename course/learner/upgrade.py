"""A learner's file and a new version of the course: what they wrote moves into the newly generated exercise."""

import ast
import difflib
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from course import steps
from course.authoring.exercise import edited
from course.authoring.source import before_definitions, functions, split, todo_functions, transplant, unwritten
from course.errors import CourseError
from course.learner.exercise import pristine
from course.machine.files import backup, write

OURS, THEIRS, END = "<<<<<<<", "=======", ">>>>>>>"
BASE = "|||||||"  # git's conflict style diff3 shows the common ancestor too


@dataclass
class Upgrade:
    """What became of one step's exercise."""

    step: str
    says: str
    notes: list[str] = field(default_factory=list)
    diff: str = ""
    kept: Path | None = None  # the backup


def upgrade(which: Iterable[steps.StepName] | None = None, pull: bool = True) -> list[Upgrade]:
    """Bring every exercise (or those of `which`) to what this version of the course generates, with the learner's code.

    With `pull`, a newer version that git has fetched is merged first, also where git itself refused because exercises
    are edited. Whatever is replaced lies in a backup beside it. Raises CourseError, and changes nothing, where a file
    cannot be read as Python.
    """
    chosen = [steps.find_step(one) for one in which] if which else list(steps.ROOMS)
    mine = {step: _text(step.file("exercise")) for step in chosen}
    for step, text in mine.items():  # all of them are readable, or none is touched
        if text is not None and edited(text):
            _parsed(resolved(text), step.file("exercise"))
    if pull:
        _merge(chosen, mine)
    return [_one(step, mine[step]) for step in chosen]


def _text(path: Path) -> str | None:
    return path.read_bytes().decode("utf-8", errors="replace") if path.exists() else None


def _statements(text: str) -> list[str] | None:
    """The top-level statements in no order; None for what is no Python (a conflict, say)."""
    try:
        return sorted(ast.dump(node) for node in ast.parse(text).body)
    except SyntaxError:
        return None


def _parsed(text: str, path: Path) -> None:
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise CourseError(
            f"{path.parent.name}/{path.name}, line {error.lineno}: {error.msg}. Mend that line, then "
            "upgrade again; nothing was changed."
        ) from None


def resolved(text: str) -> str:
    """A file in which git left conflicts, as the learner had it.

    Theirs is the first side of a merge and the second of a stash or a rebase: it is the one with more TODOs written.
    """
    first, second = _side(text, OURS), _side(text, THEIRS)
    left = [side.count('raise NotImplementedError("TODO ') for side in (first, second)]
    if left[0] != left[1]:
        return first if left[0] < left[1] else second
    return second if f"{OURS} Updated upstream" in text else first


def _side(text: str, wanted: str) -> str:
    out, side = [], None
    for line in split(text):
        mark = line[:7]
        if mark == OURS:
            side = OURS
        elif side and mark in (BASE, THEIRS):
            side = mark
        elif side and mark == END:
            side = None
        elif side in (None, wanted):
            out.append(line)
    return "".join(out)


def _one(step, mine: str | None) -> Upgrade:
    path = step.file("exercise")
    new = pristine(step)
    there = _text(path)
    if mine is None or not edited(mine):
        if there != new:
            write(path, new)
        return Upgrade(step.name, "up to date" if there == new else "written anew; nothing of yours was in it")
    text, notes = carry(resolved(mine), new)
    if mine == there and _statements(text) == _statements(mine):
        return Upgrade(step.name, "up to date, with your code in it")
    diff = "".join(difflib.unified_diff(split(mine), split(text), "yours", "upgraded", n=1))
    write(path, mine)  # git may have put another text there meanwhile: the backup is of what the learner had
    kept = backup(path)
    write(path, text)
    return Upgrade(step.name, f"upgraded; what you had lies in {kept.name}", notes, diff, kept)


def carry(mine: str, new: str) -> tuple[str, list[str]]:
    """A learner's file `mine` moved into a newly generated exercise `new`: (the text, what to look at).

    Every TODO that is written in `mine` comes along, and so do functions, methods, classes, imports and constants that
    `new` does not have. Code that the course gives is the new version's.
    """
    have, fresh, notes = functions(mine), functions(new), []
    waiting = {f.name for todo in todo_functions(mine) for f in unwritten(mine, todo)}
    owned = {name for names in todo_functions(new).values() for name in names}
    given = {name for name in have if name.startswith("test_") or name == "_check"}
    written = [name for name in fresh if name in owned and name in have and name not in waiting]
    classes = {node.name for node in ast.parse(new).body if isinstance(node, ast.ClassDef)}
    methods = [name for name in have if "." in name and name not in fresh and name.partition(".")[0] in classes]
    notes += [
        f"{name}: not a function in your file, so it begins again; yours is in the backup"
        for name in owned - have.keys()
    ]
    for name in written:
        if _parameters(have[name]) != _parameters(fresh[name]):
            notes.append(
                f"{name}: its parameters are ({_parameters(fresh[name])}) now; yours are ({_parameters(have[name])})"
            )
    for name in have:
        if (
            name in fresh
            and name not in owned
            and name not in given
            and ast.dump(have[name].node) != ast.dump(fresh[name].node)
        ):
            notes.append(f"{name}: given code, and not what the new version gives; the new one is in the file")
        if name not in fresh and have[name].todo:
            notes.append(f"{name}: there is no TODO {have[name].todo} with this name any more; it is kept")
    text = transplant(new, mine, written + methods)
    return _with_extras(text, mine, given), notes


def _parameters(function) -> str:
    return ast.unparse(function.node.args)


def _with_extras(text: str, mine: str, given: set[str]) -> str:
    """`text` with what `mine` has at its top level and it lacks: imports after the imports, the rest before the first
    definition.
    """
    body = ast.parse(text).body
    known = {ast.dump(node) for node in body} | {name for node in body for name in _names(node)}
    lines = split(mine)
    extra: list[str] = []
    imports: list[str] = []
    for node in ast.parse(mine).body:
        names = _names(node)
        if ast.dump(node) in known or (names and names <= known) or names & given or isinstance(node, ast.Expr):
            continue
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        found = "".join(lines[first - 1 : node.end_lineno]).rstrip() + "\n"
        (imports if isinstance(node, (ast.Import, ast.ImportFrom)) else extra).append(found)
    if imports:
        there = [node.end_lineno or 0 for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
        out = split(text)
        out[max(there, default=0) : max(there, default=0)] = imports
        text = "".join(out)
    return before_definitions(text, "\n".join(extra) + "\n\n") if extra else text


def _names(node) -> set[str]:
    """What a top-level statement defines: for imports the names as they are used."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)


def _merge(chosen, mine) -> None:
    """Take in what git has fetched and could not merge over edited exercises; they are put aside for it.

    If git refuses all the same (other files are edited), the exercises are put back and git's own words are raised.
    """
    root = chosen[0].root
    try:
        behind = _git(root, "rev-list", "--count", "HEAD..@{upstream}")
    except FileNotFoundError:  # no git: a copy, or a zip that was unpacked over the old one
        return
    if behind.returncode or behind.stdout.strip() in ("", "0"):
        return
    aside = {step.file("exercise"): mine[step] for step in chosen if mine[step] is not None}
    _git(root, "checkout", "--", *(str(path.relative_to(root)) for path in aside))
    merged = _git(root, "merge", "--ff-only", "@{upstream}")
    if merged.returncode:
        for path, text in aside.items():
            write(path, text)
        raise CourseError(
            "git did not take in the new version; your exercises are as they were. It says:\n"
            + (merged.stderr or merged.stdout).strip()
        )


def report(found: list[Upgrade]) -> str:
    """What `python3 -m course upgrade` prints."""
    lines = []
    for one in found:
        lines.append(f"{one.step}: {one.says}")
        lines += [f"  look at  {note}" for note in one.notes]
        lines += [f"  {line}" for line in one.diff.splitlines()]
    return "\n".join(lines)
