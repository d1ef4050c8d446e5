"""What grading costs: `python3 -m benchmarks.grading [--otter PYTHON]`.

Three measurements, on this machine, in one run:

- 200 right submissions of step 6, from the folder to the last report, and the grader's memory after 20 and 200;
- what a submission costs on top of the student's own computing, one at a time: the time from the file to the
  findings, less what the child spends in executing the file and in the checks' calls (the functions, and their
  gradients), by its own clock; beside it, what the same calls take in this process, which has made them before;
- three trivial tasks beside otter-grader, seconds per submission. otter-grader lives in an environment of its
  own (benchmarks/requirements.txt); `--otter` names its Python.
"""

import argparse
import contextlib
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch

from benchmarks.rounds import machine
from course import authoring, steps
from course.checking import answered, lesson
from course.checking.reference import Reference
from course.grading import grade as grading
from course.grading import stage
from course.grading.marking import findings
from course.grading.runner import Batch

TASKS = '''"""Three trivial tasks."""


# TODO add
def add(a, b):
    ### BEGIN SOLUTION
    return a + b
    ### END SOLUTION


# TODO double
def double(numbers):
    ### BEGIN SOLUTION
    return [2 * number for number in numbers]
    ### END SOLUTION


# TODO reverse
def reverse(text):
    ### BEGIN SOLUTION
    return text[::-1]
    ### END SOLUTION
'''
CHECKS = """
import torch
from course.checking import Check


def cases(g):
    for _ in range(5):
        yield {"numbers": torch.randint(100, (2,), generator=g).tolist()}


CHECKS = [Check("add", "a sum", lambda module, case: module.add(*case["numbers"]), cases),
          Check("double", "twice each", lambda module, case: module.double(case["numbers"]), cases),
          Check("reverse", "backwards", lambda module, case: module.reverse(str(case["numbers"])), cases)]
"""
OTTER_TEST = """OK_FORMAT = True
test = {{"name": "{name}", "points": 1, "suites": [{{"scored": True, "setup": "", "teardown": "", "type": "doctest",
        "cases": [{{"code": ">>> assert {call}", "hidden": False, "locked": False}} for _ in range(5)]}}]}}
"""
OTTER_CALLS = {"add": "add(2, 3) == 5", "double": "double([1, 2]) == [2, 4]", "reverse": "reverse('abc') == 'cba'"}
OTTER_RUN = """
import sys, time
from otter.api import grade_submission
for _ in range({count}):
    start = time.perf_counter()
    result = grade_submission("submission.py", "autograder.zip", quiet=True)
    print("took", time.perf_counter() - start, result.total)
"""


def memory() -> float:
    """This process's resident memory in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def a_class(folder: Path, source: str, count: int) -> Path:
    for number in range(count):
        place = folder / f"student{number:03}"
        place.mkdir(parents=True)
        (place / "model_exercise.py").write_text(f"{source}# {number}\n")
    return folder


def whole_class(step, count: int) -> dict:
    """`count` right submissions through the verb itself."""
    held = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = authoring.filled(lesson(step).source, step)
        submissions = a_class(place / "in", source, count)

        def say(line):
            if " of " in line and line.startswith("  "):
                held.append(memory())

        start = time.perf_counter()
        grading.grade(grading.Settings(submissions, step, place / "out", trusted=True), say)
        seconds = time.perf_counter() - start
        wrong = [
            path
            for path in (place / "out" / "results").iterdir()
            if '"status": "failed"' in path.read_text(encoding="utf-8")
        ]
        assert not wrong and len(held) == count, "right submissions were marked down"
    return {"count": count, "seconds": seconds, "memory": (held[min(19, count - 1)], held[-1])}


# After the calls of the stage: each says how long it took, and the child's prints come back with the answers.
TIMED = """
import time as _time
def _timed(call):
    def timed(module, case):
        start = _time.perf_counter()
        try:
            return call(module, case)
        finally:
            print("took", _time.perf_counter() - start)
    return timed
for _check in CHECKS.values():
    _check.call = _timed(_check.call)
