"""Step 2 beside independent oracles: transformers' Llama, torch's kernels, float64 arithmetic, statistics."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course import checking, steps

gpt = steps.load("step2_gpt", "solution")

KINDS = {
    "plain": dict(num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=False),
    "grouped": dict(num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=False),
    "one key": dict(num_attention_heads=4, num_key_value_heads=1, tie_word_embeddings=True),
    "tied": dict(num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, rope_theta=500000.0),
}


@pytest.fixture(params=KINDS, scope="module")
def pair(request):
    """(ours, theirs): the same random weights in our GPT and in transformers' LlamaForCausalLM."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(11)
    config = gpt.GPTConfig(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        max_position_embeddings=64,
        rms_norm_eps=1e-4,
        **KINDS[request.param],
    )
    ours = gpt.GPT(config).eval()
    with torch.no_grad():
        for parameter in ours.parameters():  # louder than the first weights of a model, so that errors show
            parameter.copy_(torch.randn_like(parameter) * (1 if parameter.dim() == 1 else 0.2))
    fields = dict(config.__dict__)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**fields, attn_implementation="eager", pad_token_id=0, bos_token_id=1, eos_token_id=2)
    ).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    theirs.generation_config.pad_token_id = 0
    return ours, theirs


def ids_and_mask(B, T, padding=()):
    ids = torch.randint(3, 97, (B, T), generator=torch.Generator().manual_seed(B * T))
    mask = torch.ones_like(ids)
    for row, length in enumerate(padding):
        mask[row, :length] = 0
    return ids, mask


# the whole model beside transformers


def test_state_dicts_are_exchanged(pair):
    ours, theirs = pair
    assert set(ours.state_dict()) == set(theirs.state_dict())
    again = gpt.GPT(ours.config)
    again.load_state_dict(theirs.state_dict(), strict=True)
    ids, _ = ids_and_mask(2, 9)
    torch.testing.assert_close(again(ids)[0], ours(ids)[0], rtol=0, atol=0)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == ours.config.tie_word_embeddings


@torch.no_grad()
def test_checkpoints_are_exchanged_on_disk(pair, tmp_path):
    """What transformers saves, ours reads, and what ours saves, transformers reads: by name, strictly."""
    from safetensors.torch import load_file, save_file

    ours, theirs = pair
    ids, _ = ids_and_mask(2, 9)
    theirs.save_pretrained(tmp_path / "theirs")
    tensors = load_file(tmp_path / "theirs" / "model.safetensors")
    again = gpt.GPT(ours.config)
    if ours.config.tie_word_embeddings:  # one matrix under two names is written once
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    again.load_state_dict(tensors, strict=True)
    torch.testing.assert_close(again(ids)[0], theirs(ids).logits, rtol=1e-4, atol=1e-4)

    (tmp_path / "ours").mkdir()
    theirs.config.save_pretrained(tmp_path / "ours")
    changed = {name: tensor * 1.5 for name, tensor in ours.state_dict().items()}
    save_file(changed, tmp_path / "ours" / "model.safetensors", metadata={"format": "pt"})
    read, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    again.load_state_dict(changed)
    torch.testing.assert_close(again(ids)[0], read.eval()(ids).logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_logits_equal(pair):
    ours, theirs = pair
    ids, _ = ids_and_mask(3, 17)
    torch.testing.assert_close(ours(ids)[0], theirs(ids).logits, rtol=1e-4, atol=1e-4)
    embeds = ours.get_input_embeddings()(ids)
    torch.testing.assert_close(ours(inputs_embeds=embeds)[0], ours(ids)[0], rtol=0, atol=0)


@torch.no_grad()
def test_logits_equal_with_padding(pair):
    ours, theirs = pair
    ids, mask = ids_and_mask(3, 13, padding=(0, 4, 9))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = theirs(ids, attention_mask=mask, position_ids=positions).logits
    got = ours(ids, attention_mask=mask)[0]
    torch.testing.assert_close(got[mask == 1], logits[mask == 1], rtol=1e-4, atol=1e-4)
    assert got.isfinite().all()
    alone = ours(ids[2:, 9:])[0]  # padding changes nothing in a row
    torch.testing.assert_close(got[2:, 9:], alone, rtol=1e-4, atol=1e-4)


def test_loss_and_gradients_equal(pair):
    ours, theirs = pair
    ids, _ = ids_and_mask(3, 12)
    ignored = torch.rand(ids.shape, generator=torch.Generator().manual_seed(5)) < 0.4
    labels = ids.masked_fill(ignored, gpt.IGNORE)
    ours.zero_grad(), theirs.zero_grad()
    loss, reference = ours(ids, labels=labels)[1], theirs(ids, labels=labels).loss
    torch.testing.assert_close(loss, reference, rtol=1e-5, atol=1e-5)
    loss.backward(), reference.backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-4, msg=name)


