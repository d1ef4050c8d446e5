"""The heart of the course: a wrong answer never passes, a right one is never refused, and a finding helps."""

import collections
import json
import os
import random
import signal
import sys
import threading
import time
import types
import typing

import numpy as np
import pytest
import torch
from torch import nn

from course import checking, steps
from course.checking import Check, calling, compare, plain
from course.checking.values import NotPlain, fresh, untouched
from course.display import cards
from tests import toy

MEAN = "return x.sum(-1) / x.shape[-1]"


@pytest.fixture
def lesson(tmp_path):
    return toy.lesson(tmp_path)


def written(step, old, new, todo="mean", **options):
    """The finding for the toy solution with `old` replaced, as the learner's file."""
    assert toy.SOLUTION.count(old) == 1
    path = step.folder / "model_exercise.py"
    path.write_text(toy.SOLUTION.replace(old, new))
    (finding,) = checking.check_step(step, path, todos=[todo], **options)
    return finding


def mean(step, body, **options):
    return written(step, MEAN, body, **options)


# what passes


def test_the_solution_passes_and_the_untouched_exercise_is_not_started(lesson):
    assert [finding.status for finding in checking.check_solution(lesson)] == ["passed"] * 3
    findings = checking.check_step(lesson)
    assert [finding.status for finding in findings] == ["not started"] * 3
    for finding in findings:
        assert "Traceback" not in finding.text() and "NotImplementedError" not in finding.text()
        line = lesson.file("exercise").read_text().split("\n")[finding.line - 1]
        assert line.strip().startswith("def ") and f"line {finding.line}" in finding.text()


