"""What is recorded says the same tokens as step 2's own `generate`. On a CPU all but the CUDA graph itself is
tested."""

import gc
import weakref

import pytest
import torch

from course import kernels, steps
from course.kernels import recording

gpt = steps.load("step2", "solution")
CONFIG = gpt.GPTConfig(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    tie_word_embeddings=False,
)


@pytest.fixture(params=["cpu", "cuda"])
def device(request, monkeypatch):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no cuda on this machine")
    monkeypatch.setattr(recording, "DEVICES", ("cpu", "cuda"))
    monkeypatch.setattr(recording, "ROOM", 24)
    return torch.device(request.param)


def twins(device, change=lambda module: None):
    """A model of step 2 and one whose `generate` is recorded, with the same weights; and how often GPT.forward read."""
    torch.manual_seed(0)
    module, reads = steps.load("step2", "solution"), []
    change(module)
    plain = module.GPT.forward

    def counted(self, *inputs, **options):
        reads.append(1)
        return plain(self, *inputs, **options)

    module.GPT.forward = counted
    module.GPT.generate = recording.recorded(module)
    one, other = gpt.GPT(CONFIG), module.GPT(CONFIG)
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                parameter.mul_(4)  # what it says hangs on more than the last token
    other.load_state_dict(one.state_dict())
    return one.to(device), other.to(device), reads


def same(models, ids, **options):
    expected, found = (model.generate(ids, **options) for model in models)
    assert found.tolist() == expected.tolist()
    return expected


@pytest.mark.parametrize("rows, padding", [(1, 0), (1, 3), (3, 0), (3, 3)])
def test_it_says_the_same(device, rows, padding):
    *models, reads = twins(device)
    ids = torch.randint(0, 97, (rows, 7), device=device)
    mask = None
    if padding:
        mask = torch.ones_like(ids)
        mask[0, :padding] = 0
    said = same(models, ids, attention_mask=mask, max_new_tokens=60)  # more than there is room for at first
    assert len(said.unique()) > 3
    assert len(reads) <= 2 + 3  # the prompt, and once for each recording
    reads.clear()
    uniforms = torch.rand(rows, 20, device=device)
    same(
        models,
        ids[:, 2:],
        attention_mask=None if mask is None else mask[:, 2:],
        max_new_tokens=20,
        temperature=0.9,
        top_p=0.9,
        uniforms=uniforms,
    )
    assert len(reads) == 1, "another prompt, the same recording"
    same(models, ids, attention_mask=mask, max_new_tokens=12, eos_token_id=int(said[0, 4]))


def test_it_reads_the_weights_of_today(device):
    *models, reads = twins(device)
    ids = torch.randint(0, 97, (2, 7), device=device)
    before = same(models, ids, max_new_tokens=9)
    with torch.no_grad():
        for pair in zip(*(model.parameters() for model in models)):
            noise = 0.3 * torch.randn_like(pair[0])
            for parameter in pair:
                parameter.add_(noise)
    reads.clear()
    after = same(models, ids, max_new_tokens=9)
    assert before.tolist() != after.tolist() and len(reads) == 1
    for model in models:  # in other places, which a recording does not know
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.flip(0).clone())
    assert same(models, ids, max_new_tokens=9).tolist() != after.tolist()


def test_training_goes_on_afterwards(device):
    *models, reads = twins(device)
    ids = torch.randint(0, 97, (2, 7), device=device)
    new = same(models, ids, max_new_tokens=9)
    losses = [model(torch.cat([ids, new], dim=1), labels=torch.cat([ids, new], dim=1))[1] for model in models]
    torch.testing.assert_close(*losses)
    losses[1].backward()
    assert all(parameter.grad is not None for parameter in models[1].parameters())
    assert "forward" not in vars(models[1])


def test_a_model_can_be_forgotten(device):
    _, model, _ = twins(device)
    model.generate(torch.randint(0, 97, (2, 7), device=device), max_new_tokens=3)
    gone = weakref.ref(model)
    del model, _
    gc.collect()
    assert gone() is None


