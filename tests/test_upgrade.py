"""A new version of the course under a learner's work: nothing of theirs is lost, and what the course gives is new."""

import subprocess

import pytest

from course import authoring, steps
from course.errors import CourseError
from course.learner import upgrade
from tests import toy

NEWER = toy.SOLUTION.replace('"""A toy lesson."""', '"""A better toy lesson."""').replace(
    '"""The mean over the last axis of x [B, D], as [B]."""', '"""The mean of each row of x [B, D]: [B]."""'
)


@pytest.fixture
def step(tmp_path):
    return toy.lesson(tmp_path)


def learnt(step, solution=toy.SOLUTION) -> str:
    """An exercise in which `mean` is written, with a helper and an import, and the rest untouched."""
    text = authoring.generate(solution, step)
    text = text.replace(
        'raise NotImplementedError("TODO mean: write mean")',
        "total = add_up(x)  # mine\n    return total / math.sqrt(x.shape[-1]) ** 2",
    )
    text = text.replace("import torch\n", "import math\n\nimport torch\n\nAXIS = -1\n", 1)
    text = text.replace("# TODO mean\n", "def add_up(x):\n    return x.sum(AXIS)\n\n\n# TODO mean\n", 1)
    step.file("exercise").write_text(text)
    return text


def one(step, **options):
    (found,) = upgrade.upgrade([step], **options)
    return found


def test_without_a_new_version_nothing_happens(step):
    before = step.file("exercise").read_text()
    assert one(step).says == "up to date" and step.file("exercise").read_text() == before
    before = learnt(step)
    assert one(step).says == "up to date, with your code in it" and step.file("exercise").read_text() == before
    assert not list(step.folder.glob("*.backup-*"))


def test_an_untouched_exercise_is_written_anew(step):
    step.file("solution").write_text(NEWER)
    assert "written anew" in one(step).says
    assert step.file("exercise").read_text() == authoring.generate(NEWER, step)
    assert not list(step.folder.glob("*.backup-*"))


def test_what_the_learner_wrote_moves_into_the_new_exercise(step):
    before = learnt(step)
    step.file("solution").write_text(NEWER)
    found = one(step)
    text = step.file("exercise").read_text()
    assert found.kept.read_text() == before and found.kept.name in found.says
    assert "A better toy lesson" in text and "# mine" in text
    for piece in ("import math", "AXIS = -1", "def add_up(x):"):
        assert text.count(piece) == 1, piece
    assert text.index("import math") < text.index("AXIS = -1") < text.index("def add_up(x):") < text.index("def mean")
    assert authoring.untouched(text, "projection") and authoring.untouched(text, "centred")
    assert "+" in found.diff and "A better toy lesson" in found.diff
    from course import checking

    assert checking.check_step(step, todos=["mean"])[0].passed


def test_given_code_is_the_new_versions_and_changed_parameters_are_told(step):
    given = toy.SOLUTION.replace("# TODO mean", "def helper(x):\n    return x + 1\n\n\n# TODO mean", 1)
    step.file("solution").write_text(given)
    learnt(step, given)
    newer = given.replace("return x + 1", "return x + 2").replace(
        "def centred(x: torch.Tensor)", "def centred(x: torch.Tensor, axis: int = -1)"
    )
    text = step.file("exercise").read_text()
    text = text.replace('raise NotImplementedError("TODO centred: write centred")', "return x - 1")
    step.file("exercise").write_text(text)
    step.file("solution").write_text(newer)
    found = one(step)
    assert "return x + 2" in step.file("exercise").read_text() and "return x + 1" in found.kept.read_text()
    assert any("helper: given code" in note for note in found.notes)
    assert any("centred: its parameters are (x: torch.Tensor, axis: int=-1) now" in note for note in found.notes)
    assert "return x - 1" in step.file("exercise").read_text()
    assert "look at  helper" in upgrade.report([found])


def test_a_todo_that_is_gone_is_kept(step):
    learnt(step)
    text, notes = upgrade.carry(
        step.file("exercise").read_text(),
        authoring.generate(toy.SOLUTION.replace("def mean", "def average").replace("mean(x)", "average(x)"), step),
    )
    assert "def average" in text and "def mean" in text and "# mine" in text
    assert any("no TODO mean" in note for note in notes)


