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
    ### BEGIN SOLUTION
    ids: list[int] = []
    for message in messages:
        role = message["role"]
        if role not in ("user", "assistant"):
            raise ValueError(f"unknown role {role!r}; there are user and assistant")
        ids += [special_tokens[f"<|{role}|>"], *encode(message["content"])]
        if role == "assistant":
            ids.append(special_tokens["<|end|>"])
    if add_generation_prompt:
        ids.append(special_tokens["<|assistant|>"])
    return ids
    ### END SOLUTION


# TODO loss_mask
def loss_mask(ids: Sequence[int], special_tokens: Mapping[str, int]) -> list[int]:
    """Labels for a conversation: the id where it is to be learned, IGNORE everywhere else.

    Learned are the assistant's words and the <|end|> after them, in every turn. <|assistant|> itself is not:
    the template writes it, never the model. A row may end in the middle of a reply. labels[t] belongs to ids[t];
    the model shifts them, once, inside.

    <|user|> Hi <|assistant|> Ho <|end|>  ->  IGNORE IGNORE IGNORE Ho <|end|>
    """
    ### BEGIN SOLUTION
    labels, replying = [], False
    for token in ids:
        labels.append(token if replying else IGNORE)
        if token == special_tokens["<|assistant|>"]:
            replying = True
        elif token == special_tokens["<|end|>"]:
            replying = False
    return labels
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    length = max(len(row) for row in rows)

    def pad(sequences: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        filler = [[value] * (length - len(sequence)) for sequence in sequences]
        if padding_side == "left":
            return torch.tensor([[*fill, *sequence] for fill, sequence in zip(filler, sequences)])
        return torch.tensor([[*sequence, *fill] for fill, sequence in zip(filler, sequences)])

    batch = {"input_ids": pad(rows, pad_token_id), "attention_mask": pad([[1] * len(row) for row in rows], 0)}
    if labels is not None:
        batch["labels"] = pad(labels, IGNORE)
    return batch
    ### END SOLUTION
