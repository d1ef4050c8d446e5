"""Whole functions in and out of a file, by qualified name: the one mechanism behind generate, reset, upgrade and chain.

Everything here works on source text with `ast` positions, runs none of it, and leaves the rest of the text
byte for byte. A SyntaxError in a text comes through.
"""

import ast
import copy
import functools
import hashlib
import io
import re
import textwrap
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass

MARK = re.compile(r"#\s*TODO\s+([A-Za-z]\w*)\s*$")  # the line above a function that belongs to a TODO


Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """Where a function stands: lines count from 1; `first` includes decorators, `last` its trailing comments."""

    name: str  # qualified: "Projection.forward"
    node: Definition
    first: int
    last: int
    todo: str | None  # from the `# TODO id` line directly above it

    @property
    def line(self) -> int:
        return self.node.lineno


def split(source: str) -> list[str]:
    """Lines with their ends, cut where Python's parser cuts (str.splitlines also cuts at form feeds and others)."""
    return list(io.StringIO(source, newline=""))


@functools.lru_cache(maxsize=64)  # a step's checks ask for the same two sources dozens of times
def functions(source: str) -> dict[str, Function]:
    """Every function and method of a source by qualified name; of two with one name the last, as in Python."""
    lines, by_name = split(source), {}

    def visit(body, prefix):
        for node in body:
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = min([node.lineno] + [decorator.lineno for decorator in node.decorator_list])
                above = MARK.match(lines[first - 2].strip()) if first > 1 else None
                name = prefix + node.name
                by_name[name] = Function(name, node, first, _last(lines, node), above and above.group(1))
            else:
                for part in ("body", "orelse", "finalbody"):  # an `if` or `try` around definitions
                    visit(getattr(node, part, []), prefix)

    visit(ast.parse(source).body, "")
    return by_name


def _last(lines, node) -> int:
    """The last line of a function with the comments that follow its last statement and are indented deeper than it."""
    last = node.end_lineno
    for number in range(node.end_lineno, len(lines)):
        text = lines[number].strip()
        if text and not (text.startswith("#") and _indent(lines[number]) > node.col_offset):
            break
        if text:
            last = number + 1
    return last


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def todo_functions(source: str) -> dict[str, list[str]]:
    """The TODOs that a solution or exercise marks: {id: [qualified names]}, in the order of the file."""
    names: dict[str, list[str]] = {}
    for function in functions(source).values():
        if function.todo:
            names.setdefault(function.todo, []).append(function.name)
    return names


def unwritten(source: str, todo: str) -> list[Function]:
    """The functions in which `raise NotImplementedError("TODO <todo>...")` still stands, in the order of the file."""

    def stands(node):
        return (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
            and node.exc.func.id == "NotImplementedError"
            and bool(node.exc.args)
            and isinstance(node.exc.args[0], ast.Constant)
            and re.match(rf"TODO {re.escape(todo)}\b", str(node.exc.args[0].value)) is not None
        )

    return [
        function for function in functions(source).values() if any(stands(node) for node in ast.walk(function.node))
    ]


def untouched(source: str, todo: str) -> bool:
    """Whether nothing of this TODO is written yet: all of its functions still raise NotImplementedError("TODO ...").

    Its functions are those marked `# TODO <todo>`; a function whose mark was lost counts as long as it raises.
    """
    waiting = {function.name for function in unwritten(source, todo)}
    return bool(waiting) and waiting.issuperset(todo_functions(source).get(todo, ()))


def same_function(source: str, other: str, name: str) -> bool:
    """Whether both sources define `name` with the same code; comments, layout and docstring do not count."""
    function, other_function = functions(source).get(name), functions(other).get(name)
    if function is None or other_function is None:
        return False
    bare, other_bare = _bare(function.node), _bare(other_function.node)
    return len(bare.body) == len(other_bare.body) and ast.dump(bare) == ast.dump(other_bare)


def _bare(function: Definition) -> Definition:
    """A function without its docstring."""
    bare = copy.copy(function)
    bare.body = function.body[ast.get_docstring(function, clean=False) is not None :]
    return bare


def transplant(target: str, donor: str, names: Iterable[str]) -> str:
    """`target` with the functions `names` replaced by the donor's of the same qualified name.

    From the first decorator to the last comment in the body; the `# TODO` line above stays the target's. A
    function that the target lacks is added at the end of its class or of the file. Raises KeyError, with the
    qualified name, for one that the donor lacks or whose class the target lacks.
    """
    lines, old = split(target), functions(target)
    donor_lines, new = split(donor), functions(donor)
    newline = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    edits = []
    for name in names:
        if name not in new:
            raise KeyError(name)
        body = _dedented(donor_lines, new[name])
        if name in old:
            first, last, column = old[name].first, old[name].last, _prefix(lines[old[name].first - 1])
        else:
            first, last, column = _end_of_scope(target, name, len(lines))
            body = [""] + body if column else ["", ""] + body
        if _spans(body):
            body = _reindented(body, column)
        else:
            body = [column + line if line.strip() else "" for line in body]
        edits.append((first, last, body))
    for first, last, body in sorted(edits, key=lambda edit: edit[0], reverse=True):
        ends = last >= len(lines) and lines and not lines[-1].endswith(("\n", "\r")) and first <= last
        text = newline.join(body) + ("" if ends else newline)
        if first > len(lines) and lines and not lines[-1].endswith(("\n", "\r")):
            text = newline + text
        lines[first - 1 : last] = [text]
    return "".join(lines)