"""


def on_top(step, count: int) -> dict:
    """Seconds per submission beyond the student's own computing, as the child measures that."""
    material = lesson(step)
    head, _, rest = authoring.filled(material.source, step).partition("\nimport ")
    source = (
        f"{head}\nimport time; _start = time.perf_counter()\nimport {rest}\n"
        "print('took', time.perf_counter() - _start)\n"
    ).encode()
    reference = Reference(material, 1)
    torch.set_num_threads(1)

    def warm() -> float:
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            module = steps.execute(source, "model_exercise.py", "benchmark")
        for check in material.checks.values():
            for case in reference.cases(check):
                answered(check, module, case, seed=2)
        steps.forget(module)
        return time.perf_counter() - start

    calls, start = stage.calls, time.perf_counter()
    with (
        mock.patch.object(stage, "calls", lambda *given: calls(*given) + TIMED),
        Batch(reference, trusted=True) as batch,
    ):
        once, more, own, again = time.perf_counter() - start, [], [], [warm()]
        for _ in range(count):
            start = time.perf_counter()
            answers = batch.run(source)
            verdicts = findings(reference, answers)
            whole = time.perf_counter() - start
            assert all(finding.passed for finding in verdicts)
            took = re.findall(r"took (\S+)", answers.printed + "".join(answers.output.values()))
            assert len(took) == 1 + sum(len(reference.cases(check)) for check in material.checks.values())
            own.append(sum(map(float, took)))
            more.append(whole - own[-1])
            again.append(warm())
        level = batch.level.says
    return {
        "once": once,
        "own": statistics.median(own),
        "more": statistics.median(more),
        "level": level,
        "warm": statistics.median(again[1:]),
        "p95": sorted(more)[int(0.95 * (len(more) - 1))],
    }


def trivial(count: int) -> float:
    """Our seconds per submission of the three trivial tasks, without what is paid once a batch."""
    with tempfile.TemporaryDirectory() as folder:
        step = steps.Step("trivial", "Three trivial tasks", ("add", "double", "reverse"), 1, root=Path(folder))
        step.folder.mkdir()
        step.file("solution").write_text(TASKS)
        step.file("checks").write_text(CHECKS)
        step.file("mistakes").write_text("MISTAKES = {}\n")
        reference = Reference(lesson(step), 1)
        source = authoring.filled(TASKS, step).encode()
        with Batch(reference, trusted=True) as batch:
            start = time.perf_counter()
            for _ in range(count):
                assert all(finding.passed for finding in findings(reference, batch.run(source)))
            return (time.perf_counter() - start) / count


def otter(python: str, count: int) -> float | None:
    """otter-grader's seconds per submission of the same three tasks; None where it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "tests").mkdir()
        for name, call in OTTER_CALLS.items():
            (place / "tests" / f"{name}.py").write_text(OTTER_TEST.format(name=name, call=call))
        (place / "submission.py").write_text(TASKS)
        made = subprocess.run(
            [python, "-m", "otter", "generate", "-t", "tests", "-o", "autograder.zip", "--no-environment"],
            cwd=place,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            return None
        done = subprocess.run([python, "-c", OTTER_RUN.format(count=count)], cwd=place, capture_output=True, text=True)
        took = [line.split() for line in done.stdout.splitlines() if line.startswith("took ")]
        assert len(took) == count and all(float(total) == 3 for _, _, total in took), done.stderr[-2000:]
        return statistics.median(float(seconds) for _, seconds, _ in took)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--otter", default=sys.executable, help="a Python that has otter-grader")
    arguments.add_argument("--count", type=int, default=200, help="submissions of step 6")
    args = arguments.parse_args()
    step, where = steps.find_step("step6"), machine()
    theirs, ours = otter(args.otter, 5), trivial(40)
    top = on_top(step, 20)
    whole = whole_class(step, args.count)
    before, after = whole["memory"]
    print(f"{where}, {os.getloadavg()[0]:.1f} after the end; torch {torch.__version__}; {top['level']}.\n")
    print("| | |\n|---|---|")
    print(f"| once a batch | {top['once']:.1f} s |")
    print(f"| on top of the student's own computing, median of 20 (95%) | {top['more']:.3f} s ({top['p95']:.3f} s) |")
    print(f"| the student's own computing in the child, step 6 | {top['own']:.3f} s |")
    print(f"| the same calls, with their checks' care, in a process that has made them before | {top['warm']:.3f} s |")
    print(f"| {whole['count']} right submissions of step 6, with all reports | {whole['seconds']:.0f} s |")
    print(f"| the grader's memory after 20 and after {whole['count']} | {before:.0f} MB, {after:.0f} MB |")
    print(f"| three trivial tasks, per submission | {ours:.3f} s |")
    print(
        "| otter-grader on the same | "
        + (
            "not installed: see benchmarks/requirements.txt |"
            if theirs is None
            else f"{theirs:.2f} s, {theirs / ours:.0f} times as long |"
        )
    )


if __name__ == "__main__":
    main()
