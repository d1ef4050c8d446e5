"""The rules for notebooks: committed without outputs, one test cell per TODO, plots told in words, code that compiles.
A translation (tutorial.zh.ipynb) has the cells of the lesson, one by one, and the same code in them.
"""

import ast
import json
import re

from course.steps import Step

LESSON = "tutorial.ipynb"
TEST_CELL = re.compile(r"^\s*model_exercise\.test_(\w+)\(\)\s*$", re.MULTILINE)


def code_cells(text: str) -> list[str]:
    """The sources of a notebook's code cells."""
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]


def stripped(text: str) -> str:
    """A notebook's text without outputs, execution counts and traces of who ran it, laid out the same every time."""
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


def problems(text: str, step: Step) -> list[str]:
    """What breaks the rules in a notebook of this step; an empty list when nothing does."""
    faults, called = [], tests_called(text)
    for todo in step.todos:
        if called.count(todo) != 1:
            faults.append(f"`model_exercise.test_{todo}()` is called {called.count(todo)} times, not once")
    faults += [
        f"`model_exercise.test_{todo}()` is no TODO of this step" for todo in sorted(set(called) - set(step.todos))
    ]
    for number, cell in enumerate(code_cells(text), 1):
        if "plt.show(" in cell:
            faults.append(f"code cell {number} shows a plot without words: plots.show(figure, text)")
        if re.search(r"^\s*[%!]", cell, re.MULTILINE):
            continue  # magics are IPython's, not Python's
        try:
            compile(cell, f"code cell {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            faults.append(f"code cell {number} does not compile: {error}")
    return faults


def translates(name: str) -> bool:
    """Whether a file's name is that of a lesson in another language: tutorial.zh.ipynb."""
    return re.fullmatch(r"tutorial\.[a-z]{2}\.ipynb", name) is not None


def with_code_of(lesson: str, text: str) -> str:
    """A translation's text with the lesson's code in every code cell that has the id of one of the lesson's."""
    code = {cell["id"]: cell["source"] for cell in json.loads(lesson)["cells"] if cell["cell_type"] == "code"}
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = code.get(cell["id"], cell["source"])
    return stripped(json.dumps(notebook))


def translation_problems(lesson: str, text: str) -> list[str]:
    """Where a translation has other cells than the lesson, other code, headings of other levels, or speaks of other
    names (what stands in `backticks`).
    """
    cells, translated = json.loads(lesson)["cells"], json.loads(text)["cells"]
    ids = [(cell["id"], cell["cell_type"]) for cell in cells]
    translated_ids = [(cell["id"], cell["cell_type"]) for cell in translated]
    if ids != translated_ids:
        faults = [f"cell {name} is not in the lesson" for name, _ in translated_ids if name not in dict(ids)]
        faults += [f"cell {name} of the lesson is missing" for name, _ in ids if name not in dict(translated_ids)]
        return faults or ["the cells stand in another order than in the lesson"]
    faults = []
    for cell, its_translation in zip(cells, translated):
        name, source, other = cell["id"], "".join(cell["source"]), "".join(its_translation["source"])
        if cell["cell_type"] == "code":
            if source != other:
                faults.append(f"cell {name} has other code than in the lesson")
        elif re.findall(r"^#+ ", source, re.MULTILINE) != re.findall(r"^#+ ", other, re.MULTILINE):
            faults.append(f"cell {name} has other headings than in the lesson")
        elif names := set(re.findall(r"`[^`\n]+`", source)) ^ set(re.findall(r"`[^`\n]+`", other)):
            faults.append(f"cell {name}: {', '.join(sorted(names))} only here or only in the lesson")
    return faults
