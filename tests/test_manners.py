"""The same call in other circumstances: another device, another layout, called before, bfloat16."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course import authoring, checking, steps
from course.checking import calling, manners, pretend
from course.checking.judging import answered, make_cases
from tests import toy

MEAN = "return x.sum(-1) / x.shape[-1]"
RIGHT = {
    "the solution": MEAN,
    "einsum": "return torch.einsum('bd->b', x) / x.shape[-1]",
    "made on its device": "return x @ torch.ones(x.shape[-1], dtype=x.dtype, device=x.device) / x.shape[-1]",
    "autocast off": "with torch.autocast(x.device.type, enabled=False):\n        return x.mean(-1)",
    "a generator there": "g = torch.Generator(x.device)\n    return x.mean(-1) + 0 * torch.rand((), generator=g)",
    "reshaped": "return x.reshape(-1, x.shape[-1]).sum(1) / x.shape[-1]",
    "in float32 and back": "return (x.float().sum(-1) / x.shape[-1]).to(x.dtype)",
    "by Python's numbers": "return torch.stack([row.sum() / float(len(row)) for row in x])",
}
WRONG = {
    "device": (
        "return x @ torch.ones(x.shape[-1], dtype=x.dtype) / x.shape[-1]",
        "mask = torch.ones(x.shape).bool()\n    return x.masked_fill(~mask, 0.0).sum(-1) / x.shape[-1]",
        "weights = torch.full((x.shape[-1],), 1 / x.shape[-1])\n    return (x * weights.to(x.dtype)).sum(-1)",
    ),
    "layout": (
        "return x.view(-1).view(x.shape).sum(-1) / x.shape[-1]",
        "return torch.as_strided(x, x.shape, (x.shape[1], 1)).sum(-1) / x.shape[-1]",
    ),
    "bfloat16": (
        "return x @ torch.ones(x.shape[-1], device=x.device) / x.shape[-1]",
        "return x.float().sum(-1) / x.shape[-1]",
    ),
}


def finding(folder, body: str):
    lesson = toy.lesson(folder)
    source = authoring.filled(toy.SOLUTION, lesson)
    assert source.count(MEAN) == 1
    lesson.file("exercise").write_text(source.replace(MEAN, body))
    return checking.check_step(lesson, todos=["mean"])[0]


@pytest.mark.parametrize("body", RIGHT.values(), ids=RIGHT.keys())
def test_right_ways_are_never_refused(tmp_path, body):
    found = finding(tmp_path, body)
    assert found.passed, found.text()


@pytest.mark.parametrize("manner, body", [(manner, body) for manner, bodies in WRONG.items() for body in bodies])
def test_what_is_right_only_in_plain_circumstances_is_found(tmp_path, manner, body):
    found = finding(tmp_path, body)
    assert found.manner == manner and not found.passed, found.text()
    assert manners.ALL[manner].advice in found.text() and "right" in found.note
    assert found.line and "mean(x [" in found.called


CENTRED = "return x - mean(x)[:, None]"


@pytest.mark.parametrize(
    "body",
    [
        "kept = globals().setdefault('KEPT', {})\n    return x - kept.setdefault(x.shape, mean(x))[:, None]",
        "kept = globals().setdefault('KEPT', {})\n    return x - kept.setdefault(id(x), (mean(x), x))[0][:, None]",
    ],
    ids=["by shape", "by identity"],
)
def test_what_a_function_keeps_shows(tmp_path, body):
    lesson = toy.lesson(tmp_path)
    source = authoring.filled(toy.SOLUTION, lesson)
    assert source.count(CENTRED) == 1
    lesson.file("exercise").write_text(source.replace(CENTRED, body))
    found = checking.check_step(lesson, todos=["centred"])[0]
    assert found.manner == "again" and "Nothing of an earlier call" in found.note, found.text()


def test_what_a_module_keeps_on_self_shows():
    room = steps.find_step("step2")
    source = room.file("solution").read_text(encoding="utf-8")
    right = "return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))"
    assert source.count(right) == 1
    keeps = "self.kept = getattr(self, 'kept', None)\n        if self.kept is None or self.kept.shape != x.shape:\n"
    keeps += f"            self.kept = {right.removeprefix('return ')}\n        return self.kept"
    module = steps.execute(source.replace(right, keeps), room.file("solution"), "keeps", shown_as="<keeps>")
    found = checking.check(room, module, "swiglu")
    assert found.manner == "again", found.text()


def test_a_check_may_leave_a_manner_out_with_a_reason(tmp_path):
    hints = 'hints=("What is summed,'
    assert toy.CHECKS.count(hints) == 1
    lesson = toy.lesson(tmp_path, checks=toy.CHECKS.replace(hints, f'spared={{"device": "a reason"}}, {hints}'))
    source = authoring.filled(toy.SOLUTION, lesson)
    lesson.file("exercise").write_text(source.replace(MEAN, WRONG["device"][0]))
    assert checking.check_step(lesson, todos=["mean"])[0].passed


@pytest.mark.parametrize("room", steps.ROOMS, ids=lambda room: room.slug)
def test_the_solutions_answer_in_every_manner(room):
    """And where a check leaves one out, it says why, and the manner exists."""
    lesson = checking.lesson(room)
    for check in lesson.checks.values():
        assert set(check.spared) <= set(manners.ALL) and all(len(why) > 20 for why in check.spared.values())
        cases = make_cases(check, 11)
        for manner in manners.ALL.values():
            for case in cases:
                if manners.applies(manner, check, case):
                    answer = answered(check, lesson.solution, case, seed=12, manner=manner.name)
                    plain = answered(check, lesson.solution, case, seed=12)
                    where = f"{check.id}, {manner.name}"
                    assert answer.raised is None, f"{where}: {answer.raised.text('')}"
                    assert manners.problem(manner, check, answer.value, plain.value, answer.value) is None, where


# The pretended device


def raises(call) -> bool:
    value, raised = calling.run(call, "")
    return raised is not None and raised.kind == "WrongDevice"


def test_the_pretended_device_behaves_like_a_gpu():
    with pretend.pretending():
        x = torch.randn(2, 3).to(pretend.DEVICE)
        y = torch.arange(3, device=x.device)
        for mixed in (
            lambda: x + torch.arange(3),
            lambda: torch.cat([x, torch.zeros(2, 3)]),
            lambda: x.masked_fill(torch.ones(2, 3, dtype=torch.bool), 0.0),
            lambda: torch.where(torch.ones(2, 3, dtype=torch.bool), x, x),
            lambda: nn.Linear(3, 4)(x),
            lambda: F.embedding(torch.tensor([1]), x),
        ):
            with pytest.raises(pretend.WrongDevice):
                mixed()
        for fine in (
            x + y,
            x + 1,
            x + torch.tensor(2.0),
            x[torch.tensor([0])],
            x[:, torch.tensor([True, False, True])],
            torch.zeros_like(x),
            x.new_ones(2),
            torch.tensor([1.0], device=x.device),
            nn.Linear(3, 4).to(x.device)(x),
            nn.Linear(3, 4, device=x.device)(x),
            F.scaled_dot_product_attention(x[None], x[None], x[None]),
            x.clone().add_(1),
        ):
            assert isinstance(fine, pretend.Elsewhere) and fine.device == pretend.DEVICE
        assert type(x.cpu()) is torch.Tensor and x.tolist() == x.cpu().tolist() and isinstance(x.sum().item(), float)
        x[0] = 7.0
        assert x.cpu()[0].tolist() == [7.0] * 3


def test_gradients_are_the_cpus():
    x, weight = torch.randn(4, 3), torch.randn(3, requires_grad=True)
    expected = torch.autograd.grad((x @ weight).square().sum(), weight)[0]
    with pretend.pretending():
        there = weight.detach().to(pretend.DEVICE).requires_grad_()
        found = torch.autograd.grad((x.to(pretend.DEVICE) @ there).square().sum(), there)[0]
    assert isinstance(found, pretend.Elsewhere) and torch.equal(found.held, expected)


def test_nothing_is_left_of_it():
    before = torch.autocast, torch.amp.autocast, torch.Generator, torch.accelerator.is_available()
    with pytest.raises(ValueError), pretend.pretending():
        raise ValueError
    assert (torch.autocast, torch.amp.autocast, torch.Generator, torch.accelerator.is_available()) == before
    assert torch.empty(1, device="meta").device.type == "meta" and type(torch.empty(1, device="meta")) is torch.Tensor
