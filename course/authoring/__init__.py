"""Solution to exercise, TODO bodies in and out of files, the rules for notebooks.

source.py     whole functions in and out of a file, by qualified name
exercise.py   from solution to exercise
notebooks.py  the rules for notebooks
mutations.py  plausible wrong versions of a solution, made automatically
lint.py       style, layout, types, spelling, links
"""

from course.authoring.exercise import AuthorError, Report, build, edited, filled, generate, generated
from course.authoring.source import (
    Function,
    functions,
    graft,
    same_function,
    split,
    todo_functions,
    transplant,
    untouched,
    unwritten,
)

__all__ = [
    "AuthorError",
    "Function",
    "Report",
    "build",
    "edited",
    "filled",
    "functions",
    "generate",
    "generated",
    "graft",
    "same_function",
    "split",
    "todo_functions",
    "transplant",
    "untouched",
    "unwritten",
]