@pytest.mark.parametrize(
    "body",
    [
        "return x.mean(-1)",
        "return torch.stack([sum(row) / len(row) for row in x])",
        "return torch.einsum('bd->b', x) / x.size(1)",
        "print('looking at', x.shape)\n    return x.mean(dim=1)",
        "return nn.Parameter(torch.zeros(1).to(x)) * 0 + x.mean(-1)",
        "torch.set_grad_enabled(True)\n    return x.mean(-1)",
        "try:\n        return x.mean(-1)\n    finally:\n        pass",
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_right_ways_pass(lesson, body, dtype):
    assert mean(lesson, body, dtype=dtype).status == "passed"


def test_a_free_structure_passes_by_its_properties(lesson):
    for layer in ("nn.Sequential(nn.Linear(D, 11), nn.GELU(), nn.Linear(11, E))", "nn.Linear(D, E, bias=False)"):
        finding = written(lesson, "nn.Linear(D, E)", layer, "projection", dtype=torch.float64)
        assert finding.status == "passed", finding.text()


def test_a_right_answer_passes_though_what_it_builds_on_is_replaced(lesson):
    path = lesson.file("exercise")
    text = path.read_text().replace(
        'raise NotImplementedError("TODO centred: write centred")', "return x - x.mean(-1, keepdim=True)"
    )
    path.write_text(text)
    assert [finding.status for finding in checking.check_step(lesson)] == ["not started", "not started", "passed"]


# what does not


@pytest.mark.parametrize(
    "body, says",
    [
        ("x.sum(-1) / x.shape[-1]", "Is a `return` missing?"),
        ("pass", "Is a `return` missing?"),
        ("return x.mean(0)", "the shape"),
        ("return x.mean(-1).detach().double()", "dtype float64, not float32"),
        ("return x.mean(-1) + 1e-3", "3 of 3 values differ, by up to 0.001"),
        ("return x.mean(-1) * float('nan')", "NaN (not a number) in 3 of 3 places, first at [0]"),
        ("return x.mean(-1) / 0", "got "),
        ("return x.mean(-1).detach().numpy()", "NumPy array where a torch tensor belongs"),
        ("return float(x.mean())", "a float, not a tensor"),
        ("return [row.mean() for row in x]", "a list, not a tensor"),
        ("return (row.mean() for row in x)", "wrap it in list(...)"),
        ("return {1, 2}", "it is a set"),
        ("return x.mean(-1).to_sparse()", "layout"),
        ("return x.mean(-1).to('meta')", "meta"),
        ("return torch.zeros(1).expand(2 ** 40)", "far too large"),
        ("class Equal:\n        __eq__ = lambda self, other: True\n    return Equal()", "an object of type Equal"),
        ("class Equal(str):\n        __eq__ = lambda self, other: True\n    return Equal()", "an object of type Equal"),
        (
            "class Mine(torch.Tensor):\n        pass\n    return x.mean(-1).as_subclass(Mine)",
            "Mine, a subclass of torch.Tensor",
        ),
        (
            "class Mine(torch.Tensor):\n        @classmethod\n"
            "        def __torch_function__(c, f, t, a=(), k=None):\n            return True\n"
            "    return torch.zeros(3).as_subclass(Mine)",
            "a subclass of torch.Tensor",
        ),
        ("x *= 1.5\n    return x.mean(-1) / 1.5", "inputs"),
        ("return x.detach().mean(-1)", "no gradient reaches x"),
        ("return x.mean(-1) + x.sum() - x.sum().detach()", "grad['x']"),
        ("a = []\n    a.append(a)\n    return a", "nested too deeply"),
    ],
)
def test_wrong_answers_are_wrong_and_say_why(lesson, body, says):
    finding = mean(lesson, body)
    assert finding.status == "wrong" and says in finding.text(), finding.text()
    assert "called    mean(x [" in finding.text()


@pytest.mark.parametrize(
    "body, says, frame",
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero", "return 1 / 0"),
        ("y = x @ x\n    return y", "RuntimeError: mat1", "y = x @ x"),
        ("raise SystemExit(0)", "SystemExit: 0", "raise SystemExit"),
        ("import sys\n    sys.exit()", "ended the program", "sys.exit()"),
        ("raise KeyboardInterrupt", "interrupted here", "raise KeyboardInterrupt"),
        ("raise BaseException('x')", "BaseException: x", "raise BaseException"),
        ("raise GeneratorExit", "GeneratorExit", "raise"),
        ("return mean(x)", "RecursionError", "more"),
        ("y = x.mean()\n    raise NotImplementedError('TODO mean: write mean')", "still stands in your code", ""),
        ("raise NotImplementedError", "NotImplementedError", ""),
        (
            "class Bad(Exception):\n        def __str__(self):\n            raise ValueError\n    raise Bad",
            "cannot say",
            "",
        ),
    ],
)
def test_exceptions_show_the_learner_their_own_frames(lesson, body, says, frame):
    finding = mean(lesson, body)
    assert finding.status == "raised" and says in finding.text() and frame in finding.text(), finding.text()
    assert "judging.py" not in finding.text() and "helpers.py" not in finding.text()
    source = lesson.file("exercise").read_text().split("\n")
    assert source[finding.line - 1].strip() in body


def test_an_exception_tells_the_shapes(lesson):
    text = mean(lesson, "n = 4\n    y = x.T\n    return x + y").text()
    assert "x is [3, 5] float32" in text and "y is [5, 3] float32" in text and "n = 4" in text


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("def mean(x: torch.Tensor)", "def mean()", "are its parameters still those"),
        ("def mean(x: torch.Tensor)", "def mean(a: torch.Tensor)", "are its parameters still those"),
        ("def mean(x: torch.Tensor)", "def average(x: torch.Tensor)", "mean is no longer in the file"),
    ],
)
def test_a_changed_signature_is_named(lesson, old, new, says):
    finding = written(lesson, old, new)
    assert finding.status == "raised" and says in finding.text(), finding.text()


@pytest.mark.parametrize(
    "text, says",
    [
        ("def f(:\n    pass\n", "line 1"),
        ("import not_there\n", "not_there"),
        ("raise SystemExit\n", "SystemExit"),
        ("x = 1\n\0\n", "null bytes"),
        ("\ufeffx = 1 / 0\n", "division by zero"),
        ("  x = 1\n", "IndentationError"),
        ("import os\nos.environ['X_OF_MINE']\n", "X_OF_MINE"),
    ],
)
def test_a_file_that_cannot_be_imported(lesson, text, says):
    lesson.file("exercise").write_text(text, encoding="utf-8")
    findings = checking.check_step(lesson)
    assert [finding.status for finding in findings] == ["raised"] * 3
    assert says in findings[0].text() and "cannot be imported" in findings[0].text(), findings[0].text()