@torch.no_grad()
def test_ignored_labels_change_nothing(pair):
    ours, theirs = pair
    ids, mask = ids_and_mask(3, 11, padding=(0, 2, 6))
    labels = ids.masked_fill(mask == 0, gpt.IGNORE)
    labels[:, -3:] = gpt.IGNORE
    embeds = ours.get_input_embeddings()(ids)
    loss = ours(inputs_embeds=embeds, attention_mask=mask, labels=labels)[1]
    by_row = []  # each row alone, without its padding, up to the last label that counts
    for row, start in enumerate((0, 2, 6)):
        logits = theirs(ids[row : row + 1, start:8]).logits[0, :-1]
        by_row += F.cross_entropy(logits, ids[row, start + 1 : 8], reduction="none").tolist()
    # the label of a row's first token counts where padding stands before it: nothing real has guessed it
    guessed = ours(ids, attention_mask=mask)[0]
    by_row += [F.cross_entropy(guessed[row, start - 1], ids[row, start]).item() for row, start in ((1, 2), (2, 6))]
    assert loss.item() == pytest.approx(sum(by_row) / len(by_row), rel=1e-4)


@torch.no_grad()
def test_greedy_generation_equals(pair):
    ours, theirs = pair
    ids, _ = ids_and_mask(3, 7)
    theirs_new = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, eos_token_id=None
    )[:, 7:]
    ours_new = ours.generate(ids, max_new_tokens=12)
    assert ours_new.tolist() == theirs_new.tolist()
    for row in range(3):  # alone as in a batch
        assert ours.generate(ids[row : row + 1], max_new_tokens=12).tolist() == ours_new[row : row + 1].tolist()
    so_far = ids
    for _ in range(12):  # without a cache
        so_far = torch.cat([so_far, ours(so_far)[0][:, -1:].argmax(-1)], dim=1)
    assert so_far[:, 7:].tolist() == ours_new.tolist()


@torch.no_grad()
def test_left_padded_generation_equals(pair):
    ours, theirs = pair
    ids, mask = ids_and_mask(3, 9, padding=(0, 3, 7))
    ours_new = ours.generate(ids, attention_mask=mask, max_new_tokens=10)
    theirs_new = theirs.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=10, eos_token_id=None)
    assert ours_new.tolist() == theirs_new[:, 9:].tolist()
    for row, length in enumerate((0, 3, 7)):
        alone = ours.generate(ids[row : row + 1, length:], max_new_tokens=10)
        assert alone.tolist() == ours_new[row : row + 1].tolist()
    embeds = ours.get_input_embeddings()(ids)
    from_embeds = ours.generate(inputs_embeds=embeds, attention_mask=mask, max_new_tokens=10)
    assert from_embeds.tolist() == ours_new.tolist()


@torch.no_grad()
def test_rows_end_by_themselves(pair):
    ours, _ = pair
    ids, _ = ids_and_mask(3, 7)
    free = ours.generate(ids, max_new_tokens=12)
    eos = int(free[0, 4])
    new = ours.generate(ids, max_new_tokens=12, eos_token_id=eos)
    longest = 0
    for row in range(3):
        said = free[row].tolist()
        ends = said.index(eos) + 1 if eos in said else len(said)
        longest = max(longest, ends)
        assert new[row, :ends].tolist() == said[:ends] and set(new[row, ends:].tolist()) <= {eos}
    assert new.shape[1] == longest


