"""Whose code a later step runs on, and what is remembered as done."""

import json
import os
import re
import time

import pytest
import torch

from course import authoring, chain, checking, steps
from course.checking import record
from course.errors import CourseError
from course.learner import exercise, progress
from course.machine import files
from tests import toy

X = torch.tensor([[1.0, 2.0, 6.0]])


@pytest.fixture
def lesson(tmp_path):
    return toy.lesson(tmp_path)


def write(step, *replacements):
    """Make the exercise from the generated one with TODOs written; return its path."""
    path = step.file("exercise")
    text = authoring.generate(toy.SOLUTION, step)
    for todo, body in replacements:
        names = authoring.todo_functions(toy.SOLUTION)[todo]
        if body is None:
            text = authoring.transplant(text, toy.SOLUTION, names)
        else:
            text = text.replace(f'raise NotImplementedError("TODO {todo}: write {names[-1]}")', body)
    path.write_text(text)
    return path


def test_an_untouched_exercise_gives_the_solution(lesson):
    module = chain.use(lesson)
    assert module.__course__ == {"mean": "solution", "projection": "solution", "centred": "solution"}
    assert module.centred(X).tolist() == [[-2.0, -1.0, 3.0]]
    assert chain.use(lesson, "solution").__course__ == module.__course__
    with pytest.raises(ValueError, match="chain"):
        chain.use(lesson, "mine")


def test_what_passes_is_the_learners(lesson):
    write(lesson, ("mean", "mean.mine = True\n    return x.mean(-1)"), ("projection", None))
    module = chain.use(lesson)
    assert module.__course__ == {"mean": "mine", "projection": "mine", "centred": "solution"}
    assert module.centred(X).tolist() == [[-2.0, -1.0, 3.0]] and module.mean.mine
    assert module.__file__ == str(lesson.file("exercise"))


def test_what_is_wrong_is_the_solutions(lesson):
    write(lesson, ("mean", "return x.sum(-1)"), ("projection", None), ("centred", None))
    module = chain.use(lesson)  # centred is right and blocked: it was never seen to work
    assert module.__course__ == {"mean": "solution", "projection": "mine", "centred": "solution"}
    assert module.mean(X).tolist() == [3.0]


def test_all_of_it_is_the_file_itself(lesson, capsys):
    write(lesson, ("mean", None), ("projection", None), ("centred", None))
    module = chain.use(lesson)
    assert set(module.__course__.values()) == {"mine"} and module.mean.__code__.co_filename == module.__file__
    assert capsys.readouterr().err == ""


def test_a_file_that_does_not_import_gives_the_solution_and_a_line(lesson, capsys, monkeypatch):
    lesson.file("exercise").write_text("def mean(:\n")
    assert set(chain.use(lesson).__course__.values()) == {"solution"}
    said = capsys.readouterr().err
    assert "SyntaxError" in said and "line 1" in said and said.count("\n") == 1
    monkeypatch.setenv("RANK", "1")
    chain.use(lesson)
    assert capsys.readouterr().err == ""  # of many processes one speaks


def test_given_code_that_was_taken_out_gives_the_solution_and_a_line(lesson, capsys):
    path = write(lesson, ("mean", None))
    path.write_text(path.read_text().replace("class Projection", "class Projected"))
    assert set(chain.use(lesson).__course__.values()) == {"solution"}
    assert "Projection" in capsys.readouterr().err
    path = write(lesson, ("mean", None))
    path.write_text(path.read_text().replace("class Projection(nn.Module)", "class Projection"))
    chain.use(lesson)
    assert "projection" in capsys.readouterr().err


def test_a_missing_exercise_gives_the_solution(lesson, capsys):
    lesson.file("exercise").unlink()
    assert set(chain.use(lesson).__course__.values()) == {"solution"} and "missing" in capsys.readouterr().err


def test_another_folder(lesson, tmp_path):
    write(lesson, ("mean", None))
    other = tmp_path / "other"
    other.mkdir()
    os.replace(lesson.file("exercise"), other / "model_exercise.py")
    assert chain.use(lesson, folder=other).__course__["mean"] == "mine"


def test_verdicts_are_remembered_until_a_file_changes(lesson, monkeypatch):
    write(lesson, ("mean", None))
    chain.use(lesson)
    from course import checking

    calls = []
    original = checking.check_step
    monkeypatch.setattr(checking, "check_step", lambda *a, **k: calls.append(1) or original(*a, **k))
    chain.use(lesson), progress.status([lesson])
    assert not calls
    write(lesson, ("mean", "return x.sum(-1)"))
    assert progress.status([lesson])["toy"]["mean"] == "wrong" and len(calls) == 1
    write(lesson, ("mean", None))  # back again: still known
    assert progress.status([lesson])["toy"]["mean"] == "passed" and len(calls) == 1
    lesson.file("checks").write_text(toy.CHECKS + "\n# changed\n")
    assert progress.status([lesson])["toy"]["mean"] == "passed" and len(calls) == 2


