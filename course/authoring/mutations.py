"""Plausible wrong versions of a solution, made automatically: one small change each, in the body of one TODO.

`course audit` asks every check to reject them. The operators are those of mutation testing (DeMillo, Lipton and
Sayward 1978) and, for tensors, what learners do to them: a wrong type or device, a gradient cut off, an input changed
in place, a size taken from the first example.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from course.authoring.exercise import BEGIN, END
from course.authoring.source import Function, functions, split

COMPARE = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
OPERATE = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "//",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}
SWAPPED = {ast.Sub: "-", ast.Div: "/", ast.MatMult: "@", ast.Mod: "%", ast.Pow: "**"}  # the order of terms matters
FIRST = "size of the first example"
DEVICE = "device left out"  # can be seen only where there is another device than the CPU
Change = tuple[str, ast.expr | ast.stmt, str]  # which kind, the node to replace, its new text

# What a mutated source may call. Each notes in APPLIED that it found something to change: to detach the result of a
# function without gradients, say, makes no wrong answer.
PRELUDE = '''
import torch as _torch

APPLIED = set()
_SEEN = {}


def _tensors(value, change):
    if isinstance(value, _torch.Tensor):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(_tensors(part, change) for part in value)
    if type(value) is dict:
        return {key: _tensors(part, change) for key, part in value.items()}
    return value


def _first(key, value):
    """The value that this place had when it was first reached."""
    if not (type(value) is int or isinstance(value, tuple) and all(type(part) is int for part in value)):
        return value
    APPLIED.add("first")
    return _SEEN.setdefault(key, value)


def _changes_result(kind):
    def change(x):
        if kind == "type":
            other = {_torch.float32: _torch.float64, _torch.float64: _torch.float32, _torch.int64: _torch.int32,
                     _torch.bool: _torch.uint8}.get(x.dtype)
            if other is None:
                return x
            APPLIED.add(kind)
            return x.to(other)
        if kind == "device":
            APPLIED.add(kind)
            return x.to("cpu" if x.is_cuda else "meta")
        if not x.requires_grad:
            return x
        APPLIED.add(kind)
        return x.detach()

    def decorate(function):
        def changed(*args, **kwargs):
            return _tensors(function(*args, **kwargs), change)
        return changed
    return decorate


def _changes_input(function):
    def spoil(value):
        if isinstance(value, _torch.Tensor) and value.numel():
            value.data.copy_(~value.data if value.dtype == _torch.bool else value.data + 1)
        elif type(value) is list and value:
            value.append(value[-1])
        elif type(value) is dict and value:
            value.pop(next(iter(value)))
        else:
            return
        APPLIED.add("input")

    def changed(*args, **kwargs):
        result = function(*args, **kwargs)
        result = _tensors(result, lambda x: x.clone() if any(x is a for a in (*args, *kwargs.values())) else x)
        for value in (*args, *kwargs.values()):
            spoil(value)
        return result
    return changed
'''


@dataclass(frozen=True)
class Mutation:
    """One wrong version: `source` is the solution with the change in it."""

    function: str  # qualified: "Attention.forward"
    kind: str  # which operator made it
    line: int
    change: str  # "a + b -> a - b"
    source: str
    needs: str = ""  # what must be in the module's APPLIED for this to be a wrong answer at all

    @property
    def id(self) -> str:
        """How HARMLESS in a step's mistakes.py names it."""
        return f"{self.function}: {self.change}"


def mutations(source: str, todo: str) -> Iterator[Mutation]:
    """All mutations of one TODO of a solution, those that do not compile left out; ids are unique."""
    taken: dict[str, int] = {}
    for function in functions(source).values():
        if function.todo != todo:
            continue
        for kind, line, change, text, needs in _of_function(source, function):
            try:
                if ast.dump(ast.parse(text)) == ast.dump(ast.parse(source)):
                    continue
                text = _with_prelude(text) if needs else text
                compile(text, "<mutation>", "exec")
            except (SyntaxError, ValueError):
                continue
            key = f"{function.name}: {change}"
            taken[key] = taken.get(key, 0) + 1
            if taken[key] > 1:
                change = f"{change} (occurrence {taken[key]})"
            yield Mutation(function.name, kind, line, change, text, needs)


def _of_function(source: str, function: Function) -> Iterator[tuple[str, int, str, str, str]]:
    """(kind, line, change, mutated source, needs) for each change inside a function's body, then around the whole."""
    yield from _inside(source, function)
    yield from _around(source, function)