def test_binary_and_empty_files(lesson):
    for data in (b"\x89PNG\r\n\xff\xfe\x00", b"", b"\xff\xfex\x00"):
        lesson.file("exercise").write_bytes(data)
        assert not any(finding.passed for finding in checking.check_step(lesson))


ENDLESS = "while True:\n        try:\n            x = x\n        except Exception:\n            pass"


@pytest.mark.parametrize("how", ["the platform's own way", "without signals", "in another thread"])
def test_an_endless_loop_is_stopped(lesson, monkeypatch, how):
    if how == "without signals":  # Windows
        monkeypatch.delattr(signal, "setitimer", raising=False)
    module = steps.execute(toy.SOLUTION.replace(MEAN, ENDLESS), "mine.py", "mine")
    found = []
    look = threading.Thread(target=lambda: found.append(checking.check(lesson, module, "mean", seconds=0.2)))
    look.start() if how == "in another thread" else look.run()
    if look.ident:
        look.join(20)
    assert found[0].status == "raised" and "endless loop" in found[0].text() and found[0].line
    monkeypatch.undo()
    assert not hasattr(signal, "setitimer") or signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_call_in_another_thread_that_ends_in_time_is_left_alone():
    seen = []

    def work():
        with calling.limit(0.05):
            seen.append("done")
        time.sleep(0.2)
        seen.append("alive")

    thread = threading.Thread(target=work)
    thread.start(), thread.join(5)
    assert seen == ["done", "alive"]


def test_half_a_todo_is_not_started(lesson):
    text = lesson.file("exercise").read_text()
    lesson.file("exercise").write_text(
        text.replace(
            'raise NotImplementedError("TODO projection: write Projection.__init__")', "self.linear = nn.Linear(D, E)"
        )
    )
    finding = checking.check_step(lesson, todos=["projection"])[0]
    assert finding.status == "not started" and finding.note == "To write: Projection.forward."


def test_a_check_that_does_not_reach_a_part_does_not_pass_it(tmp_path):
    checks = toy.CHECKS.replace('return with_grad(module.mean, {"x": case["x"]}, case["weight"])', "return 1")
    step = toy.lesson(tmp_path, checks=checks)
    assert checking.check_step(step)[0].status == "not started"


# what builds on something else


def test_blocked_by_what_it_needs(lesson):
    finding = written(lesson, MEAN, "return x.sum(-1)", "centred")
    assert (finding.status, finding.blocked_by) == ("blocked", "mean") and "start there" in finding.text()
    assert not finding.mistake
    finding = written(lesson, MEAN, 'raise NotImplementedError("TODO mean: write mean")', "centred")
    assert (finding.status, finding.blocked_by) == ("blocked", "mean")
    finding = written(lesson, "x - mean(x)", "x + mean(x)", "centred")
    assert finding.status == "wrong"


# known mistakes


def test_every_mistake_is_rejected_and_recognised(lesson):
    a = checking.lesson(lesson)
    for todo, mistakes in a.mistakes.items():
        for mistake in mistakes:
            finding = checking.check(lesson, a.wrong(mistake), todo)
            assert finding.status in ("wrong", "raised") and finding.mistake == mistake.says, finding.text()
            assert mistake.says in finding.text()


def test_a_mistake_written_in_other_words_is_recognised(lesson):
    finding = mean(lesson, "total = 0\n    for column in x.T:\n        total = total + column\n    return total")
    assert finding.mistake_name == "sum"


def test_a_mistake_of_another_structure_is_recognised_by_its_properties(lesson):
    finding = written(lesson, "return self.linear(features)", "return self.linear(features.cumsum(1))", "projection")
    assert finding.mistake_name == "mixes patches" and "depends on other patches" in finding.text()


def test_an_unknown_fault_gets_nobody_elses_words(lesson):
    assert mean(lesson, "return x.mean(-1) * 3.3").mistake == ""


def test_mistakes_that_fail_alike_are_not_guessed_between(tmp_path):
    twin = """Mistake("twin", "return self.linear(features)",
                "return self.linear(features) + self.linear(features).flip(1).cumsum(1)", "Another reason."),
        Mistake("no weights","""
    step = toy.lesson(tmp_path, mistakes=toy.MISTAKES.replace('Mistake("no weights",', twin))
    finding = written(step, "return self.linear(features)", "return self.linear(features.cumsum(1)) * 3", "projection")
    assert finding.status == "wrong" and finding.mistake == ""


