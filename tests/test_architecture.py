"""The floor plan of docs/architecture.md, held against the imports: arrows go down only, and there is no circle."""

import ast
import re
import shutil
import sys
from pathlib import Path

import pytest

from course import steps

PAGE = steps.ROOT / "docs" / "architecture.md"
TOP = {"__init__", "__main__", "chain", "cli", "errors", "notebook", "steps"}  # the only files at the top of course/


def floors() -> dict[str, int]:
    """{package or top file of course/: its floor}, from the table of docs/architecture.md."""
    rows = re.findall(r"^\| (\d) \| (.+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name.strip(" `/"): int(floor) for floor, names in rows for name in names.split(",")}


def module_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, root: Path) -> list[tuple[int, str]]:
    """(line, module) of every import in a file, those inside functions too; `from a import b` is a.b where b is a
    file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}, line {node.lineno}: a relative import hides where it points"
            for alias in node.names:
                inside = root / Path(*node.module.split("."), alias.name)
                is_module = inside.with_suffix(".py").exists() or (inside / "__init__.py").exists()
                found.append((node.lineno, f"{node.module}.{alias.name}" if is_module else node.module))
    return found


def room(module: str) -> str:
    """The package or top file of course/ that a module belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def faults(root: Path = steps.ROOT) -> list[str]:
    """What breaks the plan in a copy of the course."""
    found, arrows, plan = [], {}, floors()
    for path in sorted((root / "course").rglob("*.py")):
        module = module_of(path, root)
        arrows[module] = set()
        for line, target in imports(path, root):
            if re.match(r"step\d", target):
                found.append(f"{module}, line {line}, imports a step by name: {target}")
            if target.partition(".")[0] != "course":
                continue
            arrows[module].add(target)
            here, there = room(module), room(target)
            same = here == there or there == "__init__"
            if not same and plan[there] > 0 and plan[there] >= plan[here]:  # the ground is for everyone
                found.append(
                    f"{module}, line {line}: {here} (floor {plan[here]}) imports {there} (floor {plan[there]})"
                )
    found += [f"a circle: {' -> '.join(circle)}" for circle in circles(arrows)]
    for step in steps.STEPS:
        for path in sorted((root / step.name).rglob("*.py")):
            for line, target in imports(path, root):
                other = target.partition(".")[0]
                if re.match(r"step\d", other) and other != step.name.partition("/")[0]:
                    found.append(f"{step.name}/{path.name}, line {line}, imports another step: {target}")
    return found


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The circles of a graph, each once, found by walking it depth first."""
    found, done = [], set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for target in sorted(arrows.get(module, ())):
                walk(target, [*path, module])
            done.add(module)

    for module in sorted(arrows):
        walk(module, [])
    return found


def test_the_plan_holds():
    assert faults() == []


def test_every_room_has_a_floor_and_only_six_files_lie_at_the_top():
    course = steps.ROOT / "course"
    rooms = {path.parent.name for path in course.glob("*/__init__.py")}
    assert rooms | TOP - {"__init__"} == set(floors())
    assert {path.stem for path in course.glob("*.py")} == TOP


@pytest.mark.parametrize(
    "file, line, says",
    [
        ("course/world/scenes.py", "from course.machine import compute", "world (floor 1) imports machine (floor 2)"),
        ("course/display/plots.py", "def f():\n    from course import cli", "display (floor 1) imports cli (floor 8)"),
        ("course/training/place.py", "from course.training import run", "a circle: "),
        ("course/grading/text.py", "from step6_vlm import train", "imports a step by name"),
        ("step6_vlm/train.py", "from step2_gpt import train", "imports another step"),
        ("course/training/job.py", "from course.grading import grade", "training (floor 6) imports grading (floor 6)"),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path, file, line, says):
    for name in ("course", *(step.name for step in steps.STEPS)):
        shutil.copytree(
            steps.ROOT / name,
            tmp_path / name,
            ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")],
        )
    with open(tmp_path / file, "a", encoding="utf-8") as copy:
        copy.write(f"\n{line}\n")
    assert any(says in fault for fault in faults(tmp_path)), faults(tmp_path)


def test_imports_inside_functions_say_what_they_defer():
    """Inside a function an import of ours has a reason: it defers a heavy library, and its comment names it."""
    for path in sorted((steps.ROOT / "course").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines, tree = text.splitlines(), ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("course") and node not in tree.body:
                assert "  # " in lines[node.lineno - 1], f"{path.name}, line {node.lineno}: why not at the top?"


def test_the_ground_needs_only_the_standard_library():
    for name in (
        "errors",
        "steps",
        "machine/files",
        "machine/installer",
        "machine/setup",
        "training/arguments",
        "training/place",
        "cli",
    ):
        path = steps.ROOT / "course" / f"{name}.py"
        body = ast.parse(path.read_text(encoding="utf-8")).body
        tops = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        tops |= {node.module for node in body if isinstance(node, ast.ImportFrom)}
        assert {top.partition(".")[0] for top in tops} <= {*sys.stdlib_module_names, "course"}, name


def public_functions(body: list, private: bool = False):
    """The public functions and methods of a module, and the `__init__` and `__call__` of its public classes."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from public_functions(node.body, private or node.name.startswith("_"))
        elif isinstance(node, ast.FunctionDef) and not private:
            if not node.name.startswith("_") or node.name in ("__init__", "__call__"):
                yield node


def test_public_functions_are_annotated():
    for path in sorted((steps.ROOT / "course").rglob("*.py")):
        for function in public_functions(ast.parse(path.read_text(encoding="utf-8")).body):
            arguments = function.args
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            bare = [one.arg for one in named if one and one.annotation is None and one.arg not in ("self", "cls")]
            where = f"{path.name}, line {function.lineno}: {function.name}"
            assert not bare, f"{where}({', '.join(bare)})"
            assert function.returns or function.name == "__init__", f"{where} ->"
