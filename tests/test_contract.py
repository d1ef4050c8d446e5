"""The contracts, for every step there is: `pytest tests/test_contract.py -k step6` walks one of them."""

import ast
import json
import sys
import time

import pytest
import torch

from course import authoring, checking, steps
from course.authoring import notebooks
from course.checking import compare

ALTERNATIVES = steps.ROOT / "tests" / "alternatives"
TODOS = [pytest.param(step, todo, id=f"{step.name}.{todo}") for step in steps.ROOMS for todo in step.todos]
PLACES = [("cpu", torch.float32), ("cpu", torch.float64), ("cuda", torch.float32), ("mps", torch.float32)]

each_step = pytest.mark.parametrize("step", steps.ROOMS, ids=lambda step: step.name)
each_todo = pytest.mark.parametrize("step, todo", TODOS)
each_place = pytest.mark.parametrize("device, dtype", PLACES, ids=[f"{d}-{str(t)[6:]}" for d, t in PLACES])


def solution_source(step):
    return step.file("solution").read_text(encoding="utf-8")


def module_of(step, source):
    return steps.execute(source, step.file("solution"), "contract", shown_as=f"<{step.name} under test>")


def require(device):
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[device]:
        pytest.skip(f"no {device} on this machine")


# one id, everywhere


@each_step
def test_ids_agree(step):
    lesson = checking.lesson(step)
    assert list(lesson.checks) == list(step.todos), "checks.py: one Check per TODO, in the order of course/steps.py"
    assert list(lesson.mistakes) == list(step.todos), "mistakes.py: one entry per TODO, in the order of course/steps.py"
    assert sorted(authoring.todo_functions(solution_source(step))) == sorted(step.todos)
    tests = [
        node.name
        for node in ast.parse(lesson.exercise()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert tests == [f"test_{todo}" for todo in step.todos]


@each_step
def test_notebooks_follow_the_rules(step):
    assert (step.folder / "tutorial.ipynb").is_file()
    texts = {path.name: path.read_text(encoding="utf-8") for path in step.folder.glob("*.ipynb")}
    for name, text in texts.items():
        assert notebooks.problems(text, step) == [], name
        cells = json.loads(text)["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), f"{name} holds outputs"
        assert notebooks.stripped(text) == text, f"{name}: run python3 -m course build"
        if notebooks.translates(name):
            assert notebooks.translation_problems(texts["tutorial.ipynb"], text) == [], name


@each_step
def test_alternatives_belong_to_todos(step):
    for path in (ALTERNATIVES / step.slug).iterdir():
        if path.name != "__pycache__":
            assert (
                path.suffix == ".py" and path.stem.partition("__")[0] in step.todos and path.stem.partition("__")[2]
            ), path


@each_step
def test_the_committed_exercise_is_the_generated_one(step):
    committed = step.file("exercise").read_text(encoding="utf-8")
    if authoring.edited(committed):
        pytest.skip(f"{step.name}/model_exercise.py is edited: a learner's copy")
    assert committed == authoring.generate(solution_source(step), step), "run python3 -m course build"


# arrows run one way


@each_step
def test_files_import_what_they_may(step):
    free = set(sys.stdlib_module_names)
    for which, allowed in (
        ("solution", {"torch", "numpy", "regex"}),
        ("checks", {"torch", "numpy", "course.checking"}),
        ("mistakes", {"course.checking"}),
    ):
        for node in ast.walk(ast.parse(step.file(which).read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or "."]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                ours = name if name.startswith("course") else name.partition(".")[0]
                assert ours in allowed | free, f"{step.name}/{step.file(which).name} imports {name}"


# the check of each TODO


@each_todo
def test_a_check_tells_and_hints(step, todo):
    check = checking.lesson(step).checks[todo]
    assert check.asks and check.points > 0 and set(check.needs) <= set(step.todos) - {todo}
    assert len(check.hints) == 3 and all(hint.strip() for hint in check.hints)
    assert len(check.why) > 100, "what the solution does and why, for `explain`"
    case = checking.make_cases(check, 1)[0]
    assert check.shows(case) if callable(check.shows) else check.shows


@each_todo
def test_the_parts_of_a_check_are_named_after_its_todo(step, todo):
    check = checking.lesson(step).checks[todo]
    named = {"cases": f"{todo}_cases", "call": f"call_{todo}", "judge": f"judge_{todo}", "shows": f"shows_{todo}"}
    for part, name in named.items():
        assert getattr(getattr(check, part), "__name__", name) in (name, "<lambda>")


@each_todo
def test_cases_come_from_the_generator_alone(step, todo):
    check = checking.lesson(step).checks[todo]
    torch.manual_seed(1)
    one, other = checking.make_cases(check, 1), checking.make_cases(check, 2)
    torch.manual_seed(2)
    again = checking.make_cases(check, 1)
    assert compare(one, again, 0, 0) == [] and compare(one, other, 0, 0) != []


@each_place
@each_todo
def test_the_solution_passes(step, todo, device, dtype):
    require(device)
    finding = checking.check(step, checking.lesson(step).solution, todo, device=device, dtype=dtype)
    assert finding.passed, finding.text()


@each_place
@each_todo
def test_alternatives_pass(step, todo, device, dtype):
    require(device)
    source = solution_source(step)
    names = authoring.todo_functions(source)[todo]
    fragments = sorted((ALTERNATIVES / step.slug).glob(f"{todo}__*.py"))
    assert len(fragments) >= 2, f"{step.name}.{todo} has {len(fragments)} alternatives, and needs two"
    for fragment in fragments:
        grafted = authoring.graft(source, fragment.read_text(encoding="utf-8"), names)
        assert not all(authoring.same_function(grafted, source, name) for name in names), (
            f"{fragment.name} is the solution"
        )
        module = module_of(step, grafted)
        finding = checking.check(step, module, todo, device=device, dtype=dtype)
        assert finding.passed, f"{fragment.name}, seed {finding.seed}\n{finding.text()}"
        steps.forget(module)


@each_todo
def test_untouched_is_not_started(step, todo):
    module = module_of(step, checking.lesson(step).exercise())
    finding = checking.check(step, module, todo)
    assert finding.status == "not started", finding.text()
    assert finding.line and "Traceback" not in finding.text() and "Error" not in finding.text()
    steps.forget(module)


@each_todo
def test_an_empty_body_does_not_pass(step, todo):
    source = checking.lesson(step).exercise()
    names = authoring.todo_functions(source)[todo]
    whole = authoring.transplant(solution_source(step), source, names)
    for body in ("pass", "return None", "return 0"):
        lines = [
            line.partition("raise")[0] + body if f'NotImplementedError("TODO {todo}:' in line else line
            for line in whole.split("\n")
        ]
        module = module_of(step, "\n".join(lines))
        finding = checking.check(step, module, todo)
        assert finding.status in ("wrong", "raised"), f"`{body}` is {finding.status}"
        steps.forget(module)


@each_todo
def test_mistakes_are_rejected_and_recognised(step, todo):
    lesson = checking.lesson(step)
    mistakes = lesson.mistakes[todo]
    assert len(mistakes) >= 3 and len({one.name for one in mistakes}) == len(mistakes)
    for mistake in mistakes:
        assert mistake.says.strip() and mistake.name.strip()
        compile(mistake.applied(lesson.source), mistake.name, "exec")  # `old` occurs once
        for _ in range(3):  # now and then two mistakes answer alike on all cases; not three times
            finding = checking.check(step, lesson.wrong(mistake), todo, seconds=10)
            said = f"mistake {mistake.name!r}, seed {finding.seed}\n{finding.text()}"
            assert finding.status in ("wrong", "raised") and finding.mistake, said
            if finding.mistake == mistake.says:
                break
        else:
            pytest.fail(said)


@each_todo
def test_what_it_needs_blocks_it(step, todo):
    lesson = checking.lesson(step)
    exercise = lesson.exercise()
    for need in lesson.checks[todo].needs:
        names = authoring.todo_functions(exercise)[need]
        module = module_of(step, authoring.transplant(lesson.source, exercise, names))
        finding = checking.check(step, module, todo)
        assert finding.status == "blocked", f"without {need}: {finding.text()}"
        steps.forget(module)


@each_step
def test_a_step_is_checked_quickly(step, capsys):
    checking.lesson(step)
    start = time.perf_counter()
    findings = checking.check_solution(step)
    seconds = time.perf_counter() - start
    with capsys.disabled():
        print(f"\n{step.name}: all checks in {seconds:.2f} s", end=" ")
    assert seconds < 5 and len(findings) == len(step.todos)