def test_a_todo_with_notes_in_its_docstring_is_still_not_started():
    step = steps.find_step("step4")
    text = checking.lesson(step).exercise()
    noted = text.replace("Turn a conversation into ids", "(ask about this!) Turn a conversation into ids")
    assert noted != text
    module = steps.execute(noted, step.file("exercise"), "noted", shown_as="<noted>")
    assert checking.check(step, module, "chat_template").status == "not started"


TWO_THINGS = {  # step, TODO, what stands there instead of what, and whose words it gets ("": nobody's)
    "the first of two faults": (
        "step5_rlhf",
        "sequence_logprobs",
        ".float().log_softmax(-1)",
        ".log_softmax(1)",
        "normalised over the positions",
    ),
    "another error of the same type": (
        "step6_vlm",
        "place_tokens",
        "return text.masked_scatter(places[..., None], torch.cat(tokens).to(text))",
        "return torch.stack([text, torch.cat(tokens)])",
        "",
    ),
}


@pytest.mark.parametrize("name, todo, old, new, words", TWO_THINGS.values(), ids=TWO_THINGS)
def test_a_mistake_is_named_for_what_is_shown(name, todo, old, new, words):
    source = steps.find_step(name).file("solution").read_text(encoding="utf-8")
    assert source.count(old) == 1
    module = steps.execute(
        source.replace(old, new), steps.find_step(name).file("solution"), "two_things", shown_as="<two>"
    )
    finding = checking.check(name, module, todo)
    assert not finding.passed and finding.mistake_name == words, finding.text()


def test_an_input_changed_in_place_is_called_that():
    source = steps.find_step("step5_rlhf").file("solution").read_text(encoding="utf-8")
    source = source.replace("chosen = beta * (policy_chosen - ", "chosen = beta * policy_chosen.sub_(")
    module = steps.execute(source, steps.find_step("step5_rlhf").file("solution"), "in_place", shown_as="<in place>")
    finding = checking.check("step5_rlhf", module, "dpo_loss")
    assert "changes its input in place: inputs['policy_chosen']" in finding.text(), finding.text()


def test_a_mistake_must_fit_its_solution_once():
    one = checking.Mistake("m", "a", "b", "says")
    assert one.applied("xax") == "xbx"
    for source in ("x", "aa"):
        with pytest.raises(ValueError, match="times, not once"):
            one.applied(source)


# what surrounds the call


def test_random_states_and_switches_are_put_back(lesson):
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    before = torch.get_rng_state().clone(), np.random.get_state()[1].tolist(), random.getstate(), os.getcwd()
    mean(
        lesson,
        "torch.rand(9); np.random.rand(); import random; random.random(); random.seed(1)\n"
        "    torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)\n"
        "    import os; os.chdir('/'); import sys; sys.stdout = None\n    return x.mean(-1)",
    )
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2] and os.getcwd() == before[3]
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled() and sys.stdout is not None


def test_checks_work_where_gradients_are_off(lesson):
    with torch.no_grad():
        assert all(finding.passed for finding in checking.check_solution(lesson))


def test_prints_are_kept_and_cut(lesson, capsys):
    finding = mean(lesson, "print('look', len(x))\n    return x.mean(-1)")
    assert finding.passed and "printed   look 3" in finding.text() and capsys.readouterr().out == ""
    finding = mean(lesson, "print('y' * 100000)\n    return x")
    assert len(finding.output) < 5000 and finding.output.endswith("... and more")


def test_cases_are_fresh_and_repeat_with_their_seed(lesson):
    check = checking.lesson(lesson).checks["mean"]
    one, same, other = (checking.make_cases(check, seed) for seed in (1, 1, 2))
    assert compare(one, same, 0, 0) == [] and compare(one, other) != []
    seeds = {checking.check(lesson, checking.lesson(lesson).solution, "mean").seed for _ in range(3)}
    assert len(seeds) == 3


