"""What is done: the state of every TODO, computed by its check and remembered until the file changes.

The memory lies in `.course/` under the root, one small JSON file per step, keyed by a hash of everything the
verdict depends on. It may be deleted at any time; where it cannot be written, verdicts are computed anew.
"""

import ast
import hashlib
import json
import textwrap
import time
from pathlib import Path

from course import authoring, steps
from course.errors import CourseError

KEPT = 16  # verdicts (and hints) remembered per step: going back to an earlier version of a file costs nothing


def fingerprint(step, path=None) -> str:
    """A hash of an exercise's text and of all that judges it: the step's other files and the code of the
    checks.
    """
    step = steps.find_step(step)
    digest = hashlib.sha256()
    files = [Path(path) if path is not None else step.file("exercise")]
    files += [step.file(which) for which in ("solution", "checks", "mistakes", "stored")]
    for folder in ("checking", "authoring"):
        files += sorted((Path(__file__).parent / folder).glob("*.py"))
    for file in files:
        text = file.read_bytes() if file.is_file() else b"absent"
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def recall(step, kind: str, key: str) -> dict | None:
    """What `remember` kept under this key, or None."""
    value = _kept(step, kind).get(key)
    return value if isinstance(value, dict) else None


def remember(step, kind: str, key: str, value: dict) -> None:
    """Keep a JSON value for a step under a key; nothing happens where the folder cannot be written."""
    kept = {**_kept(step, kind), key: value}
    try:
        authoring.write(_memory(step, kind), json.dumps(dict(list(kept.items())[-KEPT:]), indent=1) + "\n")
    except OSError:
        pass


def _memory(step, kind) -> Path:
    step = steps.find_step(step)
    return step.root / ".course" / f"{step.name.replace('/', '_')}.{kind}.json"


def _kept(step, kind) -> dict:
    try:
        kept = json.loads(_memory(step, kind).read_text(encoding="utf-8"))
        return kept if isinstance(kept, dict) else {}
    except (OSError, ValueError):
        return {}


def next_hint(step, todo: str, again: bool = False) -> tuple[int, int, str]:
    """The next hint for a TODO that has not been told yet: (its number, how many there are, its text).

    After the last one, its number is one more and the text says where the solution is. `again` starts over.
    """
    step = steps.find_step(step)
    hints = next(check.hints for check in steps.load(step, "checks").CHECKS if check.id == todo)
    before = {} if again else recall(step, "hints", todo) or {}
    told = min(before.get("told", 0) + 1, len(hints) + 1)
    remember(step, "hints", todo, {"told": told})
    if told <= len(hints):
        return told, len(hints), hints[told - 1]
    if not step.file("solution").exists():
        return told, len(hints), "This copy of the course has no solution. Ask whoever teaches it."
    source = step.file("solution").read_text(encoding="utf-8")
    places = [
        f"{name}, line {function.first}"
        for name, function in authoring.functions(source).items()
        if function.todo == todo
    ]
    return told, len(hints), f"{step.name}/{step.file('solution').name}: {'; '.join(places)}"


def explain(step, todo: str) -> str:
    """After a pass: the learner's code, the solution's, and why the solution is as it is.

    Raises CourseError as long as the TODO does not pass: the solution would spoil it.
    """
    from course import checking

    step = steps.find_step(step)
    finding = checking.check_step(step, todos=[todo], diagnose=False)[0]
    note(step, {todo: finding.status})
    if not finding.passed:
        raise CourseError(
            f"{finding.id} is {finding.headline}; to see the solution now would spoil it. The explanation "
            f"comes after the pass, until then: python3 -m course hint {finding.id}"
        )
    lesson = checking.lesson(step)
    solution = lesson.source
    mine = step.file("exercise").read_text(encoding="utf-8")
    names = authoring.todo_functions(solution)[todo]
    parts = []
    if lesson.stored is not None:
        parts.append("yours (this copy of the course has no solution)\n\n" + _bodies(mine, names))
    elif all(authoring.same_function(mine, solution, name) for name in names):
        parts.append("Your code is the solution's, but for comments and layout.")
    else:
        parts += ["yours\n\n" + _bodies(mine, names), "the solution\n\n" + _bodies(solution, names)]
    parts.append(textwrap.fill(lesson.checks[todo].why, 100))
    return "\n\n".join(filter(None, parts))


