"""Generating exercises, moving functions, building, and the rules for notebooks."""

import json

import pytest

from course import authoring, steps
from course.authoring import notebooks
from course.errors import CourseError
from course.learner import exercise as exercise_file
from tests import toy

TOY = steps.Step("toy", "A toy", ("mean", "projection", "centred"), 1)


def exercise():
    return authoring.generate(toy.SOLUTION, TOY)


def test_the_exercise_holds_everything_but_the_answers():
    text = exercise()
    compile(text, "exercise", "exec")
    assert "SOLUTION" not in text and "nn.Linear" not in text and "x.sum" not in text
    todo = 'raise NotImplementedError("TODO {}")'
    assert "super().__init__()\n        " + todo.format("projection: write Projection.__init__") in text
    assert 'as [B]."""\n    ' + todo.format("mean: write mean") in text
    assert all(f"def test_{todo}():" in text for todo in TOY.todos)
    assert (
        authoring.todo_functions(text)
        == authoring.todo_functions(toy.SOLUTION)
        == {"mean": ["mean"], "projection": ["Projection.__init__", "Projection.forward"], "centred": ["centred"]}
    )


def test_untouched_and_unwritten():
    text = exercise()
    assert all(authoring.untouched(text, todo) for todo in TOY.todos)
    assert not any(authoring.untouched(toy.SOLUTION, todo) for todo in TOY.todos)
    half = authoring.transplant(text, toy.SOLUTION, ["Projection.__init__"])
    assert not authoring.untouched(half, "projection") and authoring.untouched(half, "mean")
    assert [one.name for one in authoring.unwritten(half, "projection")] == ["Projection.forward"]


def test_an_exercise_knows_whether_it_was_edited():
    text = exercise()
    assert not authoring.edited(text) and not authoring.edited(text.replace("\n", "\r\n"))
    assert authoring.edited(text.replace("[B]", "[C]")) and authoring.edited(text + "# mine\n")
    assert authoring.edited(authoring.filled(toy.SOLUTION, TOY)) and authoring.edited("")


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("# TODO mean\n", "", "stands in no function"),
        ("    ### END SOLUTION\n\n\nclass", "\n\nclass", "needs one"),
        ("# TODO mean", "# TODO median", "lists mean"),
        ("# TODO mean", "# TODO mean\n", "stands in no function"),
    ],
)
def test_a_solution_with_markers_out_of_place_is_refused(old, new, says):
    assert toy.SOLUTION.count(old) == 1
    with pytest.raises(authoring.AuthorError, match=says):
        authoring.generate(toy.SOLUTION.replace(old, new), TOY)


def test_bodies_go_in_and_out_byte_for_byte():
    names = [name for names in authoring.todo_functions(toy.SOLUTION).values() for name in names]
    text = exercise()
    solved = authoring.transplant(text, toy.SOLUTION, names)
    assert solved.startswith(toy.SOLUTION) and solved[len(toy.SOLUTION) :] == text[text.index("\n\n# The tests") :]
    assert authoring.transplant(solved, text, names) == text
    assert authoring.transplant(text, toy.SOLUTION, []) == text


def test_only_the_named_functions_move():
    learner = exercise().replace("import torch\n", "import torch  # mine\n") + "\n# notes of mine, no newline"
    moved = authoring.transplant(learner, toy.SOLUTION, ["mean"])
    assert (
        moved.replace(
            toy.SOLUTION[toy.SOLUTION.index("    ### BEGIN") : toy.SOLUTION.index("\n\n\nclass")],
            '    raise NotImplementedError("TODO mean: write mean")',
            1,
        )
        == learner
    )