def test_answers_cannot_be_kept_from_an_earlier_call(lesson):
    module = steps.execute(
        toy.SOLUTION.replace(MEAN, "global kept\n    kept = globals().get('kept', x.mean(-1))\n    return kept"),
        "mine.py",
        "mine",
    )
    assert not checking.check(lesson, module, "mean").passed


def test_an_edit_is_seen_at_once(lesson):
    assert mean(lesson, "return x").status == "wrong"
    assert mean(lesson, MEAN).status == "passed"
    lesson.file("checks").write_text(toy.CHECKS.replace('"the mean of each row"', '"another question"'))
    assert mean(lesson, "return x").asks == "another question"


def test_a_check_that_fails_its_solution_says_so(tmp_path):
    step = toy.lesson(tmp_path, checks=toy.CHECKS.replace("module.mean,", "module.median,"))
    with pytest.raises(RuntimeError, match="does not work on the solution"):
        checking.check_step(step, toy.lesson(tmp_path / "b").file("solution"), todos=["mean"])


def test_a_judge_that_stumbles_does_not_pass(tmp_path):
    step = toy.lesson(
        tmp_path, checks=toy.CHECKS.replace("found = []\n", 'found = []\n    answer["output"].nothing\n', 1)
    )
    assert checking.check_solution(step)[1].status == "wrong"


# the three parts apart, as a grader uses them


def test_call_and_judgement_come_apart(lesson):
    a = checking.lesson(lesson)
    check, learner = a.checks["mean"], steps.execute(toy.SOLUTION, "mine.py", "mine")
    for case in checking.make_cases(check, 7):
        answer = checking.answered(check, learner, case)
        assert plain(answer.value) and answer.after.keys() == case.keys()
        expected = checking.answered(check, a.solution, case).value
        assert checking.problems(check, case, answer, expected) == []
        answer.value["output"][0] += 1
        assert [problem.property for problem in checking.problems(check, case, answer, expected)] == ["output values"]


# findings


def test_a_finding_in_three_forms(lesson, monkeypatch):
    finding = mean(lesson, "print('<b>')\n    return x.sum(-1)")
    text, card = finding.text(), finding.html()
    for part in (
        "toy.mean: not right yet",
        "the mean of each row",
        "mean(x [3, 5])",
        "tensor [3] float32",
        "the first difference is at [0]",
        "divide by how many",
        "What is summed",
    ):
        assert part in text
        assert part in card or part == "toy.mean: not right yet"
    assert "&lt;b&gt;" in card and "<b>\n" not in card
    assert json.loads(json.dumps(finding.to_dict()))["status"] == "wrong"
    assert finding._repr_html_() == card
    magic = types.SimpleNamespace(verbs=("hint",))
    notebook = types.SimpleNamespace(find_line_magic={"course": magic}.get)
    monkeypatch.setattr(cards, "shell", lambda: notebook)  # one that knows %course
    assert finding._repr_html_() == card.replace("python3 -m course hint", "%course hint") != card
    assert finding._repr_mimebundle_() == {"text/plain": text, "text/html": finding._repr_html_()}
    assert finding.command == "python3 -m course hint toy.mean"


def test_check_file_shows_and_returns_nothing(lesson, capsys):
    exercise = lesson.file("exercise")
    assert checking.check_file(exercise, "mean") is None
    assert "toy.mean: not started yet" in capsys.readouterr().out
    module = steps.load(lesson, "exercise")
    exercise.write_text(exercise.read_text().replace('raise NotImplementedError("TODO mean: write mean")', MEAN))
    assert module.test_mean() is None  # the module is old, the file counts
    assert "toy.mean: passed" in capsys.readouterr().out


def test_under_pytest_an_exercise_does_not_pass_quietly(lesson, monkeypatch):
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "toy/model_exercise.py::test_mean (call)")
    with pytest.raises(AssertionError, match="not started yet"):
        checking.check_file(lesson.file("exercise"), "mean")


# values


