"""What is remembered of verdicts, so that none is computed twice.

It lies in `.course/` under the root, one small JSON file per step and kind, keyed by a hash of everything the verdict
depends on. It may be deleted at any time; where it cannot be written, verdicts are computed anew.
"""

import hashlib
import json
import time
from pathlib import Path

from course import authoring, steps
from course.machine.files import FileError, write

KEPT = 16  # verdicts (and hints) remembered per step: going back to an earlier version of a file costs nothing


def fingerprint(step: steps.StepName, path: Path | str | None = None) -> str:
    """A hash of an exercise's text and of all that judges it: the step's other files and the code of the checks."""
    step = steps.find_step(step)
    digest = hashlib.sha256()
    files = [Path(path) if path is not None else step.file("exercise")]
    files += [step.file(which) for which in ("solution", "checks", "mistakes", "stored")]
    for code in (__file__, authoring.__file__):
        files += sorted(Path(code).parent.glob("*.py"))
    for file in files:
        text = file.read_bytes() if file.is_file() else b"absent"
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def recall(step: steps.StepName, kind: str, key: str) -> dict | None:
    """What `remember` kept under this key, or None."""
    value = _kept(step, kind).get(key)
    return value if isinstance(value, dict) else None


def remember(step: steps.StepName, kind: str, key: str, value: dict) -> None:
    """Keep a JSON value for a step under a key; nothing happens where the folder cannot be written."""
    kept = {**_kept(step, kind), key: value}
    try:
        write(_memory(step, kind), json.dumps(dict(list(kept.items())[-KEPT:]), indent=1) + "\n")
    except FileError:
        pass


def _memory(step, kind) -> Path:
    step = steps.find_step(step)
    return step.root / ".course" / f"{step.slug}.{kind}.json"


def _kept(step, kind) -> dict:
    try:
        kept = json.loads(_memory(step, kind).read_text(encoding="utf-8"))
        return kept if isinstance(kept, dict) else {}
    except (OSError, ValueError):
        return {}


def note(step: steps.StepName, states: dict[str, str]) -> None:
    """Remember of TODOs that they pass, and since when one that has passed does not. One that is put back to the
    exercise's text is forgotten: it is not broken, it begins again."""
    now = time.strftime("%Y-%m-%d %H:%M")
    for todo, state in states.items():
        before = recall(step, "passes", todo) or {}
        if state == "passed":
            after = {"passed": before.get("passed") or now}
        elif before and state == "not started":
            after = {}
        elif before:
            after = {"passed": before.get("passed"), "broken": before.get("broken") or now}
        else:
            continue
        if after != before:
            remember(step, "passes", todo, after)
