"""Whether a stranger's code has replaced functions that a check's call relies on: torch's, Python's, or ours.

Values that are compared with the solution's need no such care: whoever forges them has computed them. But a
check that looks at properties (is everything frozen?) believes what the functions in its process say. Whoever
goes deeper than replacing names is not found here; the text search in flags.py points a human at the means.
"""

import builtins
import types
from builtins import all, callable, isinstance, len, map, sum, vars  # as they are: submissions replace them, too
from collections.abc import Iterable
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import torch
from torch import nn


def watched(ours: Iterable[types.ModuleType]) -> dict[str, object]:
    """The modules and classes whose names should stay what they are: Python's, torch's, and `ours`, on which a check's
    call relies, with the classes that they define."""
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
    for module in ours:
        places[module.__name__] = module
        for key, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == module.__name__:
                places[f"{module.__name__}.{key}"] = value
    return places


class Place:
    """A module or class as it was when this was made; of `ours`, a new name is a replacement too."""

    def __init__(self, name: str, place: Any, ours: bool):
        self.name, self.place, self.ours, self.held = name, place, ours, dict(vars(place))
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
        for key in now.keys() - self.held.keys():  # something new that hides what was meant
            inherited = isinstance(self.place, type) and any(key in vars(base) for base in self.place.__mro__[1:])
            if (self.ours or inherited) and callable(now[key]):
                found.append(key)
        return [f"{self.name}.{key}" for key in found]


class Watch:
    """All places at once. `replaced()` names what has been exchanged since."""

    def __init__(self, ours: Iterable[types.ModuleType] = ()):
        ours = list(ours)
        names = {module.__name__ for module in ours}
        self.places = [
            Place(name, place, any(name == one or name.startswith(f"{one}.") for one in names))
            for name, place in watched(ours).items()
        ]
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