def _prefix(line: str) -> str:
    return line[: _indent(line)]


def _inside_strings(text: str) -> set[int]:
    """The lines (from 1) that begin inside a string of several lines and so must not be indented anew."""
    inside: set[int] = set()
    opened: list[int] = []
    starts = {getattr(tokenize, kind, None) for kind in ("FSTRING_START", "TSTRING_START")} - {None}
    stops = {getattr(tokenize, kind, None) for kind in ("FSTRING_END", "TSTRING_END")} - {None}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING:
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
        elif token.type in starts:
            opened.append(token.start[0])
        elif token.type in stops:
            inside.update(range(opened.pop() + 1, token.end[0] + 1))
    return inside


def _dedented(lines: list[str], function: Function) -> list[str]:
    """A function's lines without line ends, moved to the left margin; the insides of long strings stay as they are."""
    body = [line.rstrip("\r\n") for line in lines[function.first - 1 : function.last]]
    prefix = _prefix(body[0])
    if not prefix:
        return body
    # `if 1:` makes the indented function a text that tokenize accepts as it is
    inside = {number - 1 for number in _inside_strings("if 1:\n" + "\n".join(body) + "\n")}
    return [
        line if number in inside or not line.startswith(prefix) else line[len(prefix) :]
        for number, line in enumerate(body, 1)
    ]


def _spans(body: list[str]) -> bool:
    return any('"""' in line or "'''" in line or line.endswith("\\") for line in body)


def _reindented(body: list[str], column: str) -> list[str]:
    inside = _inside_strings("\n".join(body) + "\n")
    return [line if number in inside or not line else column + line for number, line in enumerate(body, 1)]


def _end_of_scope(target: str, name: str, count: int) -> tuple[int, int, str]:
    """Where a function that is not there goes: (first, last, indentation) of an empty range of lines."""
    lines = split(target)
    scope: ast.Module | ast.ClassDef = ast.parse(target)
    owner, _, _ = name.rpartition(".")
    for part in filter(None, owner.split(".")):
        classes = [node for node in scope.body if isinstance(node, ast.ClassDef) and node.name == part]
        if not classes:
            raise KeyError(name)
        scope = classes[-1]
    if isinstance(scope, ast.Module):
        return count + 1, count, ""
    last = max(_last(lines, scope.body[-1]), scope.end_lineno or 0)
    return last + 1, last, _prefix(lines[scope.body[0].lineno - 1])


def graft(target: str, fragment: str, names: Iterable[str]) -> str:
    """`target` with a fragment of somebody else's code in place: the functions `names` that it defines, and
    what they bring along (imports, helper functions, constants, further methods of the same classes).

    Alternatives in tests/alternatives come in by this door. Raises KeyError where the fragment has none of `names`.
    """
    defined = functions(fragment)
    wanted = [name for name in names if name in defined]
    if not wanted:
        raise KeyError(", ".join(names))
    classes = {name.partition(".")[0] for name in wanted if "." in name}
    helpers = [name for name in defined if "." in name and name not in wanted and name.partition(".")[0] in classes]
    lines, extra = split(fragment), []
    for node in ast.parse(fragment).body:
        if getattr(node, "name", None) in classes | set(wanted) or isinstance(node, ast.Expr):
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        first = min([node.lineno] + [decorator.lineno for decorator in getattr(node, "decorator_list", [])])
        extra += lines[first - 1 : node.end_lineno] + ["\n"]
    result = transplant(target, fragment, wanted + helpers)
    return before_definitions(result, textwrap.dedent("".join(extra)) + "\n") if extra else result


def before_definitions(source: str, code: str) -> str:
    """`source` with more code in front of its first function or class, and of the comments above that one."""
    first = next(node for node in ast.parse(source).body if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
    where, lines = min([first.lineno] + [decorator.lineno for decorator in first.decorator_list]) - 1, split(source)
    while where and lines[where - 1].startswith("#"):
        where -= 1
    return "".join(lines[:where] + [code] + lines[where:])


def fingerprint_of(source: str | bytes) -> str:
    """A hash of what a Python source does: comments, layout and docstrings do not count."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body:
            if isinstance(body[0], ast.Expr) and isinstance(getattr(body[0], "value", None), ast.Constant):
                node.body = body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
