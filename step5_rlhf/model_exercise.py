"""Learning from preferences: how likely a reply is, what a reward model learns, and DPO, which needs none.

Follows InstructGPT (Ouyang et al. 2022) for the reward model and Direct Preference Optimization (Rafailov et
al. 2023). Left out: PPO's value network, rollouts. The models are handed in: anything that returns
(logits, loss).
"""

import torch
import torch.nn.functional as F
from torch import nn

IGNORE = -100  # label of positions that do not belong to the reply


# TODO sequence_logprobs
def sequence_logprobs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How likely each row's reply is: summed log-probabilities. logits [B, T, V], labels [B, T] -> [B].

    The labels are aligned with the inputs, so the logits at t are judged by the label at t + 1; where that
    label is IGNORE (the prompt, padding), nothing is added. A token that is all but impossible must not make
    the sum infinite, and logits in half precision must not make it coarse: it is computed in float32 at least.
    """
    raise NotImplementedError("TODO sequence_logprobs: write sequence_logprobs")


# TODO reward_loss
def reward_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """A reward model's loss (Bradley and Terry 1952): rewards [B] of the chosen and the rejected -> scalar.

    The probability that the chosen reply wins is sigmoid(chosen - rejected); the loss is the mean of minus
    its logarithm, and must stay finite for rewards that are far apart.
    """
    raise NotImplementedError("TODO reward_loss: write reward_loss")


# TODO dpo_loss
def dpo_loss(
    policy_chosen: torch.Tensor,
    policy_rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    beta: float = 0.1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """DPO on B pairs of replies, given each reply's log-probability [B] under the policy and the reference.

    A reply's implicit reward is beta times how much likelier the policy finds it than the reference does.
    The loss is the reward model's loss on these rewards, the mean over the pairs. No gradient reaches the
    reference.
    Returns (loss, a scalar; rewards of the chosen [B]; rewards of the rejected [B]), rewards detached.
    """
    raise NotImplementedError("TODO dpo_loss: write dpo_loss")


def reply_logprobs(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """sequence_logprobs of a model on input_ids and labels [B, T], padded on the right: [B]."""
    logits, _ = model(input_ids=batch["input_ids"])
    return sequence_logprobs(logits, batch["labels"])


# The tests: run them in the notebook, or `python3 -m course check step5` in a terminal. Nothing to edit
# below.

def _check(todo):
    import sys
    from pathlib import Path
    here = Path(__file__).resolve()
    root = next((folder for folder in here.parents if (folder / "course" / "steps.py").is_file()), None)
    if root is not None and str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from course.checking import check_file
    check_file(here, todo, step="step5_rlhf")


def test_sequence_logprobs():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("sequence_logprobs")


def test_reward_loss():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("reward_loss")


def test_dpo_loss():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("dpo_loss")


# as generated: 0829edb8f80b15d9
