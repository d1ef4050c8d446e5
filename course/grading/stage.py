"""The folder that a submission's process is made of: what it takes to call a stranger's functions, and
nothing that judges them.

Of a step's checks.py it holds the calls with the helpers they use, and no cases, judges or hints; of the
course the modules that run a call and describe its value. The solution, the mistakes and the rest of the
repository stay out.
"""

import ast
import shutil
from collections.abc import Iterable
from pathlib import Path

from course import checking, errors, steps
from course.authoring import source
from course.authoring.source import todo_functions
from course.checking import calling, helpers, judging, manners, parts, pretend, standin, values, wire
from course.checking.lessons import Lesson
from course.grading import child, confine, probe, tampering, zygote
from course.steps import Step

# The modules that such a folder holds. They are named as modules and not as paths, so that none can be moved away and
# be missing, or be left behind here under its old name.
RUNS_A_CALL = (checking, calling, helpers, judging, manners, parts, pretend, standin, values, wire)
CONFINES = (child, confine, probe, tampering, zygote)
COPIED = (errors, steps, source, *RUNS_A_CALL, *CONFINES)
PACKAGES = ("course", source.__package__, child.__package__)  # whose __init__.py stays empty there


def build(lesson: Lesson, folder: Path) -> None:
    """Fill an empty folder, for anybody to read."""
    folder.chmod(0o755)
    (folder / "home").mkdir()  # where a zygote without bubblewrap may write, before there are submissions
    (folder / "home").chmod(0o777)
    for module in COPIED:
        file = Path(str(module.__file__))
        target = folder / file.relative_to(steps.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    for package in PACKAGES:
        (folder / Path(*package.split(".")) / "__init__.py").write_text("")
    checks = lesson.step.file("checks").read_text(encoding="utf-8")
    (folder / "calls.py").write_text(calls(checks, lesson.checks), encoding="utf-8")
    (folder / "todos.py").write_text(
        f"NAMES = {sorted({name for names in todo_functions(lesson.source).values() for name in names})!r}\n"
        f"EXERCISE = {lesson.exercise()!r}\n",
        encoding="utf-8",
    )


def calls(source: str, todos: Iterable[str]) -> str:
    """A module of the `call` of each check in a checks.py, with what these calls use.

    Raises ValueError where a check is not written out as `Check(...)` in the file.
    """
    body = ast.parse(source).body
    found = {name: call for name, call in map(_id_and_call, ast.walk(ast.parse(source))) if name}
    if sorted(found) != sorted(todos):
        raise ValueError(f"checks.py writes out Check(...) for {', '.join(found)}, and there is {', '.join(todos)}")
    defined = {name: node for node in body for name in _defines(node)}
    needed, waiting = set(), [name for call in found.values() for name in _uses(call)]
    while waiting:
        name = waiting.pop()
        if name in defined and name not in needed:
            needed.add(name)
            if not isinstance(defined[name], (ast.Import, ast.ImportFrom)):
                waiting += _uses(defined[name])
    kept = [_narrowed(node, needed) for node in body if needed & set(_defines(node))]
    kept.append(ast.parse("from course.checking import Check as _Check").body[0])
    made = ", ".join(f"{name!r}: _Check({name!r}, '', {ast.unparse(call)}, None)" for name, call in found.items())
    return "\n\n".join(ast.unparse(node) for node in kept) + f"\n\nCHECKS = {{{made}}}\n"


def _id_and_call(node):
    """(the id, the expression of `call`) of a `Check(...)`; (None, None) of everything else."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Check"):
        return None, None
    said: dict = {**dict(zip(("id", "asks", "call"), node.args)), **{one.arg: one.value for one in node.keywords}}
    return said["id"].value, said["call"]


def _defines(node) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [
        name.id for target in targets if target is not None for name in ast.walk(target) if isinstance(name, ast.Name)
    ]


def _uses(node) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]


def _narrowed(node, needed):
    """An import without the names that no call uses; a function without its docstring."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        names = [alias for alias in node.names if (alias.asname or alias.name).partition(".")[0] in needed]
        return ast.Import(names) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, names, node.level)
    return node


def exposed(roots: Iterable[Path | str], step: Step | None = None) -> list[Path]:
    """The files under `roots`, which a child can read, that would give a solution away: those of this
    course (and of `step`, where that lies elsewhere), and those of a copy that somebody has installed."""
    real = [Path(root).resolve() for root in roots]
    own = [
        one.file(which) for one in (*steps.ROOMS, *filter(None, [step])) for which in ("solution", "mistakes", "checks")
    ]
    found = [file for file in own if file.exists() and any(file.resolve().is_relative_to(root) for root in real)]
    for root in real:
        inside = [*root.glob("lib*/python3*/*-packages"), *root.glob("python3*/*-packages")]
        for packages in [root] if root.name.endswith("-packages") else inside:
            found += packages.glob("step[0-9]_*/model_solution.py")
            found += packages.glob("*/step[0-9]_*/model_solution.py")
    return sorted(set(found))