def _inside(source: str, function: Function) -> Iterator[tuple[str, int, str, str, str]]:
    """One syntax node between the markers replaced by other text."""
    text = Text(source)
    lines = enumerate(split(source), 1)
    marks = [n for n, line in lines if function.line < n <= function.last and line.strip() in (BEGIN, END)]
    done = set()
    for node in _walk(function.node):
        if getattr(node, "lineno", 0) not in range(*marks):
            continue
        for kind, old, new in _operators(node, text):
            start, stop = text.span(old)
            if (start, stop, new) in done:  # two operators may make the same of a place
                continue
            done.add((start, stop, new))
            change = "as in the first example" if kind == FIRST else " ".join(new.split())
            change = f"{' '.join(source[start:stop].split())} -> {change}"
            yield kind, old.lineno, change, source[:start] + new + source[stop:], "first" if kind == FIRST else ""


def _around(source: str, function: Function) -> Iterator[tuple[str, int, str, str, str]]:
    """A decorator from PRELUDE above the function, which changes its result or its inputs."""
    for kind, decorator, needs, change in (
        ("wrong type", '_changes_result("type")', "type", "the result's type changed"),
        ("wrong device", '_changes_result("device")', "device", "the result on another device"),
        ("no gradient", '_changes_result("gradient")', "gradient", "the result detached"),
        ("input changed", "_changes_input", "input", "the inputs changed in place"),
    ):
        lines = split(source)
        first = lines[function.first - 1]
        lines.insert(function.first - 1, f"{first[: len(first) - len(first.lstrip())]}@{decorator}\n")
        yield kind, function.line, change, "".join(lines), needs