def test_what_is_no_function_is_told(step):
    text = authoring.generate(toy.SOLUTION, step)
    start, stop = text.index("def mean"), text.index("class Projection")
    _, notes = upgrade.carry(text[:start] + "mean = torch.mean\n\n\n" + text[stop:], authoring.generate(NEWER, step))
    assert any("mean: not a function" in note for note in notes)


@pytest.mark.parametrize("style", ["merge", "diff3"])
def test_conflicts_that_git_left_are_read_as_the_learner_had_it(style):
    base = "||||||| base\nb = 0\n" if style == "diff3" else ""
    text = f"a = 1\n<<<<<<< HEAD\nb = 2\n{base}=======\nb = 3\n>>>>>>> origin/main\nc = 4\n"
    assert upgrade.resolved(text) == "a = 1\nb = 2\nc = 4\n"
    todo = 'raise NotImplementedError("TODO b: write b")'
    assert upgrade.resolved(text.replace("b = 2", todo)) == "a = 1\nb = 3\nc = 4\n", "a rebase has the sides swapped"
    assert upgrade.resolved("a = 1\n=======\n") == "a = 1\n=======\n", "a line of its own is no mark"


def test_a_file_that_is_no_python_stops_before_anything_is_changed(step, tmp_path):
    other = toy.lesson(tmp_path, name="other")
    for one_step in (step, other):
        one_step.file("solution").write_text(NEWER)
    learnt(step)
    other.file("exercise").write_text("def broken(:\n")
    before = step.file("exercise").read_text()
    with pytest.raises(CourseError, match="other/model_exercise.py, line 1.*nothing was changed"):
        upgrade.upgrade([step, other])
    assert step.file("exercise").read_text() == before and not list(tmp_path.rglob("*.backup-*"))


def git(folder, *arguments):
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, capture_output=True, text=True
    )
    return done


@pytest.fixture
def cloned(tmp_path):
    """(the author's repository, the learner's clone of it, the step in the clone)"""
    author, learner = tmp_path / "author", tmp_path / "learner"
    step = toy.lesson(author)
    git(author, "init", "-q", "-b", "main"), git(author, "add", "."), git(author, "commit", "-qm", "one")
    git(tmp_path, "clone", "-q", "author", "learner")
    step.file("solution").write_text(NEWER)
    authoring.build(which=[step])
    git(author, "commit", "-qam", "two")
    return author, learner, steps.Step("toy", "A toy", step.todos, 1, root=learner)


def test_a_pull_that_git_refused_is_done(cloned):
    author, learner, step = cloned
    before = learnt(step)
    assert git(learner, "pull", "--ff-only").returncode != 0, "git refuses: the exercise would be overwritten"
    assert step.file("exercise").read_text() == before
    found = one(step)
    text = step.file("exercise").read_text()
    assert found.kept.read_text() == before and "A better toy lesson" in text and "# mine" in text
    assert step.file("solution").read_text() == NEWER
    assert one(step).says == "up to date, with your code in it"


def test_a_stash_that_came_back_with_conflicts_is_resolved(cloned):
    author, learner, step = cloned
    learnt(step)
    text = step.file("exercise").read_text().replace('"""A toy lesson."""', '"""My toy lesson."""')
    step.file("exercise").write_text(text)
    git(learner, "stash"), git(learner, "pull", "--ff-only"), git(learner, "stash", "pop")
    assert "<<<<<<<" in step.file("exercise").read_text()
    one(step)
    text = step.file("exercise").read_text()
    assert "<<<<<<<" not in text and "# mine" in text and "A better toy lesson" in text


def test_if_git_refuses_all_the_same_everything_is_as_it_was(cloned):
    author, learner, step = cloned
    before = learnt(step)
    step.file("solution").write_text("# edited too\n" + step.file("solution").read_text())
    git(learner, "fetch")
    with pytest.raises(CourseError, match="exercises are as they were.*\n.*"):
        one(step)
    assert step.file("exercise").read_text() == before
