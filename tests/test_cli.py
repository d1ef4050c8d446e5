"""The command line: help, names that do not exist, exit codes, what goes to whom."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from course import authoring, cli, steps
from course.checking import Finding
from course.errors import UsageError
from course.learner import progress
from course.machine import setup
from tests import toy

LEARNERS = tuple("learn check hint status run ask explain reset upgrade setup doctor export".split())
VERBS = (*LEARNERS, "grade", "release", "gradescope", "test", "lint", "build", "audit", "milestones")


@pytest.fixture(autouse=True)
def nothing_to_set_up(monkeypatch):
    monkeypatch.setattr(setup, "ensure", lambda *args: None)


def ends(capsys, *argv) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command."""
    try:
        status = cli.main(list(argv))
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, err


def test_help_shows_the_learners_verbs_first_and_every_verb_has_examples(capsys):
    status, out, err = ends(capsys, "--help")
    assert status == 0 and not err
    places = [out.index(f"\n  {verb}") for verb in VERBS]
    assert places == sorted(places) and out.index("for learners") < places[0] < out.index("for whoever works")
    for verb in VERBS:
        status, out, _ = ends(capsys, verb, "--help")
        assert status == 0 and f"usage: python3 -m course {verb}" in out and "examples\n  python3 -m course" in out


def test_no_verb_shows_the_help(capsys):
    status, out, _ = ends(capsys)
    assert status == 0 and "for learners" in out


@pytest.mark.parametrize(
    "argv, says",
    [
        (("chekc",), "choose from"),
        (("check", "step9"), "step1_tokenizer, step2_gpt, step3_pretrain, step4_sft, step5_rlhf, step6_vlm"),
        (("check", "step6.projektion"), "Did you mean projection?"),
        (("learn", "vlmm"), "step6_vlm"),
        (("run", "--steps", "step1,step7"), "step6_vlm"),
        (("run", "--steps", "step4-step2"), "goes backwards"),
        (("run", "--steps", ","), "names no step"),
        (("run", "--preset", "huge"), "smoke"),
        (("run", "--device", "tpu"), "auto, cpu, cuda"),
        (("run", "--seed", "x"), "--seed"),
        (("check", "--", "-x"), "(for pytest) take arguments after --"),
    ],
)
def test_unknown_names_get_the_list_of_what_there_is(capsys, argv, says):
    status, out, err = ends(capsys, *argv)
    assert status == 2 and says in err and "Traceback" not in err and not out


def test_names_are_looked_at_before_anything_is_installed(capsys, monkeypatch):
    def ensure(*args):
        raise AssertionError("set-up began")

    monkeypatch.setattr(setup, "ensure", ensure)
    assert ends(capsys, "check", "step9")[0] == 2
    assert ends(capsys, "run", "--help")[0] == 0


def test_lists_of_steps():
    names = [step.name for step in steps.STEPS]
    assert [step.name for step in cli.some_steps("step1,step3-step5")] == [names[0], *names[2:5]]
    assert [step.name for step in cli.some_steps("vlm, 1-2")] == [names[0], names[1], names[5]]
    with pytest.raises(UsageError):
        cli.some_steps("5-4")


def findings(*statuses):
    def check_step(step, *args, todos=None):
        step = steps.find_step(step)
        return [
            Finding(step.name, todo, status)
            for todo, status in zip(step.todos, statuses)
            if todos is None or todo in todos
        ]

    return check_step


def test_check_exits_0_only_if_all_pass(capsys, monkeypatch):
    from course import checking

    monkeypatch.setattr(checking, "check_step", findings("passed", "passed", "passed"))
    status, out, _ = ends(capsys, "check", "step4")
    assert status == 0 and "3 of 3 pass" in out
    monkeypatch.setattr(checking, "check_step", findings("passed", "not started", "wrong"))
    status, out, _ = ends(capsys, "check", "step4")
    assert status == 1 and "1 of 3 pass" in out and "step4.loss_mask: not started yet" in out
    assert ends(capsys, "check", "step4.chat_template")[0] == 0
    assert ends(capsys, "check", "step4.loss_mask")[0] == 1
    status, out, _ = ends(capsys, "check")
    assert status == 1 and out.count("not started yet") == len(steps.ROOMS)