@pytest.mark.parametrize(
    "target, donor, name, result",
    [
        # decorators, trailing comments, a comment that belongs to what follows
        (
            "@a\n@b\ndef f():\n    x\n    # in\n# out\ny = 1\n",
            "@c\ndef f():\n    z\n",
            "f",
            "@c\ndef f():\n    z\n# out\ny = 1\n",
        ),
        # methods, other indentation, text over several lines stays as it is
        (
            "class C:\n\tdef f(self):\n\t\tpass\n\tx = 1\n",
            'class C:\n    def f(self):\n        return """a\n        b"""\n',
            "C.f",
            'class C:\n\tdef f(self):\n\t    return """a\n        b"""\n\tx = 1\n',
        ),
        # the last definition of a name counts
        ("def f():\n    1\ndef f():\n    2\n", "def f():\n    3\n", "f", "def f():\n    1\ndef f():\n    3\n"),
        # Windows line ends stay
        ("def f():\r\n    1\r\ny = 2\r\n", "def f():\n    3\n    4\n", "f", "def f():\r\n    3\r\n    4\r\ny = 2\r\n"),
        # no newline at the end
        ("def f():\n    1", "def f():\n    2\n", "f", "def f():\n    2"),
        # form feeds and other line separators are no lines
        ("s = 'a\x0cb\u2028c'\ndef f():\n    1\n", "def f():\n    2\n", "f", "s = 'a\x0cb\u2028c'\ndef f():\n    2\n"),
        # inside an if
        ("if True:\n    def f():\n        1\n", "def f():\n    2\n", "f", "if True:\n    def f():\n        2\n"),
        # not there: at the end of the file, or of the class
        ("x = 1\n", "def f():\n    2\n", "f", "x = 1\n\n\ndef f():\n    2\n"),
        (
            "class C:\n    x = 1\n\ny = 2\n",
            "class C:\n  def f(self):\n    2\n",
            "C.f",
            "class C:\n    x = 1\n\n    def f(self):\n      2\n\ny = 2\n",
        ),
    ],
)
def test_transplant(target, donor, name, result):
    assert authoring.transplant(target, donor, [name]) == result
    compile(result, "result", "exec")


def test_transplant_says_what_is_missing():
    with pytest.raises(KeyError, match="nothing"):
        authoring.transplant(toy.SOLUTION, toy.SOLUTION, ["nothing"])
    with pytest.raises(KeyError, match="Other.forward"):
        authoring.transplant("x = 1\n", "class Other:\n    def forward(self):\n        pass\n", ["Other.forward"])


def test_a_fragment_brings_its_helpers():
    fragment = '''"""Another way."""
import math

SCALE = 1.0


def helper(x):
    return x * SCALE * math.cos(0)


class Projection:
    def __init__(self, D, E):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(D, E), nn.Tanh())

    def forward(self, features):
        return self._more(features)

    def _more(self, features):
        return helper(self.inner(features))
'''
    text = authoring.graft(toy.SOLUTION, fragment, ["Projection.__init__", "Projection.forward"])
    compile(text, "grafted", "exec")
    assert "class Projection(nn.Module)" in text and text.count("class Projection") == 1
    assert text.index("import math") < text.index("def helper") < text.index("# TODO mean\ndef mean")
    assert "def _more" in text and "self.linear" not in text
    with pytest.raises(KeyError):
        authoring.graft(toy.SOLUTION, fragment, ["mean"])


def test_build_writes_checks_and_spares_edited_files(tmp_path):
    step = toy.lesson(tmp_path)
    path = step.file("exercise")
    assert authoring.build(which=[step], check=True).ok
    path.unlink()
    assert not authoring.build(which=[step], check=True).ok and not path.exists()
    assert authoring.build(which=[step]).ok and path.read_text() == exercise()

    solution = step.file("solution")
    solution.write_text(solution.read_text().replace("A toy lesson", "A newer lesson"))  # the author goes on
    assert not authoring.build(which=[step], check=True).ok
    assert authoring.build(which=[step]).ok and "A newer lesson" in path.read_text()

    path.write_text(path.read_text() + "# mine\n")  # the learner too
    solution.write_text(solution.read_text().replace("newer", "newest"))
    report = authoring.build(which=[step])
    assert report.ok and "edited, left alone" in str(report) and path.read_text().endswith("# mine\n")
    report = authoring.build(which=[step], force=True)
    (kept,) = step.folder.glob("model_exercise.backup-*.py")
    assert kept.read_text().endswith("# mine\n") and kept.name in str(report) and "newest" in path.read_text()
    assert not list(step.folder.glob(".model_exercise*"))


