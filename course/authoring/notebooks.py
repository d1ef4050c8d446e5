"""The rules for notebooks: committed without outputs, one test cell per TODO, code that compiles."""

import ast
import json
import re

TEST_CELL = re.compile(r"^\s*model_exercise\.test_(\w+)\(\)\s*$", re.MULTILINE)


def code_cells(text: str) -> list[str]:
    """The sources of a notebook's code cells."""
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]


def stripped(text: str) -> str:
    """A notebook's text without outputs, execution counts and traces of who ran it, laid out the same
    every time.
    """
    notebook = json.loads(text)
    if not isinstance(notebook, dict) or "cells" not in notebook:
        raise ValueError("no cells")
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"] = {key: value for key, value in cell.get("metadata", {}).items() if key == "tags"}
        cell.setdefault("id", f"cell-{number:02}")
        source = cell["source"]
        cell["source"] = source.splitlines(keepends=True) if isinstance(source, str) else source
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def tests_called(text: str) -> list[str]:
    """The TODOs whose test a notebook's cells call, in order, with repetitions."""
    return [todo for cell in code_cells(text) for todo in TEST_CELL.findall(cell)]


def problems(text: str, step) -> list[str]:
    """What breaks the rules in a notebook of this step; an empty list when nothing does."""
    found, called = [], tests_called(text)
    for todo in step.todos:
        if called.count(todo) != 1:
            found.append(f"`model_exercise.test_{todo}()` is called {called.count(todo)} times, not once")
    found += [
        f"`model_exercise.test_{todo}()` is no TODO of this step"
        for todo in sorted(set(called) - set(step.todos))
    ]
    for number, cell in enumerate(code_cells(text), 1):
        if re.search(r"^\s*[%!]", cell, re.MULTILINE):
            continue            # magics are IPython's, not Python's
        try:
            compile(cell, f"code cell {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            found.append(f"code cell {number} does not compile: {error}")
    return found