def cache_by_hand(module):
    """A cache that is written by hand, not by `extend`, would not be the recording's."""

    def forward(self, x, angles, mask=None, cache=None):
        B, T, _ = x.shape
        q, k, v = (
            proj(x).view(B, T, -1, self.head_dim).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = module.apply_rope(q, angles), module.apply_rope(k, angles)
        if cache is not None:
            if self.layer < len(cache.layers):
                past_k, past_v = cache.layers[self.layer]
                k, v = torch.cat([past_k, k], dim=2), torch.cat([past_v, v], dim=2)
                cache.layers[self.layer] = k, v
            else:
                cache.layers.append((k, v))
        k, v = k.repeat_interleave(3, dim=1), v.repeat_interleave(3, dim=1)
        return self.o_proj(module.attention(q, k, v, mask).transpose(1, 2).flatten(2))

    module.Attention.forward = forward


def length_of_the_cache(module):
    plain = module.Attention.forward

    def forward(self, x, angles, mask=None, cache=None):
        assert cache is None or cache.length >= 0
        return plain(self, x, angles, mask, cache)

    module.Attention.forward = forward


def only_a_kv_cache(module):
    plain = module.Attention.forward

    def forward(self, x, angles, mask=None, cache=None):
        assert cache is None or isinstance(cache, module.KVCache)
        return plain(self, x, angles, mask, cache)

    module.Attention.forward = forward


@pytest.mark.parametrize("change", [cache_by_hand, length_of_the_cache, only_a_kv_cache])
def test_blocks_that_cannot_be_repeated_are_left_alone(device, change):
    *models, reads = twins(device, change)
    same(models, torch.randint(0, 97, (2, 7), device=device), max_new_tokens=9)
    assert len(reads) >= 9


def row_by_row(module):
    """Each row with a cache of its own, all of them at once; and a cache that goes two ways."""

    @torch.no_grad()
    def generate(self, input_ids, max_new_tokens=20):
        caches = [module.KVCache() for _ in input_ids]
        rows, said = list(input_ids.split(1)), [[] for _ in input_ids]
        for n in range(max_new_tokens):
            for i, cache in enumerate(caches):
                logits = self(rows[i], cache=cache)[0][:, -1]
                rows[i] = logits.argmax(-1, keepdim=True)
                said[i].append(rows[i])
                if n > 2:
                    fork = module.KVCache()
                    fork.layers = list(cache.layers)
                    self((rows[i] + 1) % 97, cache=fork)
                    self((rows[i] + 2) % 97, cache=fork)
        return torch.cat([torch.cat(row, dim=1) for row in said])

    module.GPT.generate = generate


def one_more_option(module):
    plain, generate = module.GPT.forward, module.GPT.generate

    def forward(self, *inputs, last=False, **options):
        logits, loss = plain(self, *inputs, **options)
        return (logits[:, -1:] if last else logits), loss

    def asks(self, input_ids, max_new_tokens=20):
        assert self(input_ids, last=True)[0].shape[1] == 1
        return generate(self, input_ids, max_new_tokens=max_new_tokens)

    module.GPT.forward, module.GPT.generate = forward, asks


@pytest.mark.parametrize("change", [row_by_row, one_more_option])
def test_other_ways_to_generate(device, change):
    *models, _ = twins(device, change)
    same(models, torch.randint(0, 97, (3, 7), device=device), max_new_tokens=12)


def test_other_batches(device):
    *models, _ = twins(device)
    for rows in (4, 2, 4):
        same(models, torch.randint(0, 97, (rows, 7), device=device), max_new_tokens=9)


def test_memory_is_given_back(device):
    _, model, reads = twins(device)
    ids = torch.randint(0, 97, (2, 7), device=device)
    model.generate(ids, max_new_tokens=9)
    reads.clear()
    model.generate(ids, max_new_tokens=9)
    assert len(reads) == 1
    kernels.forget()
    model.generate(ids, max_new_tokens=9)
    assert len(reads) == 3


def test_it_is_put_in_for_a_gpu():
    module = kernels.use(steps.load("step2", "solution"), torch.device("cuda"))
    assert module.GPT.generate.__code__ is recording.recorded(steps.load("step2", "solution")).__code__


def test_blocks_that_ask_the_gpu_are_left_alone(device):
    if device.type == "cpu":
        pytest.skip("a CPU answers at once")

    def asking(module):
        plain = module.MLP.forward
        module.MLP.forward = lambda self, x: plain(self, x) if x.isfinite().all().item() else x

    *models, reads = twins(device, asking)
    same(models, torch.randint(0, 97, (2, 7), device=device), max_new_tokens=9)
    assert len(reads) >= 9
    assert torch.rand(3, device=device).isfinite().all(), "the GPU is well"


def test_an_error_leaves_the_model_as_it_was(device):
    _, model, _ = twins(device)
    with pytest.raises(IndexError):
        model.generate(
            torch.full((1, 4), 3, device=device),
            max_new_tokens=4,
            temperature=1.0,
            uniforms=torch.rand(1, 2, device=device),
        )
    assert "forward" not in vars(model)
