"""A stand-in language model for the checks of later steps: no step's check needs another step's code."""

from dataclasses import dataclass

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
    """What the model remembers of the tokens so far: the decayed sum of their vectors [B, D] and of their
    weights.
    """

    def __init__(self):
        self.total = None       # [B, D]
        self.weight = None      # [B, 1]
        self.length = 0         # tokens seen, padding included


class StandInLM(nn.Module):
    """Causal, mask-aware and cacheable like a GPT, with its interface, and without attention.

    A position sees the mean of the embeddings so far, each older one counting `decay` times less; padded
    tokens count nothing, and what stands left of a sentence changes nothing in it.
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

    def forward(self, input_ids=None, inputs_embeds=None, labels=None, attention_mask=None, cache=None):
        """input_ids [B, T] or inputs_embeds [B, T, D]; attention_mask [B, T] or [B, past + T] of 1 and 0;
        labels [B, T].

        Returns (logits [B, T, V], loss or None). Labels are aligned with the inputs and shifted inside; -100
        is ignored.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give input_ids or inputs_embeds, one of them")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds        # [B, T, D]
        B, T, _ = x.shape
        seen = x.new_ones(B, T) if attention_mask is None else attention_mask[:, -T:].to(x)
        seen = seen[..., None]                                                              # [B, T, 1]
        steps = torch.arange(T, device=x.device)
        past = (steps[:, None] - steps[None, :]).clamp(min=0)                               # [T, T]
        decays = (self.decay ** past.to(x)).tril()
        total, weight = decays @ (x * seen), decays @ seen                              # [B, T, D], [B, T, 1]
        if cache is not None:
            if cache.total is not None:
                older = self.decay ** (steps + 1).to(x)[None, :, None]                      # [1, T, 1]
                total = total + older * cache.total[:, None]
                weight = weight + older * cache.weight[:, None]
            cache.total, cache.weight = total[:, -1], weight[:, -1]
            cache.length += T
        h = x + torch.tanh(self.mix(total / weight.clamp(min=1e-6)))
        logits = self.lm_head(h)                                                            # [B, T, V]
        if labels is None:
            return logits, None
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1),
                               ignore_index=-100)
        return logits, loss
