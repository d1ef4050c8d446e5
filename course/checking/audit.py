"""Are the checks right? Every known mistake and hundreds of automatic ones, put to the check that shall catch it."""

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from course import checking, steps
from course.authoring.mutations import DEVICE, Mutation, mutations

PATIENCE = 3.0  # seconds for one call of a wrong answer; some never end
NAMED = 0.85  # the share of the catalogued mistakes that must be called by their names


@dataclass
class Survivor:
    """A wrong answer that passed."""

    id: str
    kind: str
    line: int
    reason: str = ""  # why it is not wrong after all: from HARMLESS in the step's mistakes.py


@dataclass
class Result:
    """What became of one TODO's wrong answers."""

    todo: str  # "step2.rms_norm"
    catalogued: int = 0
    caught: int = 0  # of the catalogued
    named: int = 0
    automatic: int = 0
    rejected: int = 0  # of the automatic
    unreached: list[str] = field(default_factory=list)  # changes that no case touches, or that need another device
    survivors: list[Survivor] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)  # in HARMLESS, but caught or no longer there

    @property
    def unexplained(self) -> list[Survivor]:
        return [survivor for survivor in self.survivors if not survivor.reason]


def audit_todo(step: steps.StepName, todo: str, seed: int = 0) -> Result:
    """Put all wrong answers to one TODO to its check."""
    torch.set_num_threads(1)
    lesson = checking.lesson(step)
    result = Result(f"{lesson.step.short}.{todo}")
    _put_mistakes(lesson, todo, seed, result)
    _put_mutations(lesson, todo, seed, result)
    return result


def _put_mistakes(lesson: checking.Lesson, todo: str, seed: int, result: Result) -> None:
    for mistake in lesson.mistakes[todo]:
        finding = checking.check(lesson.step, lesson.wrong(mistake), todo, seed=seed, seconds=PATIENCE)
        result.catalogued += 1
        result.caught += not finding.passed
        result.named += finding.mistake_name == mistake.name
        if finding.passed:
            result.survivors.append(Survivor(mistake.name, "catalogued", finding.line or 0))


def _put_mutations(lesson: checking.Lesson, todo: str, seed: int, result: Result) -> None:
    other_device = "cuda" if torch.cuda.is_available() else None
    reasons = lesson.harmless.get(todo, {})
    unused = set(reasons)
    for mutation in mutations(lesson.source, todo):
        device = other_device if mutation.kind == DEVICE else "cpu"
        applied, passed = _tried(lesson, todo, mutation, seed, device) if device else (False, False)
        if not applied:
            result.unreached.append(mutation.id)
            continue
        result.automatic += 1
        result.rejected += not passed
        if passed:
            unused.discard(mutation.id)
            result.survivors.append(Survivor(mutation.id, mutation.kind, mutation.line, reasons.get(mutation.id, "")))
    result.stale = sorted(unused)


def _tried(lesson: checking.Lesson, todo: str, mutation: Mutation, seed: int, device: str) -> tuple[bool, bool]:
    """(whether the mutation had something to change, whether it passed). It is tried with three seeds and must fail for
    each of them, because a learner runs a check once."""
    applied, passed = not mutation.needs, False
    path, shown_as = lesson.step.file("solution"), f"<{lesson.step.name} mutated>"
    for trial in range(3):
        try:
            module = steps.execute(mutation.source, path, "course_mutation", shown_as=shown_as)
        except Exception:  # caught before it runs
            return True, passed
        finding = checking.check(
            lesson.step, module, todo, seed=seed + trial, seconds=PATIENCE, diagnose=False, device=device
        )
        applied |= mutation.needs in getattr(module, "APPLIED", ())
        passed |= finding.passed
        steps.forget(module)
    return applied, passed


def _job(task) -> Result:
    return audit_todo(*task)


def audit(
    tasks: Iterable[tuple],
    seed: int = 0,
    workers: int | None = None,
    each: Callable[[Result], Any] = lambda result: None,
) -> list[Result]:
    """The results for (step, todo) pairs in their order, worked on by as many processes as there are cores."""
    tasks = [(steps.find_step(step), todo, seed) for step, todo in tasks]
    workers = min(workers or os.cpu_count() or 1, len(tasks))
    if workers == 1:
        results = map(_job, tasks)
        return [each(result) or result for result in results]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [each(result) or result for result in pool.map(_job, tasks)]


def problems(results: list[Result]) -> list[str]:
    """What keeps an audit from being clean; empty when nothing does."""
    faults = [
        f"{result.todo}: {survivor.id} passes (line {survivor.line}, {survivor.kind})"
        for result in results
        for survivor in result.unexplained
    ]
    faults += [
        f"{result.todo}: HARMLESS has {key!r}, which is caught or no longer there"
        for result in results
        for key in result.stale
    ]
    named, catalogued = sum(result.named for result in results), sum(result.catalogued for result in results)
    if named < NAMED * catalogued:
        faults.append(f"only {named} of {catalogued} catalogued mistakes are named; the bound is {NAMED:.0%}")
    return faults


HEADER = f"{'':<28} {'known':>6} {'caught':>7} {'named':>6}   {'automatic':>9} {'caught':>7} {'harmless':>9}"


def row(result: Result) -> str:
    """A result as a line under HEADER."""
    harmless = sum(bool(survivor.reason) for survivor in result.survivors)
    return (
        f"{result.todo:<28} {result.catalogued:>6} {result.caught:>7} {result.named:>6}   "
        f"{result.automatic:>9} {result.rejected:>7} {harmless:>9}"
    )


def total(results: list[Result]) -> Result:
    """The sums, as one more result."""
    whole = Result("all")
    for result in results:
        for name in ("catalogued", "caught", "named", "automatic", "rejected"):
            setattr(whole, name, getattr(whole, name) + getattr(result, name))
        whole.survivors += result.survivors
    return whole


def main(args: argparse.Namespace) -> int:
    """`python3 -m course audit`: a table as it grows, then what is left to do."""
    rooms, only = args.what
    tasks = [(step, todo) for step in rooms for todo in ([only] if only else step.todos)]
    if args.json:
        results = audit(tasks, args.seed)
        print(json.dumps([asdict(one) for one in results], indent=1))
        return 1 if problems(results) else 0
    print(HEADER, flush=True)
    results = audit(tasks, args.seed, each=lambda one: print(row(one), flush=True))
    if len(results) > 1:
        print(row(total(results)))
    found = problems(results)
    for one in results:
        for survivor in one.survivors:
            if survivor.reason and only:
                print(f"\nharmless  {survivor.id}\n          {survivor.reason}")
    print("\n" + ("\n".join(found) if found else "No wrong answer passes."))
    return 1 if found else 0