def _walk(node) -> Iterator[ast.AST]:
    """ast.walk without what only words a message."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.JoinedStr):
            yield from _walk(child)


def _with_prelude(source: str) -> str:
    """PRELUDE before the first definition: docstring and imports come first."""
    lines = split(source)
    body = ast.parse(source).body
    first = next(node for node in body if not isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr)))
    where = min([first.lineno, *(decorator.lineno for decorator in getattr(first, "decorator_list", []))]) - 1
    return "".join(lines[:where]) + PRELUDE + "\n\n" + "".join(lines[where:])


class Text:
    """A source, and where its syntax nodes stand in it."""

    def __init__(self, source: str):
        self.source, self.starts = source, [0]
        self.lines = split(source)
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node: Any) -> tuple[int, int]:
        def place(line, column):  # ast counts columns in bytes
            return self.starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

        return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)

    def __getitem__(self, node) -> str:
        start, stop = self.span(node)
        return self.source[start:stop]


def _operators(node: Any, text: Text) -> Iterator[Change]:
    """Everything that can be done to one node."""
    if type(node) in OPERATORS:
        yield from OPERATORS[type(node)](node, text)
    yield from _first_size(node, text)


def _constant(node: ast.Constant, text: Text) -> Iterator[Change]:
    match node.value:
        case bool(value):
            yield "constant", node, str(not value)
        case int(value):
            yield "constant", node, str(value + 1)
            if value:
                yield "constant", node, str(value - 1)
        case float(value):
            yield "constant", node, repr(value * 2 if value else 1.0)


def _sign(node: ast.UnaryOp, text: Text) -> Iterator[Change]:
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            yield "constant", node, str(1 - value)
            yield "constant", node, str(-1 - value)
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert(), operand=operand):
            yield "dropped sign", node, f"({text[operand]})"


def _comparison(node: ast.Compare, text: Text) -> Iterator[Change]:
    if len(node.ops) == 1:
        yield "comparison", node, f"{text[node.left]} {COMPARE[type(node.ops[0])]} {text[node.comparators[0]]}"


def _and_or(node: ast.BoolOp, text: Text) -> Iterator[Change]:
    yield "dropped condition", node, f"({text[node.values[0]]})"
    yield "dropped condition", node, f"({text[node.values[-1]]})"


def _arithmetic(node: ast.BinOp, text: Text) -> Iterator[Change]:
    left, op, right = text[node.left], type(node.op), text[node.right]
    if op in OPERATE:
        yield "operator", node, f"({left} {OPERATE[op]} {right})"
    yield "dropped term", node, f"({left})"
    yield "dropped term", node, f"({right})"
    if op in (ast.Add, ast.Sub):
        yield "doubled term", node, f"({left} {'+' if op is ast.Add else '-'} 2 * ({right}))"
    if op in SWAPPED:
        yield "swapped terms", node, f"(({right}) {SWAPPED[op]} ({left}))"


def _condition(node: ast.If | ast.IfExp, text: Text) -> Iterator[Change]:
    yield "condition", node.test, "True"
    yield "condition", node.test, "False"


def _loop(node: ast.While, text: Text) -> Iterator[Change]:
    yield "condition", node.test, "False"  # True would have no end


def _statement(node: ast.stmt, text: Text) -> Iterator[Change]:
    yield "dropped statement", node, "pass"


def _expression_statement(node: ast.Expr, text: Text) -> Iterator[Change]:
    if isinstance(node.value, ast.Call):
        yield from _statement(node, text)


def _augmented(node: ast.AugAssign, text: Text) -> Iterator[Change]:
    yield from _statement(node, text)
    yield "operator", node, f"{text[node.target]} = {text[node.value]}"


def _slice(node: ast.Slice, text: Text) -> Iterator[Change]:
    match node:
        case ast.Slice(lower=ast.AST() as lower, upper=ast.AST() as upper, step=None):
            yield "slice", node, f":{text[upper]}"
            yield "slice", node, f"{text[lower]}:"
        case ast.Slice(lower=lower, upper=upper, step=None) if lower or upper:
            yield "slice", node, ":"


def _call(node: ast.Call, text: Text) -> Iterator[Change]:
    function, args, keywords = node.func, node.args, node.keywords
    starred = [isinstance(arg, ast.Starred) for arg in args]
    if len(args) >= 2 and not _symmetric(function) and not any(starred):
        yield "swapped arguments", node, _call_text(text, function, [args[1], args[0], *args[2:]], keywords)
    for keyword in keywords:
        if keyword.arg:
            kind = DEVICE if keyword.arg == "device" else "dropped argument"
            yield kind, node, _call_text(text, function, args, [other for other in keywords if other != keyword])
    if isinstance(function, ast.Attribute) and not _is_module(function.value):
        yield "dropped call", node, text[function.value]
    elif args and not starred[0]:
        yield "dropped call", node, f"({text[args[0]]})"


def _extreme(node: ast.Name | ast.Attribute, text: Text) -> Iterator[Change]:
    """max for min, and the other way round."""
    name = node.id if isinstance(node, ast.Name) else node.attr
    if name in ("max", "min"):
        yield "swapped names", node, text[node][:-3] + {"max": "min", "min": "max"}[name]


def _first_size(node: Any, text: Text) -> Iterator[Change]:
    """A size that stays what it was in the first example."""
    match node:
        case (
            ast.Subscript(value=ast.Attribute(attr="shape"), ctx=ast.Load())
            | ast.Call(func=ast.Name(id="len"))
            | ast.Call(func=ast.Attribute(attr="size"))
            | ast.Attribute(value=ast.Name(id="self"), ctx=ast.Load())
        ):
            key = f"{node.lineno}:{node.col_offset}"
            yield FIRST, node, f'_first("{key}", {text[node]})'
        case ast.Assign(value=ast.Attribute(attr="shape") as shape):
            yield FIRST, shape, f'_first("{node.lineno}", tuple({text[shape]}))'


OPERATORS: dict[type, Callable[..., Iterator[Change]]] = {
    ast.Constant: _constant,
    ast.UnaryOp: _sign,
    ast.Compare: _comparison,
    ast.BoolOp: _and_or,
    ast.BinOp: _arithmetic,
    ast.If: _condition,
    ast.IfExp: _condition,
    ast.While: _loop,
    ast.AugAssign: _augmented,
    ast.Assign: _statement,
    ast.Delete: _statement,
    ast.Raise: _statement,
    ast.Continue: _statement,
    ast.Break: _statement,
    ast.Expr: _expression_statement,
    ast.Slice: _slice,
    ast.Call: _call,
    ast.Name: _extreme,
    ast.Attribute: _extreme,
}


def _call_text(text: Text, function, args, keywords) -> str:
    parts = [text[arg] for arg in args]
    parts += [f"{k.arg}={text[k.value]}" if k.arg else f"**{text[k.value]}" for k in keywords]
    return f"{text[function]}({', '.join(parts)})"


def _symmetric(function) -> bool:
    """Whether a function gives the same for its first two arguments the other way round."""
    return getattr(function, "id", getattr(function, "attr", "")) in ("min", "max", "minimum", "maximum", "transpose")


def _is_module(node) -> bool:
    """Whether a call's left part names a module, as in `torch.cat` and `F.silu`; then it is no value to go on with."""
    return isinstance(node, ast.Name) and node.id in ("torch", "F", "nn", "math", "np", "re", "regex", "random", "self")
