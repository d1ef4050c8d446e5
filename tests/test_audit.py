"""The audit: what it changes, what it counts, and that no wrong answer of the whole course passes."""

import ast
import subprocess
import sys

import pytest

from course import steps
from course.authoring.mutations import mutations
from course.checking import audit
from tests import toy

EVERYTHING = """
import torch


# TODO f
def f(x, n, names, flag=False):
    ### BEGIN SOLUTION
    if n < 3 and not flag:
        raise ValueError(f"{n + 1} is too small")
    total = 0.5
    total += x.sum() - n
    y = torch.where(x > 0, x, -x).float()
    size = x.shape[-1]
    names.append(max(n, 7))
    return y[1:-1] / size + total if names else None
    ### END SOLUTION
"""


def changes(source, todo="f"):
    return {one.change: one for one in mutations(source, todo)}


def test_each_operator_makes_what_it_says():
    made = changes(EVERYTHING)
    for change in (
        "n < 3 -> n <= 3",
        "n < 3 and not flag -> (n < 3)",
        "n < 3 and not flag -> True",
        "not flag -> (flag)",
        "3 -> 4",
        "3 -> 2",
        "0.5 -> 1.0",
        "x.sum() - n -> (x.sum() + n)",
        "x.sum() - n -> (x.sum())",
        "x.sum() - n -> (x.sum() - 2 * (n))",
        "x.sum() - n -> ((n) - (x.sum()))",
        "total += x.sum() - n -> total = x.sum() - n",
        "total += x.sum() - n -> pass",
        "torch.where(x > 0, x, -x) -> torch.where(x, x > 0, -x)",
        "torch.where(x > 0, x, -x).float() -> torch.where(x > 0, x, -x)",
        "-x -> (x)",
        "x.shape[-1] -> as in the first example",
        "-1 -> 0",
        "-1 -> -2",
        "names.append(max(n, 7)) -> pass",
        "max -> min",
        "1:-1 -> :-1",
        "1:-1 -> 1:",
        "names -> False",
        "the result's type changed",
        "the result on another device",
        "the result detached",
        "the inputs changed in place",
    ):
        assert change in made, change
    assert "n + 1 -> (n - 1)" not in made, "what words a message is left alone"
    assert "max(n, 7) -> max(7, n)" not in made, "max does not mind the order"
    assert len({one.id for one in mutations(EVERYTHING, "f")}) == len(list(mutations(EVERYTHING, "f")))


def test_every_mutation_is_another_program_that_compiles():
    for one in mutations(EVERYTHING, "f"):
        assert ast.dump(ast.parse(one.source)) != ast.dump(ast.parse(EVERYTHING)), one.id
        compile(one.source, one.id, "exec")


def test_places_in_lines_with_wide_characters():
    source = EVERYTHING.replace("total = 0.5", 'total = {"ё中👍": 0.5}["ё中👍"]')
    assert 'total = {"ё中👍": 1.0}["ё中👍"]' in changes(source)["0.5 -> 1.0"].source


def test_a_sound_check_lets_nothing_through(tmp_path):
    result = audit.audit_todo(toy.lesson(tmp_path), "mean")
    assert (result.catalogued, result.caught, result.named) == (3, 3, 3)
    assert result.automatic == result.rejected > 10 and result.survivors == []
    assert audit.problems([result]) == []


def test_a_size_taken_from_the_first_example_is_seen_only_if_sizes_differ(tmp_path):
    same = toy.CHECKS.replace("((3, 5), (2, 7))", "((3, 5), (2, 5))")
    survivors = audit.audit_todo(toy.lesson(tmp_path, checks=same), "mean").unexplained
    assert [one.id for one in survivors] == ["mean: x.shape[-1] -> as in the first example"]


def test_a_check_that_forgets_the_gradient_is_found_out(tmp_path):
    blind = toy.CHECKS.replace(
        'return with_grad(module.mean, {"x": case["x"]}, case["weight"])', 'return module.mean(case["x"])'
    )
    result = audit.audit_todo(toy.lesson(tmp_path, checks=blind), "mean")
    assert "detached" in [one.id for one in result.survivors], "a catalogued mistake that passes"
    assert result.caught == 2
    found = audit.problems([result])
    assert any("detached passes" in one for one in found) and any("only 2 of 3" in one for one in found)


def test_what_is_harmless_is_said_and_what_is_stale_too(tmp_path):
    same = toy.CHECKS.replace("((3, 5), (2, 7))", "((3, 5), (2, 5))")
    harmless = 'HARMLESS = {"mean": {"mean: x.shape[-1] -> as in the first example": "so", "mean: gone": "no"}}\n'
    result = audit.audit_todo(toy.lesson(tmp_path, checks=same, mistakes=toy.MISTAKES + harmless), "mean")
    assert [one.reason for one in result.survivors] == ["so"] and result.unexplained == []
    assert result.stale == ["mean: gone"] and "no longer there" in audit.problems([result])[0]


def test_an_input_can_only_be_spoilt_where_there_is_one(tmp_path):
    """A decorator that found nothing to do has made no wrong answer."""
    result = audit.audit_todo(toy.lesson(tmp_path), "projection")
    assert any("__init__: the result" in one for one in result.unreached)
    assert not any("forward: the result detached" in one for one in result.unreached)


def test_the_command_tells_and_exits(tmp_path):
    command = [sys.executable, "-m", "course", "audit", "step4.loss_mask"]
    done = subprocess.run(command, cwd=steps.ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    row = done.stdout.splitlines()[1].split()
    assert row[0] == "step4.loss_mask" and row[1] == row[2] and int(row[4]) >= 15
    assert "No wrong answer passes." in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("step", steps.ROOMS, ids=lambda step: step.name)
def test_no_wrong_answer_passes(step):
    results = audit.audit([(step, todo) for todo in step.todos], workers=2)
    assert audit.problems(results) == []
    assert sum(one.automatic for one in results) > 50
