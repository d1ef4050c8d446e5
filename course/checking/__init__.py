"""Checks: what is asked of a TODO, and what is said about an answer.

A lesson's checks.py imports from here and nothing else of ours. A check has three parts, and only one touches
the learner's code: `cases(generator)` makes random inputs, `call(module, case)` runs the code and returns
plain values, `judge(case, answer, expected)` looks at values only, where `expected` is what the same call
makes of the solution.
"""

from course.checking.finding import Finding, display
from course.checking.helpers import like, with_grad
from course.checking.judging import Answer, answered, make_cases, problems
from course.checking.lessons import Lesson, lesson
from course.checking.parts import Check, Mistake, Problem
from course.checking.standin import StandInCache, StandInLM
from course.checking.values import NotPlain, compare, describe, plain
from course.checking.verdict import check, check_file, check_solution, check_step, imported

__all__ = [
    "Answer",
    "Check",
    "Finding",
    "Lesson",
    "Mistake",
    "NotPlain",
    "Problem",
    "StandInCache",
    "StandInLM",
    "answered",
    "check",
    "check_file",
    "check_solution",
    "check_step",
    "compare",
    "describe",
    "display",
    "imported",
    "lesson",
    "like",
    "make_cases",
    "plain",
    "problems",
    "with_grad",
]
