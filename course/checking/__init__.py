"""Checks: what is asked of a TODO, and what is said about an answer.

A lesson's checks.py imports from here and nothing else of ours. A check has three parts, and only one touches the
learner's code: `cases(generator)` makes random inputs, `call(module, case)` runs the code and returns plain values,
`judge(case, answer, expected)` looks at values only, where `expected` is what the same call makes of the solution.

What an author writes    parts.py (Check, Mistake, Problem), helpers.py, standin.py
Running and judging      calling.py, judging.py, values.py, verdict.py, finding.py
Both sides of a verdict  subject.py (whose answers), reference.py (what they are judged against), stored.py, lessons.py
What is remembered       record.py, states.py
Between processes        wire.py
Are the checks right?    audit.py
"""

import importlib
from pathlib import Path

# Loaded when asked for: most of these import torch, which takes seconds, and `course status` can do without. A grading
# process has only some of the files.
_FACE = {
    "finding": ("Finding", "display"),
    "helpers": ("attempt", "between", "like", "with_grad"),
    "judging": ("Answer", "answered", "make_cases", "problems"),
    "lessons": ("Lesson", "lesson"),
    "parts": ("Check", "Mistake", "Problem"),
    "standin": ("StandInCache", "StandInLM"),
    "values": ("NotPlain", "compare", "describe", "plain"),
    "verdict": ("check", "check_file", "check_solution", "check_step", "imported"),
}
_THERE = {path.stem for path in Path(__file__).parent.glob("*.py")}
_FILE = {name: file for file, names in _FACE.items() if file in _THERE for name in names}
__all__ = list(_FILE)


def __getattr__(name: str):
    if name not in _FILE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FILE[name]}"), name)
