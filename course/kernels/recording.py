"""Step 2's `generate` on a GPU, faster: reading one token is recorded once and played back for all that follow.

For one token a GPU needs a millisecond, and Python several to tell it what to do: hundreds of small things, one after
the other. A CUDA graph is told once. All that it works on lies where it lay when it was recorded: the token, its
position, and keys and values with room for more tokens than there are, of which a mask shows those that there are
(vLLM and SGLang generate with such graphs).
"""

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

DEVICES = ("cuda",)  # where it is done; everything but the graph itself works, and is tested, on a CPU too
ROOM = 128  # for more tokens than there are; then it is recorded again
ALIKE = 0.05  # of the largest logit: what bfloat16 may make of the same arithmetic in another order

# model -> the newest Recording, or None: it cannot be recorded
recordings: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def forget() -> None:
    """Give back the memory of all recordings: training wants it."""
    recordings.clear()


def recorded(gpt: ModuleType) -> Callable:
    """The `generate` of a module of step 2, with a Recording for the tokens after the prompt. While one is made, no
    other thread may use the GPU."""
    generate = gpt.GPT.generate

    def forward(self, input_ids=None, inputs_embeds=None, labels=None, attention_mask=None, cache=None, **more):
        follows = cache is not None and cache.layers and input_ids is not None and input_ids.shape[1] == 1
        if follows and labels is None and not more and recordings.get(self, True) is not None:
            if self not in recordings or not recordings[self].fits(self, cache):
                recordings[self] = make(gpt, self, input_ids, attention_mask, cache)
            if recordings[self] is not None and recordings[self].is_free_for(cache):
                return recordings[self].read(self, input_ids, attention_mask, cache), None
        return gpt.GPT.forward(self, input_ids, inputs_embeds, labels, attention_mask, cache, **more)

    @functools.wraps(generate)
    def faster_generate(self, *inputs, **options):
        if next(self.parameters()).device.type not in DEVICES or "forward" in vars(self):
            return generate(self, *inputs, **options)
        try:
            self.forward = functools.partial(forward, self)
            with torch.inference_mode():
                ids = generate(self, *inputs, **options)
        finally:
            vars(self).pop("forward", None)  # its class has one
        return ids.clone()  # what was made in inference mode could not be trained on

    return faster_generate


def make(
    gpt: ModuleType, model: torch.nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, cache: Any
) -> "Recording | None":
    """A Recording if it says of this token what the model says, else None: blocks may do what no recording can
    repeat."""

    def another():
        copy = gpt.KVCache()
        copy.layers = list(cache.layers)
        return copy

    try:
        recording = Recording(gpt, model, cache)
        found = recording.read(model, input_ids, attention_mask, another())
        expected = gpt.GPT.forward(model, input_ids, attention_mask=attention_mask, cache=another())[0]
    except (
        Exception
    ):  # such as a question to the GPU in the middle, or to the cache: a Recording is not all of a KVCache
        return None
    return recording if (found - expected).abs().max() <= ALIKE * expected.abs().max() else None


class Recording:
    """Reading one more token of each of B rows, recorded. It is itself the cache of the blocks that it runs."""

    def __init__(self, gpt: ModuleType, model: torch.nn.Module, cache: Any):
        k = cache.layers[0][0]  # [B, K, S, d]
        B, room = len(k), k.shape[2] + ROOM
        self.made_for, model = self.state(model, cache), weakref.proxy(model)  # it shall not keep the model alive
        self.layers = [tuple(x.new_zeros(B, x.shape[1], room, x.shape[3]) for x in layer) for layer in cache.layers]
        self.ids = torch.zeros(B, 1, dtype=torch.long, device=k.device)
        self.positions, self.place = torch.zeros_like(self.ids), torch.zeros_like(self.ids[0])
        self.mask = torch.ones(B, 1, 1, room, dtype=torch.bool, device=k.device)
        self.handed: list[weakref.ref] = []  # weak references to the keys of the first layer that were given to caches

        def work():
            x = model.model.embed_tokens(self.ids)
            angles = gpt.rope_angles(self.positions, model.config.head_dim, model.config.rope_theta)
            for layer in model.model.layers:
                x = layer(x, angles, self.mask, self)
            return model.lm_head(model.model.norm(x))

        self.play, self.logits = record(work, k.device)

    def extend(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """KVCache.extend, in place: keys and values of all that there is room for, [B, K, room, d]."""
        for kept, new in zip(self.layers[layer], (k, v)):
            kept.index_copy_(2, self.place, new)
        return self.layers[layer]

    @staticmethod
    def state(model: torch.nn.Module, cache: Any) -> tuple:
        """What a recording holds for: where the weights lie, how many rows there are, and numbers of what kind."""
        k = cache.layers[0][0]
        return [p.data_ptr() for p in model.parameters()], len(k), k.dtype, torch.is_autocast_enabled("cuda")

    def fits(self, model: torch.nn.Module, cache: Any) -> bool:
        return cache.length < self.mask.shape[-1] and self.made_for == self.state(model, cache)

    def is_free_for(self, cache: Any) -> bool:
        """No other cache still has keys and values that lie here and would be written over."""
        return all(keys() is None or keys() is cache.layers[0][0] for keys in self.handed)

    def read(
        self, model: torch.nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, cache: Any
    ) -> torch.Tensor:
        """Tokens [B, 1] after the S in the cache -> logits [B, 1, V]; the cache then has S + 1."""
        S = cache.length
        if all(keys() is not cache.layers[0][0] for keys in self.handed):
            for ours, theirs in zip(self.layers, cache.layers):
                for kept, past in zip(ours, theirs):
                    kept[:, :, :S] = past
        positions, mask = model.positions_and_mask(1, S, attention_mask, input_ids.device)
        self.ids.copy_(input_ids)
        self.positions.copy_(positions)
        self.place.fill_(S)
        self.mask.zero_()
        self.mask[..., : S + 1] = True if mask is None else mask
        self.play()
        cache.layers[:] = [tuple(x[:, :, : S + 1] for x in layer) for layer in self.layers]
        self.handed = [keys for keys in (*self.handed, weakref.ref(cache.layers[0][0])) if keys() is not None]
        return self.logits.clone()


def record(work: Callable[[], torch.Tensor], device: torch.device) -> tuple[Callable[[], object], torch.Tensor]:
    """(a function that does `work` again, the tensor in which its result then is)."""
    if device.type != "cuda":
        result = work()
        return lambda: result.copy_(work()), result
    # Autocast must not keep what it casts: the recording would read it again when it is long gone.
    settings = {"dtype": torch.get_autocast_dtype("cuda"), "enabled": torch.is_autocast_enabled("cuda")}
    here, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
    aside().wait_stream(here)
    try:
        with torch.autocast("cuda", **settings, cache_enabled=False):
            with torch.cuda.stream(aside()), no_waiting():
                work()  # once unrecorded: some things are done only the first time
            here.wait_stream(aside())
            with torch.cuda.graph(graph):
                result = work()
    finally:
        torch.cuda.set_stream(here)  # an error in the middle of a recording leaves another
    return graph.replay, result


@functools.cache
def aside() -> torch.cuda.Stream:
    """One stream for all recordings: each that matrix products have run on keeps memory for them."""
    return torch.cuda.Stream()


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """An error where Python waits for the GPU's answer. To find that out in the middle of a recording leaves a mess."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
