"""A throwaway lesson for the tests: three TODOs, of which one has two methods and one needs another."""

from course import authoring, steps

SOLUTION = '''"""A toy lesson."""

import torch
from torch import nn


# TODO mean
def mean(x: torch.Tensor) -> torch.Tensor:
    """The mean over the last axis of x [B, D], as [B]."""
    ### BEGIN SOLUTION
    return x.sum(-1) / x.shape[-1]
    ### END SOLUTION


class Projection(nn.Module):
    """Map features [B, P, D] to [B, P, E]."""

    # TODO projection
    def __init__(self, D: int, E: int):
        super().__init__()
        ### BEGIN SOLUTION
        self.linear = nn.Linear(D, E)
        ### END SOLUTION

    # TODO projection
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Patch by patch."""
        ### BEGIN SOLUTION
        return self.linear(features)
        ### END SOLUTION


# TODO centred
def centred(x: torch.Tensor) -> torch.Tensor:
    """x [B, D] with a mean of zero over the last axis."""
    ### BEGIN SOLUTION
    return x - mean(x)[:, None]
    ### END SOLUTION
'''

CHECKS = """
import torch
from course.checking import Check, Problem, like, with_grad


def rows(g):
    for B, D in ((3, 5), (2, 7)):
        yield {"x": torch.randn(B, D, generator=g), "weight": torch.randn(B, generator=g)}


def features(g):
    yield {"features": torch.randn(2, 3, 5, generator=g), "E": 7}


def call_mean(module, case):
    return with_grad(module.mean, {"x": case["x"]}, case["weight"])


def call_projection(module, case):
    x = case["features"]
    projection = like(case, module.Projection(x.shape[-1], case["E"]))
    return {"output": projection(x), "flipped": projection(x.flip(1)).flip(1),
            "trains": with_grad(projection, {"features": x}, x.new_ones(2, 3, 7), projection)["parameters"]}


def judge_projection(case, answer, expected):
    found = []
    if answer["output"].shape != expected["output"].shape:
        return [Problem("shape", f"the output has the shape {list(answer['output'].shape)}")]
    if not torch.allclose(answer["output"], answer["flipped"], atol=1e-4):
        found.append(Problem("patch by patch", "a patch's output depends on other patches"))
    if answer["output"].std(1).max() < 1e-6:
        found.append(Problem("constant", "the output does not depend on the features"))
    if any(grad is None for grad in answer["trains"].values()):
        found.append(Problem("trains", "a parameter gets no gradient"))
    return found


CHECKS = [
    Check("mean", "the mean of each row", call_mean, rows,
          shows=lambda case: f"mean(x {list(case['x'].shape)})",
          hints=("What is summed, and over which axis?", "sum(x) / D", "x.sum(-1) / x.shape[-1]")),
    Check("projection", "each patch into the text's space", call_projection, features, judge=judge_projection,
          points=2,
          hints=("Which layer maps D numbers to E?", "W f + b", "nn.Linear")),
    Check("centred", "rows without their mean", lambda module, case: module.centred(case["x"]), rows,
          needs=("mean",)),
]
"""

MISTAKES = """
from course.checking import Mistake

MISTAKES = {
    "mean": [
        Mistake("wrong axis", "x.sum(-1) / x.shape[-1]", "x.sum(0) / x.shape[0]",
                "You average over the batch."),
        Mistake("sum", "x.sum(-1) / x.shape[-1]", "x.sum(-1)",
                "This is the sum: divide by how many there are."),
        Mistake("detached", "x.sum(-1) / x.shape[-1]", "x.detach().sum(-1) / x.shape[-1]",
                "detach() cuts the gradient."),
    ],
    "projection": [
        Mistake("mixes patches", "return self.linear(features)",
                "return self.linear(features) + self.linear(features).cumsum(1)",
                "Patches see their neighbours."),
        Mistake("no weights", "return self.linear(features)", "return self.linear(features * 0)",
                "The features are lost."),
        Mistake("transposed", "return self.linear(features)", "return self.linear(features).transpose(1, 2)",
                "Two axes are swapped."),
    ],
    "centred": [
        Mistake("adds", "x - mean(x)[:, None]", "x + mean(x)[:, None]", "The sign is wrong."),
        Mistake("in place", "return x - mean(x)[:, None]", "x -= mean(x)[:, None]\\n    return x",
                "You change the input."),
        Mistake("overall", "x - mean(x)[:, None]", "x - mean(x).mean()", "One mean for all rows."),
    ],
}
"""


def lesson(
    folder, name="toy", todos=("mean", "projection", "centred"), solution=SOLUTION, checks=CHECKS, mistakes=MISTAKES
):
    """Write the toy lesson into `folder` and return its Step."""
    step = steps.Step(name, "A toy", todos, 1, root=folder)
    step.folder.mkdir(parents=True, exist_ok=True)
    for which, text in (
        ("solution", solution),
        ("checks", checks),
        ("mistakes", mistakes),
        ("exercise", authoring.generate(solution, step)),
    ):
        step.file(which).write_text(text, encoding="utf-8")
    return step
