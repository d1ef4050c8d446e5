"""A stand-in language model for the checks of later steps: no step's check needs another step's code."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class StandInConfig:
    """The fields of a GPT's config that its users read."""

    vocab_size: int
    hidden_size: int
    max_position_embeddings: int = 512


class StandInCache:
    """What the model remembers of the tokens so far: the decayed sum of their vectors [B, D] and of their weights."""

    def __init__(self):
        self.total = None  # [B, D]
        self.weight = None  # [B, 1]
        self.length = 0  # tokens seen, padding included


class StandInLM(nn.Module):
    """Causal, mask-aware and cacheable like a GPT, with its interface, and without attention.

    A position sees the mean of the embeddings so far, each older one counting `decay` times less; padded
    tokens count nothing, wherever they stand: a row gives the same answer alone and in a batch.
    """

    decay = 0.8

    def __init__(self, vocab_size: int, hidden_size: int):
        super().__init__()
        self.config = StandInConfig(vocab_size, hidden_size)
        self.embed_tokens = nn.Embedding(vocab_size, hidden_size)
        self.mix = nn.Linear(hidden_size, hidden_size)
        self.lm_head = nn.Linear(hidden_size, vocab_size, bias=False)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        cache: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """input_ids [B, T] or inputs_embeds [B, T, D]; attention_mask [B, T] or [B, past + T] of 1 and 0;
        labels [B, T].

        Returns (logits [B, T, V], loss or None). Labels are aligned with the inputs and shifted inside; -100
        is ignored.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give input_ids or inputs_embeds, one of them")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds  # [B, T, D]
        B, T, _ = x.shape
        seen = x.new_ones(B, T) if attention_mask is None else attention_mask[:, -T:].to(x)
        seen = seen[..., None]  # [B, T, 1]
        place = seen[..., 0].cumsum(1)  # [B, T], padding not counted
        past = (place[:, :, None] - place[:, None, :]).clamp(min=0)  # [B, T, T]
        decays = (self.decay**past).tril()
        total, weight = decays @ (x * seen), decays @ seen  # [B, T, D], [B, T, 1]
        if cache is not None:
            if cache.total is not None:
                older = self.decay ** place[..., None]  # [B, T, 1]
                total = total + older * cache.total[:, None]
                weight = weight + older * cache.weight[:, None]
            cache.total, cache.weight = total[:, -1], weight[:, -1]
            cache.length += T
        h = x + torch.tanh(self.mix(total / weight.clamp(min=1e-6)))
        logits = self.lm_head(h)  # [B, T, V]
        if labels is None:
            return logits, None
        loss = F.cross_entropy(
            logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100
        )
        return logits, loss

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        max_new_tokens: int = 20,
        eos_token_id: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        uniforms: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The new ids [B, N], as the GPT's generate: the prompt is read once. It only chooses the likeliest token."""
        if temperature:
            raise ValueError("the stand-in does not sample: temperature 0")
        ids: list[torch.Tensor] = []
        cache, new = StandInCache(), {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
        for _ in range(max_new_tokens):
            token = self(**new, attention_mask=attention_mask, cache=cache)[0][:, -1].argmax(-1)  # [B]
            if eos_token_id is not None and ids:
                token = torch.where(ids[-1] == eos_token_id, eos_token_id, token)
            ids.append(token)
            if eos_token_id is not None and (token == eos_token_id).all():
                break
            new = {"input_ids": token[:, None]}
            if attention_mask is not None:
                attention_mask = F.pad(attention_mask, (0, 1), value=1)
        return torch.stack(ids, dim=1)