def test_plain_values():
    value = plain(
        {
            "a": (1, 2.5, True, None),
            b"b": [torch.ones(2, requires_grad=True)],
            (1, 2): np.float32(3),
            "r": range(2),
            "c": collections.Counter("aab"),
            "s": torch.Size([1, 2]),
            "p": nn.Parameter(torch.ones(1)),
            "t": torch.ones(3).topk(1),
            "y": bytearray(b"z"),
        }
    )
    assert value["a"] == [1, 2.5, True, None] and value[(1, 2)] == 3.0 and value["c"] == {"a": 2, "b": 1}
    assert not value[b"b"][0].requires_grad and type(value["p"]) is torch.Tensor and value["s"] == [1, 2]
    assert value["r"] == [0, 1] and value["y"] == b"z" and len(value["t"]) == 2
    one = torch.ones(2)
    assert plain(one).data_ptr() != one.data_ptr()


def test_a_subclass_of_tuple_or_dict_is_what_is_in_it():
    class Pair(typing.NamedTuple):
        left: int
        right: int

    class Zeros(dict):
        def __missing__(self, key):
            return 0

    class Liar(tuple):
        def __iter__(self):
            return iter([1, 2])

        def __eq__(self, other):
            return True

        def __repr__(self):
            raise ValueError("not to be called")

        __hash__ = tuple.__hash__

    value = plain({"pair": Pair(1, 2), "zeros": Zeros({Pair(3, 4): 5}), "liar": Liar([7]), "key": {Liar([8]): 9}})
    assert value == {"pair": [1, 2], "zeros": {(3, 4): 5}, "liar": [7], "key": {(8,): 9}}
    assert type(value["zeros"]) is dict and {type(key) for one in ("zeros", "key") for key in value[one]} == {tuple}
    for odd in (type("Odd", (list,), {})([1]), type("Odd", (int,), {})(1), type("Odd", (str,), {})("a")):
        with pytest.raises(NotPlain):
            plain(odd)


@pytest.mark.parametrize(
    "answer, expected, property",
    [
        (1, 1, None),
        (1, 1.0, None),
        (1.0, 1, "answer type"),
        (True, 1, "answer type"),
        (1, True, "answer type"),
        (torch.tensor(2.0), 2.0, None),
        (2.0, torch.tensor(2.0), "answer type"),
        (torch.tensor(2), 2, None),
        (torch.tensor(2.0), 2, "answer type"),
        (torch.tensor(True), True, None),
        (0.1 + 0.2, 0.3, None),
        (float("nan"), 1.0, "answer nan"),
        (float("nan"), float("nan"), None),
        (float("inf"), float("inf"), None),
        (float("inf"), 1.0, "answer values"),
        (1.0, float("inf"), "answer values"),
        (-float("inf"), float("inf"), "answer values"),
        ("a", "a", None),
        ("a", b"a", "answer type"),
        ("ab", "ac", "answer values"),
        ("", "a", "answer values"),
        (None, None, None),
        (None, 1, "answer type"),
        (0, None, "answer type"),
        ([], [], None),
        ([1], [], "answer length"),
        ([1, 2], [1, 3], "answer[1] values"),
        ([1], {0: 1}, "answer type"),
        ({"a": 1}, {"a": 2}, "a values"),
        ({"a": 1}, {"b": 1}, "answer keys"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, None),
        ({(1, 2): 3}, {(1, 2): 3}, None),
    ],
)
def test_compare_plain_values(answer, expected, property):
    found = compare(answer, expected)
    assert [one.property for one in found] == ([property] if property else [])


@pytest.mark.parametrize(
    "answer, expected, property",
    [
        (torch.ones(2, 3), torch.ones(2, 3), None),
        (torch.ones(3, 2), torch.ones(2, 3), "answer shape"),
        (torch.ones(2), torch.ones(2, 1), "answer shape"),
        (torch.ones(2).long(), torch.ones(2), "answer dtype"),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "answer values"),
        (torch.tensor([True]), torch.tensor([False]), "answer values"),
        (torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 2.0]), "answer nan"),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, float("nan")]), "answer values"),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), None),
        (torch.tensor([float("-inf"), 1]), torch.tensor([float("-inf"), 1]), None),
        (torch.tensor([1e30]), torch.tensor([float("inf")]), "answer values"),
        (torch.tensor([float("inf")]), torch.tensor([1e30]), "answer values"),
        (torch.ones(2) + 1e-6, torch.ones(2), None),
        (torch.ones(2) + 1e-3, torch.ones(2), "answer values"),
        (torch.zeros(0, 3), torch.zeros(0, 3), None),
        (torch.ones(2).bfloat16() * 1.01, torch.ones(2).bfloat16(), None),
        (torch.ones(1) * 1j, torch.ones(1) * 1j, None),
        (torch.ones(1) * 1j, torch.ones(1) * 2j, "answer values"),
        (torch.ones(1) * 1j, torch.ones(1), "answer dtype"),
        (None, torch.ones(1), "answer type"),
    ],
)
def test_compare_tensors(answer, expected, property):
    found = compare(answer, expected)
    assert [one.property for one in found] == ([property] if property else [])