def test_check_as_json(capsys, monkeypatch):
    from course import checking

    monkeypatch.setattr(checking, "check_solution", findings("passed", "wrong", "passed"))
    status, out, _ = ends(capsys, "check", "step5", "--solution", "--json")
    found = json.loads(out)
    assert status == 1 and [one["status"] for one in found] == ["passed", "wrong", "passed"]
    assert found[0]["id"] == "step5.sequence_logprobs"


def test_status_prints_the_table(capsys, monkeypatch):
    monkeypatch.setattr(progress, "table", lambda: "the table")
    assert ends(capsys, "status") == (0, "the table\n", "")


def test_hints_come_one_a_call_and_end_at_the_solution(capsys, monkeypatch):
    kept = {}
    monkeypatch.setattr(progress, "recall", lambda step, kind, key: kept.get(key))
    monkeypatch.setattr(progress, "remember", lambda step, kind, key, value: kept.update({key: value}))
    hints = [check.hints for check in steps.load("step6", "checks").CHECKS if check.id == "projection"][0]
    for i, hint in enumerate(hints, 1):
        status, out, _ = ends(capsys, "hint", "step6.projection")
        assert status == 0 and f"hint {i} of {len(hints)}" in out and hint in out
    for _ in range(2):
        status, out, _ = ends(capsys, "hint", "step6.projection")
        assert "step6_vlm/model_solution.py" in out and "Projection.forward, line" in out
    assert hints[0] in ends(capsys, "hint", "step6.projection", "--again")[1]
    status, _, err = ends(capsys, "hint", "step6")
    assert status == 2 and "step6.projection" in err


def test_reset_and_explain_say_what_they_did(capsys, monkeypatch, tmp_path):
    step = toy.lesson(tmp_path)
    monkeypatch.setattr(steps, "ROOMS", (step,))
    path = step.file("exercise")
    assert ends(capsys, "reset", "toy") == (0, "toy/model_exercise.py is untouched already.\n", "")
    status, _, err = ends(capsys, "explain", "toy.mean")
    assert status == 1 and "not started yet" in err and "hint toy.mean" in err
    path.write_text(authoring.transplant(path.read_text(), toy.SOLUTION, ["mean"]))
    status, out, _ = ends(capsys, "explain", "toy.mean")
    assert status == 0 and "Your code is the solution's" in out
    status, out, _ = ends(capsys, "reset", "toy.mean")
    (kept,) = step.folder.glob("*.backup-*")
    assert status == 0 and out == f"toy.mean is untouched again. What you had lies in toy/{kept.name}.\n"
    assert ends(capsys, "explain", "toy.mean")[0] == 1
    assert "course explain toy" not in ends(capsys, "explain", "toy")[2]
    path.write_text("def broken(:\n")
    status, _, err = ends(capsys, "reset", "toy.mean")
    assert status == 1 and "line 1" in err and "reset toy" in err and path.read_text() == "def broken(:\n"


@pytest.mark.parametrize(
    "argv, expected",
    [
        (("test",), ["-m", "pytest", "-m", "not slow", "-n", str(os.cpu_count()), "--dist", "loadgroup"]),
        (("test", "--all"), ["-m", "pytest", "-n", str(os.cpu_count()), "--dist", "loadgroup"]),
        (("test", "--", "-k", "rope", "-x"), ["-m", "pytest", "-m", "not slow", "-k", "rope", "-x"]),
    ],
)
def test_test_runs_pytest(capsys, monkeypatch, argv, expected):
    called = []
    monkeypatch.setattr(subprocess, "call", lambda command, cwd, env: called.append((command, cwd)) or 5)
    assert ends(capsys, *argv)[0] == 5
    assert called == [([sys.executable, *expected], steps.ROOT)]


