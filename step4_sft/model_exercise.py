"""Supervised fine-tuning: conversations become rows of tokens, and only the assistant's words are learned.

Follows the practice of Hugging Face's TRL and of InstructGPT's first stage (Ouyang et al. 2022): a chat
template made of special tokens, and a loss on the replies alone. Left out: packing several conversations into
one row, system messages, LoRA. The training loop is step 3's, and so is the loss: the labels say what counts.
"""

from collections.abc import Callable, Mapping, Sequence

import torch

IGNORE = -100  # label of positions that the loss leaves out

Message = dict[str, str]  # {"role": "user" | "assistant", "content": "..."}


# TODO chat_template
def chat_template(
    messages: Sequence[Message],
    encode: Callable[[str], list[int]],
    special_tokens: Mapping[str, int],
    add_generation_prompt: bool = False,
) -> list[int]:
    """Turn a conversation into ids that show who is speaking.

    A user's message is <|user|> and its text; an assistant's is <|assistant|>, its text and <|end|>, so that
    the model learns to stop. add_generation_prompt appends <|assistant|>: now it is the model's turn.
    `encode` turns text into ids and never makes a special token, so nobody can type one. special_tokens gives
    the id of each special token: {"<|user|>": 1020, ...}. Raises ValueError, with the role in its message, for a
    role that is neither user nor assistant.

    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
        -> <|user|> Hi <|assistant|> Ho <|end|>
    """
    raise NotImplementedError("TODO chat_template: write chat_template")


# TODO loss_mask
def loss_mask(ids: Sequence[int], special_tokens: Mapping[str, int]) -> list[int]:
    """Labels for a conversation: the id where it is to be learned, IGNORE everywhere else.

    Learned are the assistant's words and the <|end|> after them, in every turn. <|assistant|> itself is not:
    the template writes it, never the model. A row may end in the middle of a reply. labels[t] belongs to ids[t];
    the model shifts them, once, inside.

    <|user|> Hi <|assistant|> Ho <|end|>  ->  IGNORE IGNORE IGNORE Ho <|end|>
    """
    raise NotImplementedError("TODO loss_mask: write loss_mask")


# TODO collate
def collate(
    rows: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]] | None = None,
    pad_token_id: int = 0,
    padding_side: str = "right",
) -> dict[str, torch.Tensor]:
    """Make one batch of B rows of different lengths, as long as the longest, T.

    Returns int64 tensors: input_ids [B, T], filled up with pad_token_id; attention_mask [B, T], 1 at tokens
    and 0 at padding; and, if labels were given, labels [B, T], filled up with IGNORE. Training pads on the
    right; generation pads on the "left", so that the next token of every row is at the same place.
    """
    raise NotImplementedError("TODO collate: write collate")


# The tests: run them in the notebook, or `python3 -m course check step4` in a terminal. Nothing to edit
# below.

def _check(todo):
    import sys
    from pathlib import Path
    here = Path(__file__).resolve()
    root = next((folder for folder in here.parents if (folder / "course" / "steps.py").is_file()), None)
    if root is not None and str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from course.checking import check_file
    check_file(here, todo, step="step4_sft")


def test_chat_template():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("chat_template")


def test_loss_mask():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("loss_mask")


def test_collate():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("collate")


# as generated: e0681451086ca131