def _bodies(source: str, names) -> str:
    """Functions without decorators and docstrings, one after the other."""
    lines, have, parts = authoring.split(source), authoring.functions(source), []
    for name in filter(have.get, names):  # who wrote `f = g` has no function to show
        node = have[name].node
        body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
        shown = [line for line in lines[body[0].lineno - 1 : have[name].last] if "### " not in line]
        parts.append(f"    {name}\n" + textwrap.indent(textwrap.dedent("".join(shown)), " " * 8).rstrip())
    return "\n".join(parts)


def note(step, states: dict[str, str]) -> None:
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


def verdicts(step, path=None) -> dict:
    """The state of each TODO of a step's exercise, or of the file at `path`.

    Returns {"todos": {todo: status}, "blocked": {todo: by which TODO}, "error": why the file cannot be imported, or
    ""}. A file that nobody has edited is "not started" all over, which needs no torch. Raises FileNotFoundError where
    the exercise or the checks are missing.
    """
    step = steps.find_step(step)
    own = path is None
    path = step.file("exercise") if own else Path(path)
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
    """The verdict, and whether it would be the same again: not when somebody pressed Ctrl-C or the time
    was up.
    """
    from course import checking  # torch comes with it

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


def status(which=None) -> dict[str, dict[str, str]]:
    """{step's name: {todo: status}} for all steps, or for `which`; a step whose files are missing has no
    entries.
    """
    found = {}
    for step in [steps.find_step(one) for one in which] if which else steps.STEPS:
        try:
            found[step.name] = verdicts(step)["todos"]
        except FileNotFoundError:
            found[step.name] = {}
    return found


def table(which=None) -> str:
    """The status as text: a line per step, one per TODO of the steps that are begun and not done, and what
    is next.
    """
    lines, following = [], None
    for step in [steps.find_step(one) for one in which] if which else steps.STEPS:
        try:
            verdict = verdicts(step)
        except FileNotFoundError as error:
            name = Path(error.filename or "a file").name
            lines.append(f"{step.short:<6} {step.title:<58} {name} is missing")
            following = following or ("python3 -m course build" if name == steps.FILES["exercise"] else step.short)
            continue
        todos = verdict["todos"]
        passed = sum(state == "passed" for state in todos.values())
        count = f"{passed} of {len(todos)}"
        lines.append(
            f"{step.short:<6} {step.title:<58} " + (count if passed else f"{count:<9}about {step.hours:g} hours")
        )
        if verdict["error"]:
            lines.append(f"         {verdict['error']}")
        if which or any(state != "not started" for state in todos.values()) and passed < len(todos):
            lines += [f"         {todo:<26} {_word(step, todo, verdict)}" for todo in todos]
        if following is None and passed < len(todos):
            todo = next(todo for todo, state in todos.items() if state not in ("passed", "blocked"))
            following = f"{step.short}.{todo}, about {max(5, round(60 * step.hours / len(todos), -1)):.0f} minutes"
    lines += ["", f"next: {following}" if following else "everything passes"]
    return "\n".join(lines)


def _word(step, todo: str, verdict: dict) -> str:
    """How the table names a TODO's state: done, started, untouched, blocked by another, or broken since."""
    state = verdict["todos"][todo]
    broken = (recall(step, "passes", todo) or {}).get("broken")
    if state == "passed":
        return "done"
    if state == "blocked":
        return f"blocked by {verdict['blocked'][todo]}"
    if broken:
        return f"broken since {broken}"
    if state == "not started" and authoring.untouched(step.file("exercise").read_text(encoding="utf-8"), todo):
        return "untouched"
    return "started"