@torch.no_grad()
def test_a_cache_in_any_pieces(pair):
    ours, _ = pair
    ids, mask = ids_and_mask(2, 14, padding=(0, 5))
    for attention_mask in (None, mask):
        whole = ours(ids, attention_mask=attention_mask)[0]
        for pieces in ((14,), (7, 7), (1,) * 14, (6, 1, 4, 3)):
            cache, end, got = gpt.KVCache(), 0, []
            for length in pieces:
                start, end = end, end + length
                part = None if attention_mask is None else attention_mask[:, :end]
                got.append(ours(ids[:, start:end], attention_mask=part, cache=cache)[0])
            assert cache.length == 14 and len(cache.layers) == 3
            seen = mask == 1 if attention_mask is not None else torch.ones_like(ids, dtype=torch.bool)
            torch.testing.assert_close(torch.cat(got, 1)[seen], whole[seen], rtol=1e-4, atol=1e-4)


# the parts


@pytest.mark.parametrize("shape", [(7,), (3, 16), (2, 5, 31)])
def test_rms_norm_beside_float64(shape):
    x, weight, eps = torch.randn(shape) * 3 + 1, torch.randn(shape[-1]), 1e-3
    y = x.numpy().astype(np.float64)
    reference = weight.numpy() * y / np.sqrt((y * y).mean(-1, keepdims=True) + eps)
    np.testing.assert_allclose(gpt.rms_norm(x, weight, eps).numpy(), reference, rtol=1e-5, atol=1e-6)
    in_double = gpt.rms_norm(x.double(), weight.double(), eps).numpy()
    np.testing.assert_allclose(in_double, reference, rtol=1e-12, atol=1e-12)
    half = gpt.rms_norm((x * 300).half(), weight.half(), eps)
    assert half.dtype == torch.float16
    z = (x * 300).half().numpy().astype(np.float64)
    reference = weight.half().numpy() * z / np.sqrt((z * z).mean(-1, keepdims=True) + eps)
    np.testing.assert_allclose(half.numpy(), reference, rtol=5e-3, atol=5e-3)


def test_rope_is_a_rotation():
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    positions = torch.tensor([[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]])
    angles = gpt.rope_angles(positions, 8, 10000.0).double()
    y = gpt.apply_rope(x, angles)
    z = torch.complex(x[..., :4], x[..., 4:]) * torch.exp(1j * angles)  # complex numbers multiply by turning
    torch.testing.assert_close(torch.complex(y[..., :4], y[..., 4:]), z)
    torch.testing.assert_close(y[:, :, 0], x[:, :, 0])  # position 0 is not turned
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1))


def test_rope_leaves_the_distance_only():
    q, k = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)

    def score(at_q, at_k):
        turned = [
            gpt.apply_rope(x, gpt.rope_angles(torch.tensor([[at]]), 16, 10000.0).double())
            for x, at in ((q, at_q), (k, at_k))
        ]
        return (turned[0] * turned[1]).sum().item()

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_beside_torch(dtype):
    q, k, v = torch.randn(2, 3, 7, 10, dtype=dtype), *torch.randn(2, 2, 3, 11, 10, dtype=dtype)
    mask = torch.rand(2, 1, 7, 11) < 0.6
    mask[..., 3] = True
    for given in (None, mask):
        allowed = torch.ones(7, 11, dtype=torch.bool).tril(4) if given is None else given
        reference = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        torch.testing.assert_close(gpt.attention(q, k, v, given), reference)
    k, v = k[:, :, :7], v[:, :, :7]
    reference = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(gpt.attention(q, k, v), reference)


def test_attention_looks_back_only():
    q, k, v = torch.randn(3, 1, 2, 6, 8)
    before = gpt.attention(q, k, v)
    k[:, :, 4:], v[:, :, 4:] = 100.0, -7.0
    torch.testing.assert_close(gpt.attention(q, k, v)[:, :, :4], before[:, :, :4], rtol=0, atol=0)
    assert gpt.attention(q * 1e4, k * 1e4, v).isfinite().all()