def backups(step):
    return sorted(step.folder.glob("model_exercise.backup-*.py"))


def test_reset_puts_one_todo_back_and_leaves_the_rest(tmp_path):
    step = toy.lesson(tmp_path)
    path, mean = step.file("exercise"), "return x.mean(-1)  # mine"
    assert exercise_file.reset(step) == (False, None) and exercise_file.reset(step, "mean") == (False, None)
    written = (
        exercise()
        .replace('raise NotImplementedError("TODO mean: write mean")', mean)
        .replace('raise NotImplementedError("TODO centred: write centred")', "return x")
        .replace("\nimport torch\n", "\nimport math\n\nimport torch\n", 1)
    )
    path.write_text(written)
    changed, kept = exercise_file.reset(step, "centred")
    assert changed and backups(step) == [kept] and kept.read_text() == written
    assert mean in path.read_text() and "import math" in path.read_text()
    assert authoring.untouched(path.read_text(), "centred") and not authoring.untouched(path.read_text(), "mean")
    changed, kept = exercise_file.reset(step)
    assert changed and mean in kept.read_text() and len(backups(step)) == 2
    assert path.read_text() == exercise()


def test_reset_brings_back_what_was_deleted(tmp_path):
    step = toy.lesson(tmp_path)
    path = step.file("exercise")
    path.unlink()
    assert exercise_file.reset(step) == (True, None) and path.read_text() == exercise()
    lines = exercise().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if line.startswith("def mean"))
    path.write_text("".join(lines[:at] + lines[at + 3 :]))
    exercise_file.reset(step, "mean")
    assert authoring.functions(path.read_text())["mean"]


@pytest.mark.parametrize(
    "text, says",
    [
        ("def mean(x:\n", "line 1: .*course reset toy"),
        ("x = 1\n", "no place for Projection.__init__.*course reset toy"),
    ],
)
def test_reset_of_one_todo_needs_a_file_that_can_take_it(tmp_path, text, says):
    step = toy.lesson(tmp_path)
    step.file("exercise").write_text(text)
    with pytest.raises(CourseError, match=says):
        exercise_file.reset(step, "projection")
    assert step.file("exercise").read_text() == text and not backups(step)
    assert exercise_file.reset(step)[1].read_text() == text


def test_build_names_a_broken_solution(tmp_path):
    step = toy.lesson(tmp_path)
    step.file("solution").write_text(toy.SOLUTION.replace("# TODO mean\n", ""))
    report = authoring.build(which=[step])
    assert not report.ok and "line" in str(report)
    step.file("solution").unlink()
    assert not authoring.build(which=[step]).ok


def notebook(*cells, **more):
    return json.dumps(
        {
            "cells": [
                {
                    "cell_type": "code",
                    "source": cell,
                    "metadata": {"collapsed": True},
                    "outputs": [1],
                    "execution_count": 3,
                }
                for cell in cells
            ],
            "metadata": {"kernelspec": {"name": "x"}},
            "nbformat": 4,
            "nbformat_minor": 5,
            **more,
        }
    )


def test_notebooks_lose_their_outputs_and_nothing_else():
    text = notebook("x = 1\ny = 2", "x")
    clean = notebooks.stripped(text)
    assert notebooks.code_cells(clean) == ["x = 1\ny = 2", "x"] and notebooks.stripped(clean) == clean
    cells = json.loads(clean)["cells"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None and cell["metadata"] == {} for cell in cells)
    assert json.loads(clean)["metadata"]["kernelspec"]["name"] == "python3"


