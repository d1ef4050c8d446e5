"""Whether a stranger's code has replaced functions that a check's call relies on: torch's, Python's, or ours.

Values that are compared with the solution's need no such care: whoever forges them has computed them. But a
check that looks at properties (is everything frozen?) believes what the functions in its process say. Whoever
goes deeper than replacing names is not found here; the text search in flags.py points a human at the means.
"""

import builtins
import sys
import types
from builtins import all, callable, isinstance, len, map, sum, vars  # as they are: submissions replace them, too
from itertools import chain
from operator import attrgetter, is_

import torch
from torch import nn

OURS = (
    "calls",
    "course.checking.calling",
    "course.checking.helpers",
    "course.checking.judging",
    "course.checking.standin",
    "course.checking.values",
    "course.checking.wire",
    "course.grading.child",
    "course.grading.tampering",
)


def watched() -> dict[str, object]:
    """The modules and classes whose names should stay what they are."""
    places = {
        "builtins": builtins,
        "torch": torch,
        "torch.nn.functional": nn.functional,
        "torch.autograd": torch.autograd,
        "torch.Tensor": torch.Tensor,
        "torch.nn.Parameter": nn.Parameter,
    }
    for name, value in vars(nn).items():
        if isinstance(value, type) and issubclass(value, nn.Module):
            places[f"torch.nn.{name}"] = value
    places.update({name: sys.modules[name] for name in OURS if name in sys.modules})
    for name in ("calls", "course.checking.standin"):
        for key, value in vars(sys.modules.get(name, object)).items():
            if isinstance(value, type) and value.__module__ == name:
                places[f"{name}.{key}"] = value
    return places


class Place:
    """A module or class as it was when this was made."""

    def __init__(self, name: str, place):
        self.name, self.place, self.held = name, place, dict(vars(place))
        self.code = {value: value.__code__ for value in self.held.values() if type(value) is types.FunctionType}

    def replaced(self) -> list[str]:
        now = vars(self.place)
        found = [
            key
            for key, value in self.held.items()
            if (callable(value) or isinstance(value, (property, classmethod, staticmethod)))
            and (
                now.get(key) is not value
                or type(value) is types.FunctionType
                and value.__code__ is not self.code[value]
            )
        ]
        ours = self.name.partition(".")[0] in ("calls", "course")
        for key in now.keys() - self.held.keys():  # something new that hides what was meant
            inherited = isinstance(self.place, type) and any(key in vars(base) for base in self.place.__mro__[1:])
            if (ours or inherited) and callable(now[key]):
                found.append(key)
        return [f"{self.name}.{key}" for key in found]


class Watch:
    """All places at once. `replaced()` names what has been exchanged since."""

    def __init__(self):
        self.places = [Place(name, place) for name, place in watched().items()]
        self.now = [vars(place.place) for place in self.places]
        self.values = [now.values() for now in self.now]  # views: of what the places hold when they are asked
        self.functions = [function for place in self.places for function in place.code]
        self.before = [key for now in self.now for key in now], [value for view in self.values for value in view]
        self.code = [function.__code__ for function in self.functions]

    def untouched(self) -> bool:
        """Whether everything is what it was, by identity: asked after every call, so it has to be quick."""
        keys, values = self.before
        return (
            sum(map(len, self.now)) == len(keys)
            and all(map(is_, chain.from_iterable(self.now), keys))
            and all(map(is_, chain.from_iterable(self.values), values))
            and all(map(is_, map(CODE, self.functions), self.code))
        )

    def replaced(self) -> list[str]:
        if self.untouched():
            return []
        return sorted(name for place in self.places for name in place.replaced())[:8]


CODE = attrgetter("__code__")
