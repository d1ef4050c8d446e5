"""The list of steps: names, look-ups, and loading a file as it is now."""

import subprocess
import sys
import traceback

import pytest

from course import steps


def test_the_list():
    assert [step.number for step in steps.STEPS] == list(range(1, len(steps.STEPS) + 1))
    for step in steps.STEPS:
        assert step.folder == steps.ROOT / step.name and step.title and step.hours > 0
        assert len(set(step.todos)) == len(step.todos) and all(todo.isidentifier() for todo in step.todos)
        assert step.short == f"step{step.number}" and step.file("exercise").name == "model_exercise.py"


@pytest.mark.parametrize("text", ["6", 6, "step6", "step6_vlm", "vlm", "VLM", " step6 ", "step6_vlm/", "./step6_vlm"])
def test_a_step_by_its_names(text):
    assert steps.find_step(text) is steps.STEPS[5]
    assert steps.find_step(steps.STEPS[5]) is steps.STEPS[5]


def test_a_todo_by_its_names():
    assert steps.find("step6.projection") == (steps.STEPS[5], "projection")
    assert steps.find("vlm.projection") == (steps.STEPS[5], "projection")
    assert steps.find("projection") == (steps.STEPS[5], "projection")
    assert steps.find("step6_vlm") == (steps.STEPS[5], None)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(steps.UnknownName, match=r"Did you mean projection\?.*patch_embed"):
        steps.find("step6.projektion")
    with pytest.raises(steps.UnknownName, match="step1_tokenizer.*step6_vlm"):
        steps.find("step9")
    with pytest.raises(steps.UnknownName):
        steps.find("")


def test_loading_shows_the_current_text(tmp_path):
    step = steps.Step("toy", "A toy", ("a",), 1, root=tmp_path)
    step.folder.mkdir()
    step.file("exercise").write_text("value = 1\n")
    first = steps.load(step, "exercise")
    step.file("exercise").write_text("value = 2\n")  # the same size and, often, the same second
    second = steps.load(step, "exercise")
    assert (first.value, second.value) == (1, 2) and first.__name__ != second.__name__
    assert sys.modules[second.__name__] is second
    steps.forget(second)
    assert second.__name__ not in sys.modules
    steps.forget(first)


def test_dataclasses_and_tracebacks_work_in_a_loaded_file(tmp_path):
    step = steps.Step("toy", "A toy", ("a",), 1, root=tmp_path)
    step.folder.mkdir()
    step.file("exercise").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n"
        "@dataclass\nclass C:\n    a: int = 1\n\n\ndef f():\n    return 1 / 0  # here\n"
    )
    module = steps.load(step, "exercise")
    assert module.C().a == 1 and module.__file__ == str(step.file("exercise"))
    try:
        module.f()
    except ZeroDivisionError:
        assert "return 1 / 0  # here" in traceback.format_exc()
    steps.forget(module)


def test_a_file_that_raises_leaves_no_module_behind(tmp_path):
    step = steps.Step("toy", "A toy", ("a",), 1, root=tmp_path)
    step.folder.mkdir()
    step.file("exercise").write_text("raise RuntimeError('no')\n")
    before = set(sys.modules)
    with pytest.raises(RuntimeError):
        steps.load(step, "exercise")
    assert not [name for name in set(sys.modules) - before if name.startswith("course_toy")]
    with pytest.raises(FileNotFoundError):
        steps.load(step, "checks")


def test_the_list_comes_without_torch():
    code = "import sys, course.learner.progress, course.chain, course.authoring\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=steps.ROOT, check=True)
