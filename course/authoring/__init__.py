"""Solution to exercise, TODO bodies in and out of files, the rules for notebooks."""

from course.authoring.exercise import (
    AuthorError,
    Report,
    backup,
    build,
    edited,
    filled,
    generate,
    pristine,
    reset,
    write,
)
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
    "backup",
    "build",
    "edited",
    "filled",
    "functions",
    "generate",
    "graft",
    "pristine",
    "reset",
    "same_function",
    "split",
    "todo_functions",
    "transplant",
    "untouched",
    "unwritten",
    "write",
]
