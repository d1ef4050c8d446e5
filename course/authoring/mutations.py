"""Plausible wrong versions of a solution, made automatically: one small change each, in the body of one TODO.

`course audit` asks every check to reject them. The operators are those of mutation testing (DeMillo, Lipton and
Sayward 1978) and, for tensors, what learners do to them: a wrong type or device, a gradient cut off, an input changed
in place, a size taken from the first example.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

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
FIRST = "size of the first example"
DEVICE = "device left out"  # can be seen only where there is another device than the CPU

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


def _of_function(source: str, function: Function):
    text = Text(source)
    inside = range(
        *(
            number
            for number, line in enumerate(split(source), 1)
            if function.line < number <= function.last and line.strip() in (BEGIN, END)
        )
    )
    done = set()
    for node in _walk(function.node):
        if getattr(node, "lineno", 0) not in inside:
            continue
        for kind, old, new in _operators(node, text):
            start, stop = text.span(old)
            if (start, stop, new) in done:  # two operators may make the same of a place
                continue
            done.add((start, stop, new))
            shown = "as in the first example" if kind == FIRST else " ".join(new.split())
            shown = f"{' '.join(source[start:stop].split())} -> {shown}"
            yield kind, old.lineno, shown, source[:start] + new + source[stop:], "first" if kind == FIRST else ""
    for kind, decorator, needs, shown in (
        ("wrong type", '_changes_result("type")', "type", "the result's type changed"),
        ("wrong device", '_changes_result("device")', "device", "the result on another device"),
        ("no gradient", '_changes_result("gradient")', "gradient", "the result detached"),
        ("input changed", "_changes_input", "input", "the inputs changed in place"),
    ):
        lines = split(source)
        first = lines[function.first - 1]
        lines.insert(function.first - 1, f"{first[: len(first) - len(first.lstrip())]}@{decorator}\n")
        yield kind, function.line, shown, "".join(lines), needs


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
    where = min([first.lineno, *(one.lineno for one in getattr(first, "decorator_list", []))]) - 1
    return "".join(lines[:where]) + PRELUDE + "\n\n" + "".join(lines[where:])


class Text:
    """A source, and where its syntax nodes stand in it."""

    def __init__(self, source: str):
        self.source, self.starts = source, [0]
        self.lines = split(source)
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node) -> tuple[int, int]:
        def place(line, column):  # ast counts columns in bytes
            return self.starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

        return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)

    def __getitem__(self, node) -> str:
        start, stop = self.span(node)
        return self.source[start:stop]


def _operators(node, text: Text):
    """(kind, the node to replace, its new text) for everything that can be done to one node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield "constant", node, str(not value)
        case ast.Constant(value=int(value)):
            yield "constant", node, str(value + 1)
            if value:
                yield "constant", node, str(value - 1)
        case ast.Constant(value=float(value)):
            yield "constant", node, repr(value * 2 if value else 1.0)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            yield "constant", node, str(1 - value)
            yield "constant", node, str(-1 - value)
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert(), operand=operand):
            yield "dropped sign", node, f"({text[operand]})"
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            yield "comparison", node, f"{text[left]} {COMPARE[type(op)]} {text[right]}"
        case ast.BoolOp(values=[first, *_, last]):
            yield "dropped condition", node, f"({text[first]})"
            yield "dropped condition", node, f"({text[last]})"
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in OPERATE:
                yield "operator", node, f"({text[left]} {OPERATE[type(op)]} {text[right]})"
            yield "dropped term", node, f"({text[left]})"
            yield "dropped term", node, f"({text[right]})"
            if isinstance(op, (ast.Add, ast.Sub)):
                sign = "+" if isinstance(op, ast.Add) else "-"
                yield "doubled term", node, f"({text[left]} {sign} 2 * ({text[right]}))"
            if isinstance(op, (ast.Sub, ast.Div, ast.MatMult, ast.Mod, ast.Pow)):
                sign = {ast.Sub: "-", ast.Div: "/", ast.MatMult: "@", ast.Mod: "%", ast.Pow: "**"}[type(op)]
                yield "swapped terms", node, f"(({text[right]}) {sign} ({text[left]}))"
        case ast.IfExp(test=test):
            yield "condition", test, "True"
            yield "condition", test, "False"
        case ast.If(test=test) | ast.comprehension(ifs=[test]):
            yield "condition", test, "True"
            yield "condition", test, "False"
        case ast.While(test=test):
            yield "condition", test, "False"
        case ast.AugAssign(target=target, op=op, value=value):
            yield "dropped statement", node, "pass"
            yield "operator", node, f"{text[target]} = {text[value]}"
        case ast.Assign() | ast.Delete() | ast.Raise() | ast.Continue() | ast.Break():
            yield "dropped statement", node, "pass"
        case ast.Expr(value=ast.Call()):
            yield "dropped statement", node, "pass"
        case ast.Slice(lower=lower, upper=upper, step=None):
            if lower and upper:
                yield "slice", node, f":{text[upper]}"
                yield "slice", node, f"{text[lower]}:"
            elif lower or upper:
                yield "slice", node, ":"
    match node:
        case ast.Call(func=function, args=args, keywords=keywords):
            if len(args) >= 2 and not _symmetric(function) and not any(isinstance(one, ast.Starred) for one in args):
                swapped = [args[1], args[0], *args[2:]]
                yield "swapped arguments", node, _call(text, function, swapped, keywords)
            for keyword in keywords:
                if keyword.arg:
                    kind = DEVICE if keyword.arg == "device" else "dropped argument"
                    yield kind, node, _call(text, function, args, [k for k in keywords if k != keyword])
            if isinstance(function, ast.Attribute) and not _is_module(function.value):
                yield "dropped call", node, text[function.value]
            elif len(args) >= 1 and not isinstance(args[0], ast.Starred):
                yield "dropped call", node, f"({text[args[0]]})"
        case ast.Name(id="max" | "min" as name) | ast.Attribute(attr="max" | "min" as name):
            start, stop = text.span(node)
            yield "swapped names", node, text.source[start : stop - 3] + {"max": "min", "min": "max"}[name]
    match node:  # sizes
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


def _call(text: Text, function, args, keywords) -> str:
    parts = [text[one] for one in args]
    parts += [f"{k.arg}={text[k.value]}" if k.arg else f"**{text[k.value]}" for k in keywords]
    return f"{text[function]}({', '.join(parts)})"


def _symmetric(function) -> bool:
    """Whether a function gives the same for its first two arguments the other way round."""
    return getattr(function, "id", getattr(function, "attr", "")) in ("min", "max", "minimum", "maximum", "transpose")


def _is_module(node) -> bool:
    """Whether a call's left part names a module, as in `torch.cat` and `F.silu`; then it is no value to go on with."""
    return isinstance(node, ast.Name) and node.id in ("torch", "F", "nn", "math", "np", "re", "regex", "random", "self")