def test_notebooks_call_each_test_once():
    tests = [f"importlib.reload(model_exercise)\nmodel_exercise.test_{todo}()" for todo in TOY.todos]
    assert notebooks.problems(notebook(*tests), TOY) == []
    assert "0 times" in notebooks.problems(notebook(*tests[1:]), TOY)[0]
    assert "2 times" in notebooks.problems(notebook(*tests, tests[0]), TOY)[0]
    assert "no TODO" in notebooks.problems(notebook(*tests, "model_exercise.test_other()"), TOY)[0]
    assert "does not compile" in notebooks.problems(notebook(*tests, "x = = 1"), TOY)[0]
    assert "without words" in notebooks.problems(notebook(*tests, "plt.show()"), TOY)[0]


def lesson_of(*cells):
    """A notebook of (id, kind, source)."""
    return notebooks.stripped(
        json.dumps(
            {
                "cells": [
                    {"id": name, "cell_type": kind, "metadata": {}, "source": source} for name, kind, source in cells
                ]
            }
        )
    )


def test_a_translation_has_the_lessons_cells():
    lesson = lesson_of(("a", "markdown", "# Eyes\nwords"), ("b", "code", "x = 1"), ("c", "markdown", "text `f`"))
    good = lesson_of(("a", "markdown", "# Augen\nWorte"), ("b", "code", "x = 1"), ("c", "markdown", "Text `f`"))
    assert notebooks.translation_problems(lesson, good) == []
    for cells, says in (
        ((("a", "markdown", "# A"), ("b", "code", "x = 2"), ("c", "markdown", "")), "cell b has other code"),
        ((("a", "markdown", "## A"), ("b", "code", "x = 1"), ("c", "markdown", "")), "cell a has other headings"),
        ((("a", "markdown", "# A"), ("b", "code", "x = 1"), ("c", "markdown", "`g`")), "cell c: `f`, `g` only"),
        ((("a", "markdown", "# A"), ("b", "code", "x = 1")), "cell c of the lesson is missing"),
        ((("a", "markdown", "# A"), ("b", "code", "x = 1"), ("c", "markdown", ""), ("d", "code", "")), "d is not in"),
        ((("b", "code", "x = 1"), ("a", "markdown", "# A"), ("c", "markdown", "")), "another order"),
    ):
        assert any(says in line for line in notebooks.translation_problems(lesson, lesson_of(*cells))), says
    names = ("tutorial.zh.ipynb", "tutorial.ipynb", "tutorial-Copy1.ipynb", "Untitled.ipynb")
    assert [notebooks.translates(name) for name in names] == [True, False, False, False]


def test_build_carries_the_lessons_code_into_its_translations(tmp_path):
    step = toy.lesson(tmp_path)
    tests = [(todo, "code", f"model_exercise.test_{todo}()") for todo in TOY.todos]
    lesson, other = step.folder / "tutorial.ipynb", step.folder / "tutorial.zh.ipynb"
    lesson.write_text(lesson_of(("a", "markdown", "# One"), *tests, ("z", "code", "new = 1")))
    other.write_text(lesson_of(("a", "markdown", "# 一"), *tests, ("z", "code", "old = 1")))
    report = authoring.build(which=[step], check=True)
    assert not report.ok and "cell z has other code" in str(report) and "old" in other.read_text()
    assert authoring.build(which=[step]).ok
    assert "new = 1" in other.read_text() and "一" in other.read_text()
    assert authoring.build(which=[step], check=True).ok
    other.write_text(lesson_of(("a", "markdown", "# 一"), *tests))
    assert "cell z of the lesson is missing" in str(authoring.build(which=[step]))


def test_build_strips_notebooks(tmp_path):
    step = toy.lesson(tmp_path)
    path = step.folder / "tutorial.ipynb"
    path.write_text(notebook(*[f"model_exercise.test_{todo}()" for todo in TOY.todos]))
    assert not authoring.build(which=[step], check=True).ok
    assert authoring.build(which=[step]).ok
    assert authoring.build(which=[step], check=True).ok and '"outputs": []' in path.read_text()
    path.write_text("no notebook")
    assert not authoring.build(which=[step]).ok
