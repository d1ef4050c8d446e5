"""Talking to a model: conversations as batches, and a model's replies as text.

Steps 4 to 6 train and are measured with this. It owns no model code: the tokenizer is step 1's, the template, loss
mask and collate are step 4's, whoever wrote them.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch

from course.world import BLANK


class Chat:
    """A tokenizer and a chat template (the module of step 4) put to work on one device."""

    def __init__(self, tokenizer: Any, sft: ModuleType, device: torch.device | str = "cpu"):
        self.tokenizer, self.sft, self.device = tokenizer, sft, torch.device(device)
        self.special = tokenizer.special_tokens
        self.end, self.pad = self.special["<|end|>"], self.special["<|pad|>"]

    def encode(self, text: str) -> list[int]:
        """Ids of a message. It begins with a space, so that its first word is the token that it is anywhere else:
        to say " red" is to copy what was read, but "red" without the space is spelled in other tokens (step 1)."""
        return self.tokenizer.encode_ordinary(" " + text)

    def encode_with_blanks(self, text: str) -> list[int]:
        """The same for what is learned from, in which a BLANK is padding: a word that is there, but not known."""
        first, *others = (" " + text).split(f" {BLANK}")
        ids = self.tokenizer.encode_ordinary(first)
        for part in others:
            ids += [self.pad, *self.tokenizer.encode_ordinary(part)]
        return ids

    def ids(self, messages: Sequence[dict], add_generation_prompt: bool = False) -> list[int]:
        """Ids of a conversation; with the generation prompt, it is the model's turn."""
        return self.sft.chat_template(messages, self.encode, self.special, add_generation_prompt)

    def row(self, messages: Sequence[dict]) -> tuple[list[int], list[int]]:
        """Ids and labels of a conversation."""
        ids = self.sft.chat_template(messages, self.encode_with_blanks, self.special, False)
        return ids, self.sft.loss_mask(ids, self.special)

    def batch(self, conversations: Sequence[Sequence[dict]]) -> dict[str, torch.Tensor]:
        """A training batch of conversations. Padding is on the right, where no token looks: no mask is needed."""
        rows, labels = zip(*map(self.row, conversations))
        batch = self.sft.collate(rows, labels, self.pad)
        return {name: batch[name].to(self.device) for name in ("input_ids", "labels")}

    @torch.no_grad()
    def replies(
        self,
        model: torch.nn.Module,
        prompts: Sequence[str],
        features: torch.Tensor | None = None,
        max_new_tokens: int = 80,
        batch_size: int = 128,
        each: Callable[[int], object] = lambda count: None,
        **options: Any,
    ) -> list[str]:
        """The model's reply to each prompt, greedily unless `options` for generate say otherwise.

        features [N, P, D]: what an eye saw beside each prompt, for a model that takes it. `each` is told how many
        replies have been added, for a progress bar.
        """
        training = model.training
        model.eval()
        texts = []
        for i in range(0, len(prompts), batch_size):
            rows = [self.ids([{"role": "user", "content": p}], True) for p in prompts[i : i + batch_size]]
            batch = self.sft.collate(rows, None, self.pad, "left")
            batch = {name: batch[name].to(self.device) for name in ("input_ids", "attention_mask")}
            if features is not None:
                batch["features"] = features[i : i + batch_size].to(self.device)
            out = model.generate(**batch, max_new_tokens=max_new_tokens, eos_token_id=self.end, **options)
            for ids in out.tolist():
                text = self.tokenizer.decode(ids[: ids.index(self.end)] if self.end in ids else ids)
                texts.append(text.removeprefix(" "))
            each(len(rows))
        model.train(training)
        return texts