def test_where_the_first_difference_is_and_how_large():
    answer, expected = torch.zeros(2, 3), torch.zeros(2, 3)
    answer[1, 0], answer[1, 2] = 0.5, -2.0
    (found,) = compare({"output": answer}, {"output": expected})
    assert found.text == (
        "output: the first difference is at [1, 0]: expected 0, got 0.5; 2 of 6 values differ, by up to 2"
    )
    (found,) = compare([5, 6, 9, 1], [5, 6, 7])
    assert found.text == "answer has 4 items, not 3; the first difference is at [2]"
    (found,) = compare("abxdef", "abcdef")
    assert "from position 2 on: expected 'cdef', got 'xdef'" in found.text


# helpers for authors


def test_between_is_fair_to_both_ends():
    generator = torch.Generator().manual_seed(0)
    assert {checking.between(generator, 3, 5) for _ in range(50)} == {3, 4, 5}
    assert checking.between(generator, 7, 7) == 7


def test_attempt_names_what_is_raised():
    def raises(error):
        raise error

    assert checking.attempt(lambda: 5) == (5, "", "")
    assert checking.attempt(lambda: raises(ValueError("no"))) == (None, "ValueError", "no")
    assert checking.attempt(lambda: raises(UnicodeError("no"))) == (None, "ValueError", "no")  # it is a ValueError
    assert checking.attempt(lambda: raises(UnicodeError("no")), KeyError) == (None, "UnicodeError", "no")
    assert checking.attempt(lambda: raises(KeyError(3)), wanted=KeyError) == (None, "KeyError", "3")
    with pytest.raises(NotImplementedError):  # a TODO that is not written yet is no refusal
        checking.attempt(lambda: raises(NotImplementedError("TODO rope: write apply_rope")))


def test_with_grad():
    x, w = torch.randn(2, 3), torch.randn(2, 3)
    result = checking.with_grad(lambda x, n: x * x * n, {"x": x, "n": 3}, w)
    assert (
        torch.allclose(result["grad"]["x"], 6 * x * w) and torch.equal(result["inputs"]["x"], x) and not x.requires_grad
    )
    layer = nn.Linear(3, 2)
    result = checking.with_grad(lambda x: layer(x).sum(), {"x": x}, None, layer)
    assert result["parameters"].keys() == {"weight", "bias"} and result["grad"]["x"].shape == (2, 3)
    result = checking.with_grad(lambda x, y: (x + 1, y), {"x": x, "y": w}, [w, w])
    assert torch.equal(result["grad"]["y"], w)
    for wrong in (None, torch.ones(3), "text", x.sum(), (x, x)):
        assert checking.with_grad(lambda x, wrong=wrong: wrong, {"x": x}, w)["grad"] == {"x": None}
    changed = checking.with_grad(lambda x: x.mul_(2), {"x": x}, w)
    assert torch.equal(changed["inputs"]["x"], 2 * x) and torch.equal(changed["grad"]["x"], 2 * w)


def test_like_follows_the_case():
    case = {"ids": torch.ones(2, 3).long(), "deep": [{"x": torch.ones(1, dtype=torch.float64)}]}
    layer = checking.like(case, nn.Linear(2, 3), {"weight": torch.ones(3, 2), "bias": torch.zeros(3)})
    assert layer.weight.dtype == torch.float64 and layer.weight.sum() == 6
    with pytest.raises(RuntimeError):
        checking.like(case, nn.Linear(2, 3), {"weight": torch.ones(3, 2)})