def numpy_sample(logits, u, temperature, top_k, top_p):
    """One row of `sample` in float64, written from its description."""
    z = logits.astype(np.float64) / temperature
    p = np.exp(z - z.max())
    p /= p.sum()
    order = sorted(range(len(p)), key=lambda i: -p[i])
    if top_k is not None:
        order = order[:top_k]
    if top_p is not None:
        total, kept, reached = p[order].sum(), [], 0.0
        for i in order:
            kept.append(i)
            reached += p[i] / total
            if reached >= top_p:
                break
        order = kept
    kept = np.zeros_like(p)
    kept[order] = p[order] / p[order].sum()
    return int((np.cumsum(kept) <= u).sum())


KEPT = [(None, None), (1, None), (4, None), (None, 0.7), (6, 0.8), (50, 0.999)]


@pytest.mark.parametrize("top_k, top_p", KEPT)
def test_sample_beside_float64(top_k, top_p):
    generator = torch.Generator().manual_seed(3)
    logits, uniforms = 2 * torch.randn(300, 20, generator=generator), torch.rand(300, generator=generator)
    for temperature in (0.5, 1.0, 1.7):
        ids = gpt.sample(logits, uniforms, temperature, top_k, top_p)
        for row, u, chosen in zip(logits.numpy(), uniforms.tolist(), ids.tolist()):
            assert chosen == numpy_sample(row, u, temperature, top_k, top_p)


def test_sample_as_statistics():
    logits = torch.tensor([2.0, 0.5, -1.0, 1.0, -30.0])
    n = 40_000
    uniforms = torch.rand(n, generator=torch.Generator().manual_seed(1))
    for temperature, kept in ((1.0, None), (2.0, 3)):
        ids = gpt.sample(logits.expand(n, -1), uniforms, temperature, top_k=kept)
        p = (logits / temperature).softmax(-1)
        if kept:
            p = p.where(p >= p.topk(kept).values[-1], 0)
        p = p / p.sum()
        counts = torch.bincount(ids, minlength=5) / n
        assert (counts - p).abs().max() < 4 * 0.5 / math.sqrt(n)
    assert gpt.sample(logits[None], torch.tensor([0.0])).item() == 0


def test_sample_keeps_to_what_is_kept():
    logits = torch.tensor([[-50.0, 3.0, 1.0, -50.0]]).expand(3, -1)
    uniforms = torch.tensor([0.0, 0.5, 1 - 2**-24])
    assert set(gpt.sample(logits, uniforms, top_k=2).tolist()) <= {1, 2}
    assert gpt.sample(logits, uniforms, top_p=1e-6).tolist() == [1, 1, 1]
    assert gpt.sample(logits.half(), uniforms).dtype == torch.int64


# the model as it begins


def test_first_loss_is_a_blind_guess():
    torch.manual_seed(0)
    config = gpt.GPTConfig()
    model = gpt.GPT(config)
    ids = torch.randint(0, config.vocab_size, (4, 64))
    assert model(ids, labels=ids)[1].item() == pytest.approx(math.log(config.vocab_size), abs=0.5)


@pytest.mark.parametrize(
    "sizes", [dict(num_hidden_layers=3), dict(hidden_size=256, num_attention_heads=4, rope_theta=5e5)]
)
def test_heads_begin_by_looking_back(sizes):
    """In layers 0, 2, ... head h gives most of its weight to the token h + 1 places back, whatever is written there."""
    torch.manual_seed(0)
    model = gpt.GPT(gpt.GPTConfig(**sizes))
    seen = []

    def spy(q, k, v, mask=None):
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        seen.append(scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -math.inf).softmax(-1).mean(0))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(gpt, "attention", spy)
        model(torch.randint(0, 1024, (64, 40)))
    for layer in range(0, len(seen), 2):
        for head in range(4):
            by_distance = torch.stack([seen[layer][head].diagonal(-d)[10:].mean() for d in range(12)])
            assert by_distance.argmax() == head + 1, (layer, head, by_distance)