def test_the_memory_may_be_broken_or_unwritable(lesson, monkeypatch):
    write(lesson, ("mean", None))
    assert progress.status([lesson])["toy"]["mean"] == "passed"
    memory = lesson.root / ".course" / "toy.verdicts.json"
    assert json.loads(memory.read_text())
    for text in ("", "[1]", "{", "\x00"):
        memory.write_text(text)
        assert progress.status([lesson])["toy"]["mean"] == "passed"

    def no(*args, **options):
        raise PermissionError

    monkeypatch.setattr(files.tempfile, "mkstemp", no)
    memory.unlink()
    assert chain.use(lesson).__course__["mean"] == "mine"


def test_an_interrupted_verdict_is_not_remembered(lesson):
    write(lesson, ("mean", "raise KeyboardInterrupt"))
    assert progress.status([lesson])["toy"]["mean"] == "raised"
    assert not (lesson.root / ".course").exists()


def table_words(text) -> dict[str, str]:
    rows = [line.split(None, 1) for line in text.splitlines() if line.startswith("         ")]
    return {todo: state for todo, state in rows}


def test_the_table_names_each_state(lesson):
    write(lesson, ("mean", "return x.sum(-1)"), ("centred", None))
    assert table_words(progress.table([lesson])) == {
        "mean": "started",
        "projection": "untouched",
        "centred": "blocked by mean",
    }
    assert "next: toy.mean" in progress.table([lesson])
    write(lesson, ("mean", None), ("centred", None))
    assert table_words(progress.table([lesson]))["mean"] == "done"
    write(lesson, ("mean", "return x.sum(0)"), ("centred", None))
    (since,) = re.findall(r"mean +broken since (.*)", progress.table([lesson]))
    assert time.time() - time.mktime(time.strptime(since, "%Y-%m-%d %H:%M")) < 100
    lesson.file("exercise").write_text("(")
    assert f"broken since {since}" in progress.table([lesson])
    write(lesson, ("mean", None))
    assert table_words(progress.table([lesson]))["mean"] == "done"
    write(lesson, ("mean", "return x"))
    assert "broken since" in progress.table([lesson])
    exercise.reset(lesson, "mean")
    assert table_words(progress.table([lesson]))["mean"] == "untouched", "put back is not broken"
    write(lesson, ("mean", "return x"))
    assert table_words(progress.table([lesson]))["mean"] == "started"


def test_a_check_from_the_notebook_is_remembered_too(lesson):
    path = write(lesson, ("mean", None))
    checking.check_file(path, "mean", step=lesson)
    assert record.recall(lesson, "passes", "mean")["passed"]


def test_what_passes_is_explained_and_what_does_not_is_not(lesson):
    lesson.file("checks").write_text(toy.CHECKS.replace("call_mean, rows,", 'call_mean, rows, why="D, not B.",'))
    write(lesson, ("mean", "return x.mean(-1)"))
    text = progress.explain(lesson, "mean")
    assert text.index("yours") < text.index("return x.mean(-1)") < text.index("the solution")
    assert text.index("the solution") < text.index("return x.sum(-1) / x.shape[-1]") < text.index("D, not B.")
    assert "BEGIN SOLUTION" not in text and '"""' not in text
    write(lesson, ("mean", None))
    assert "Your code is the solution's" in progress.explain(lesson, "mean")
    text = lesson.file("exercise").read_text()
    start, stop = text.index("def mean"), text.index("class Projection")
    lesson.file("exercise").write_text(f"{text[:start]}mean = lambda x: x.mean(-1)\n\n\n{text[stop:]}")
    assert "return x.sum(-1)" in progress.explain(lesson, "mean"), "a TODO that passes without being a function"
    write(lesson, ("mean", "return x"))
    with pytest.raises(CourseError, match="not right yet.*hint toy.mean"):
        progress.explain(lesson, "mean")


def test_the_table(lesson, tmp_path):
    text = progress.table([lesson])
    assert "0 of 3" in text and "next: toy.mean" in text
    write(lesson, ("mean", None), ("projection", "pass"))
    text = progress.table([lesson])
    assert "1 of 3" in text and "next: toy.projection, about 20 minutes" in text
    assert table_words(text) == {"mean": "done", "projection": "started", "centred": "untouched"}
    lesson.file("exercise").write_text("import not_there\n")
    assert "No module named 'not_there'" in progress.table([lesson])
    write(lesson, ("mean", None), ("projection", None), ("centred", None))
    assert "everything passes" in progress.table([lesson])
    gone = steps.Step("gone", "Not there", ("a",), 1, root=tmp_path)
    assert "missing" in progress.table([gone]) and progress.status([gone]) == {"gone": {}}