def test_learn_opens_the_lesson(capsys, monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(subprocess, "call", lambda command, cwd: called.append(command) or 0)
    monkeypatch.setattr(
        progress,
        "status",
        lambda: {"step1_tokenizer": {"merge": "passed"}, "step2_gpt": {"rope": "passed", "block": "wrong"}},
    )
    for argv, name in ((("learn", "step6"), "step6_vlm"), (("learn",), "step2_gpt")):
        notebook = steps.find_step(name).folder / "tutorial.ipynb"
        status, out, err = ends(capsys, *argv)
        if notebook.exists():
            assert status == 0 and name in out
            assert f"--LabApp.default_url=/lab/tree/{name}/tutorial.ipynb" in called[-1]
            assert f"--ServerApp.root_dir={steps.ROOT}" in called[-1]  # all steps, not this one's folder alone
            assert called[-1][:3] == [sys.executable, "-m", "jupyterlab"]
        else:
            assert status == 1 and "tutorial.ipynb" in err
    assert ends(capsys, "learn", "step6", "--language", "zh")[0] == 0
    assert "--LabApp.default_url=/lab/tree/step6_vlm/tutorial.zh.ipynb" in called[-1]
    status, _, err = ends(capsys, "learn", "step6", "--language", "xx")
    assert status == 1 and "There is: tutorial.ipynb, tutorial.zh.ipynb" in err


def test_build_exits_by_its_report(capsys, monkeypatch):
    from course import authoring

    seen = []

    def build(check, force):
        seen.append((check, force))
        return authoring.Report(["a line"], ok=not check)

    monkeypatch.setattr(authoring, "build", build)
    monkeypatch.setattr(authoring, "generated", lambda *args, **options: None)
    assert ends(capsys, "build") == (0, "a line\n", "")
    assert ends(capsys, "build", "--check") == (1, "a line\n", "")
    assert seen == [(False, False), (True, False)]


def test_each_verb_asks_for_what_it_imports(monkeypatch):
    asked = {}

    def ensure(modules, argv, requirements):
        asked[argv[0]] = modules
        assert (requirements == "requirements-dev.txt") == (argv[0] == "lint")
        raise UsageError("enough")

    monkeypatch.setattr(setup, "ensure", ensure)
    for verb in VERBS:
        what = {
            "grade": [".", "--step", "step6", "--out", "."],
            "release": ["--to", "."],
            "gradescope": ["--step", "step6", "--out", "."],
            "ask": ["a.png", "What?"],
            "export": ["step6", "--to", "x"],
            "milestones": ["step6"],
            **dict.fromkeys(("hint", "explain", "reset"), ["step6.projection"]),
        }.get(verb, [])
        assert cli.main([verb, *what]) == 2
    assert asked.pop("setup") == () and "torch" not in asked.pop("lint")
    assert {*asked, "setup", "lint"} == set(VERBS) and all("torch" in modules for modules in asked.values())
    assert "jupyterlab" in asked["learn"] and "jupyterlab" not in asked["run"] and "pytest" in asked["test"]


def test_setup_hands_the_choice_on(capsys, monkeypatch):
    chosen = []
    monkeypatch.setattr(setup, "set_up", chosen.append)
    assert ends(capsys, "setup")[0] == ends(capsys, "setup", "--torch", "cuda")[0] == 0
    assert chosen == [None, "cuda"]
    status, _, err = ends(capsys, "setup", "--torch", "tpu")
    assert status == 2 and "cpu" in err


def test_a_broken_package_gets_a_sentence(capsys, monkeypatch):
    def broken(args, rest):
        raise ImportError("libcudart.so.13: cannot open shared object file", name="torch")

    broken.__name__ = "status"
    monkeypatch.setitem(cli.VERBS, "status", replace(cli.VERBS["status"], function=broken))
    status, _, err = ends(capsys, "status")
    assert status == 1 and "torch is installed here but does not start" in err


def test_it_starts_quickly_and_from_any_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, str(steps.ROOT / "course"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0 and "for learners" in done.stdout, done.stderr
