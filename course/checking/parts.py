"""What a lesson's author writes: Check, Mistake, Problem."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Problem:
    """One thing that is wrong with an answer."""

    property: str  # a short name, the same for the same kind of fault: "causal", "output shape"
    text: str  # what the learner reads
    expected: str = ""  # where it can be said in a few words
    got: str = ""


@dataclass
class Check:
    """What is asked of one TODO. Only `call` touches the learner's code; see the package's docstring for the
    parts.

    `cases(generator)` yields a few dicts of tensors, numbers, strings, bytes, None, lists and dicts, all
    drawn from the generator (a CPU torch.Generator) and never an expected value. `call(module, case)` gets a
    copy of a case and returns the same kinds of values. `judge(case, answer, expected)` returns the problems,
    where `expected` is the solution's answer to the same case; without a judge the two are compared within
    `rtol` and `atol`.
    """

    id: str
    asks: str
    call: Callable[[Any, dict], Any]
    cases: Callable[[Any], Iterable[dict]]
    shows: str | Callable[[dict], str] = ""  # how the call looks to a learner
    judge: Callable[[dict, Any, Any], list[Problem]] | None = None
    rtol: float = 1e-4
    atol: float = 1e-5
    points: int = 1
    needs: tuple[str, ...] = ()  # TODOs of the same step whose code this one calls
    hints: tuple[str, ...] = ()  # a question, the formula, pseudocode
    why: str = ""  # after a pass: what the solution does and why, and what others do
    spared: Mapping[str, str] = field(default_factory=dict)  # a manner of manners.py that is not asked -> the reason


@dataclass
class Mistake:
    """A known wrong answer: the solution with `old`, which occurs exactly once in it, replaced by `new`."""

    name: str
    old: str
    new: str
    says: str  # to whoever made it

    def applied(self, source: str) -> str:
        """The solution's source with this mistake in it. Raises ValueError when `old` does not occur
        exactly once.
        """
        if source.count(self.old) != 1:
            raise ValueError(f"mistake {self.name!r}: `old` occurs {source.count(self.old)} times, not once")
        return source.replace(self.old, self.new)
