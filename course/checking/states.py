"""The state of every TODO of a file: from the record, or computed by the checks."""

from pathlib import Path
from typing import Any

from course import authoring, checking, steps
from course.checking.record import fingerprint, note, recall, remember


def verdicts(step: steps.StepName, path: Any = None) -> dict:
    """The state of each TODO of a step's exercise, or of the file at `path`.

    Returns {"todos": {todo: status}, "blocked": {todo: by which TODO}, "error": why the file cannot be imported, or
    ""}. A file that nobody has edited is "not started" all over, which needs no torch. Raises FileNotFoundError where
    the exercise or the checks are missing.
    """
    step = steps.find_step(step)
    own = path is None
    path = step.file("exercise") if own else Path(path)
    known: dict | None
    if not authoring.edited(path.read_text(encoding="utf-8", errors="replace")):
        known = {"todos": dict.fromkeys(step.todos, "not started"), "blocked": {}, "error": ""}
    else:
        key = fingerprint(step, path)
        known = recall(step, "verdicts", key)
        if known is None:
            known, certain = _computed(step, path)
            if certain:
                remember(step, "verdicts", key, known)
    if own:
        note(step, known["todos"])
    return known


def _computed(step, path) -> tuple[dict, bool]:
    """The verdict, and whether it would be the same again: not when somebody pressed Ctrl-C or the time was up."""
    module, raised, _ = checking.imported(step, path)
    if raised is not None:
        where = f", line {raised.line}" if raised.line else ""
        return {
            "todos": dict.fromkeys(step.todos, "raised"),
            "blocked": {},
            "error": f"{path.name}{where}: {raised.headline}",
        }, True
    findings = checking.check_step(step, module, diagnose=False)
    steps.forget(module)
    certain = not any(name in finding.error for finding in findings for name in ("KeyboardInterrupt", "TooSlow"))
    return {
        "todos": {finding.todo: finding.status for finding in findings},
        "blocked": {finding.todo: finding.blocked_by for finding in findings if finding.blocked_by},
        "error": "",
    }, certain