def test_layers_between_begin_by_matching_and_all_by_copying():
    """In layer 1 a token looks more at an equal one than at others; what a head passes on resembles what it read."""
    torch.manual_seed(0)
    model = gpt.GPT(gpt.GPTConfig(num_key_value_heads=4))
    x = F.normalize(torch.randn(200, 128), dim=-1) * math.sqrt(128)
    x[:, 0] = 0
    matching = model.model.layers[1].self_attn
    q, k = (p(x).unflatten(-1, (4, 32)).transpose(0, 1) for p in (matching.q_proj, matching.k_proj))
    scores = q @ k.transpose(-2, -1)
    assert (scores.diagonal(dim1=-2, dim2=-1).mean(-1) > scores.mean((-2, -1)) + 3 * scores.std((-2, -1)) / 2).all()
    for layer in model.model.layers:
        passed_on = layer.self_attn.o_proj(layer.self_attn.v_proj(x))
        assert F.cosine_similarity(passed_on, x).mean() > 0.5


def test_configs_that_cannot_be():
    for fields in (
        dict(hidden_size=30, num_attention_heads=4),
        dict(hidden_size=12, num_attention_heads=4),
        dict(num_attention_heads=4, num_key_value_heads=3),
    ):
        with pytest.raises(ValueError):
            gpt.GPTConfig(**fields)


def test_presets_grow():
    presets, sizes = steps.load("step2_gpt", "train").PRESETS, []
    assert list(presets) == ["smoke", "tiny", "small", "base"]
    for fields in presets.values():
        with torch.device("meta"):
            model = gpt.GPT(gpt.GPTConfig(vocab_size=1024, **fields))
        sizes.append(sum(parameter.numel() for parameter in model.parameters()))
    assert all(5 * small < large for small, large in zip(sizes, sizes[1:])), sizes


def test_cuda_agrees_with_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no cuda on this machine")
    torch.manual_seed(0)
    model = gpt.GPT(gpt.GPTConfig())
    ids = torch.randint(0, 1024, (3, 70))
    logits, new = model(ids)[0], model.generate(ids, max_new_tokens=10)
    model.cuda()
    torch.testing.assert_close(model(ids.cuda())[0].cpu(), logits, rtol=1e-3, atol=1e-3)
    assert model.generate(ids.cuda(), max_new_tokens=10).cpu().tolist() == new.tolist()


def finding(todo, old, new):
    """What is said of a solution in which `old` is replaced by `new`."""
    source = steps.find_step("step2").file("solution").read_text(encoding="utf-8")
    assert source.count(old) == 1
    module = steps.execute(
        source.replace(old, new), steps.find_step("step2").file("solution"), "wrong", shown_as="<wrong>"
    )
    return checking.check("step2_gpt", module, todo)


def test_an_error_in_another_case_is_not_given_a_mistakes_words():
    found = finding("generate", "sample(logits, uniforms[:, n],", "sample(logits, uniforms[n],")
    assert found.status == "raised" and "uniforms" in found.called and not found.mistake_name


def test_a_change_in_place_is_explained():
    found = finding(
        "block",
        "x = x + self.self_attn(self.input_layernorm(x), angles, mask, cache)",
        "x += self.self_attn(self.input_layernorm(x), angles, mask, cache)",
    )
    assert found.status == "raised" and "x = x + y in the place of x += y" in found.note


def test_the_largest_number_below_1_chooses_a_token_of_any_vocabulary():
    logits = torch.randn(300, 50_000, generator=torch.Generator().manual_seed(5))
    ids = gpt.sample(logits, torch.full((300,), 1 - 2.0**-24))
    assert ids.max() < 50_000


def test_sampling_without_top_k_and_top_p_is_never_right_by_chance():
    lesson = checking.lesson("step2_gpt")
    (mistake,) = (mistake for mistake in lesson.mistakes["generate"] if mistake.name == "top_k and top_p not handed on")
    for seed in (657369739, *range(5)):  # with the first of them, one sampled case alone gave the right tokens
        assert not checking.check("step2_gpt", lesson.wrong(mistake), "generate", seed=seed, diagnose=False).passed