def test_the_stand_in_is_a_language_model():
    torch.manual_seed(0)
    B, T, V, D = 2, 7, 11, 5
    model, ids = checking.StandInLM(V, D).double(), torch.randint(0, V, (B, T))
    logits, loss = model(ids)
    assert logits.shape == (B, T, V) and loss is None
    embeds = model.get_input_embeddings()(ids)
    assert torch.equal(model(inputs_embeds=embeds)[0], logits)

    other = ids.clone()
    other[:, 4] = (other[:, 4] + 1) % V  # the past does not see the future; the future sees the past
    assert torch.equal(model(other)[0][:, :4], logits[:, :4]) and not torch.allclose(
        model(other)[0][:, 6], logits[:, 6]
    )

    cache = checking.StandInCache()
    parts = [model(part, cache=cache)[0] for part in ids.split([3, 1, 3], 1)]
    assert torch.allclose(torch.cat(parts, 1), logits) and cache.length == T

    padded = torch.cat([torch.zeros(B, 2, dtype=torch.long), ids], 1)
    mask = torch.cat([torch.zeros(B, 2), torch.ones(B, T)], 1)
    assert torch.allclose(model(padded, attention_mask=mask)[0][:, 2:], logits)
    cache = checking.StandInCache()
    model(padded[:, :4], attention_mask=mask[:, :4], cache=cache)
    assert torch.allclose(model(padded[:, 4:], attention_mask=mask, cache=cache)[0], logits[:, 2:])

    labels = ids.clone()
    labels[:, :3] = -100
    _, loss = model(ids, labels=labels)
    chosen = logits.log_softmax(-1)[:, 2:-1].gather(-1, ids[:, 3:, None])
    assert torch.allclose(loss, -chosen.mean())


def test_an_empty_tensor_has_its_empty_gradient_whether_it_is_used_or_not():
    inputs = {"x": torch.ones(3, 2), "none": torch.ones(0, 2)}
    for fn in (lambda x, none: x.sum(), lambda x, none: torch.cat([x, none]).sum()):
        grad = checking.with_grad(fn, inputs)["grad"]
        assert grad["none"].shape == (0, 2) and torch.equal(grad["x"], torch.ones(3, 2))


def test_checks_have_defaults_that_show_the_call(tmp_path):
    check = Check("c", "asks", lambda module, case: 1, lambda g: [{"x": torch.ones(2, 3), "n": 4}])
    from course.checking.verdict import _shown

    assert _shown(check, {"x": torch.ones(2, 3), "n": 4}) == "c(x = tensor [2, 3] float32, n = 4)"


def test_time_limits_do_not_outlive_their_body():
    with calling.limit(5):
        pass
    with calling.limit(None):
        pass
    assert not hasattr(signal, "setitimer") or signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda case: case["x"].add_(1),
        lambda case: case["x"].data.mul_(2),
        lambda case: case["ids"].append(3),
        lambda case: case.update(more=1),
        lambda case: case.pop("x"),
        lambda case: case["ids"].__setitem__(0, True),
    ],
    ids=["in place", "past autograd", "longer", "a new key", "a lost key", "1 and True"],
)
def test_an_input_is_untouched_only_as_long_as_nothing_changes(change):
    case = {"x": torch.tensor([1.0, float("inf")]), "ids": [1, 2], "text": "a"}
    handed = fresh(case)
    assert untouched(handed, case)
    change(handed)
    assert not untouched(handed, case)


def test_a_small_number_among_large_ones_is_as_exact_as_they_are():
    """One of two right ways to a gradient was refused, for one seed in many."""
    expected, answer = torch.tensor([29.5, -0.0137976]), torch.tensor([29.5, -0.0137805])
    assert compare(answer, expected) == []
    assert compare(answer.double(), expected.double()) and compare(answer, expected, 1e-4, 0.0)
    assert compare(answer * torch.tensor([1 / 29.5, 1]), expected * torch.tensor([1 / 29.5, 1]))
    assert compare(torch.tensor([float("inf"), 1.0]), torch.tensor([float("inf"), 1.001]))


def test_a_check_computes_with_all_digits_on_a_gpu_too():
    """Convolutions there round to three digits, in other places for other batches: a right answer was refused."""
    from course.checking import calling

    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = True
        with calling.same_world(1):
            assert not any(switch.allow_tf32 for switch in switches)
        assert all(switch.allow_tf32 for switch in switches)
    finally:
        for switch, value in zip(switches, before):
            switch.allow_tf32 = value
