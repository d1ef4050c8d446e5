"""The faster functions that the course trains with are step 2's: the same results, the same gradients."""

import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import library

from course import kernels, steps
from course.kernels import functions, one_token

gpt = steps.load("step2", "solution")
CROSS_ENTROPIES = functions.cross_entropy, F.cross_entropy


@pytest.mark.parametrize("T, S", [(7, 7), (1, 7), (3, 7), (1, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_fused_attention(T, S, masked):
    q, k, v = torch.randn(2, 3, T, 4), torch.randn(2, 3, S, 4), torch.randn(2, 3, S, 4)
    mask = None
    if masked:
        mask = torch.ones(T, S, dtype=torch.bool).tril(S - T)[None, None].repeat(2, 1, 1, 1)
        mask[0, :, :, 0] = S == T and torch.arange(T)[:, None].T == 0  # padding, looked at by itself only
    expected = gpt.attention(q, k, v, mask)
    torch.testing.assert_close(functions.fused_attention(q, k, v, mask), expected, rtol=1e-5, atol=1e-6)


def both(ours, theirs, *inputs):
    """Results and gradients of two functions of the same inputs."""
    found = []
    for function in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in inputs]
        y = function(*leaves)
        gradient = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
        found.append([y, *torch.autograd.grad(y, leaves, gradient)])
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("T, S", [(191, 191), (192, 192), (200, 200), (200, 259), (1, 200)])
@pytest.mark.parametrize("masked", ["no", "padding", "one for all rows", "looks ahead", "one for all queries"])
def test_attention_in_parts(T, S, masked, dtype):
    q, k, v = (torch.randn(2, length, 3, 4, dtype=dtype).transpose(1, 2) for length in (T, S, S))
    causal = torch.ones(T, S, dtype=torch.bool).tril(S - T)
    padded = causal[None, None].repeat(2, 1, 1, 1)
    padded[0, :, :, :5] = False
    padded |= causal & ~causal.tril(S - T - 1)  # each looks at itself at least
    ahead = padded.clone()
    ahead[1, 0, 0, S - 1] = True
    mask = {
        "no": None,
        "padding": padded,
        "one for all rows": causal,
        "looks ahead": ahead,
        "one for all queries": torch.arange(S)[None] < 1,
    }[masked]
    ours, theirs = both(lambda *x: functions.attention_in_parts(*x, mask), lambda *x: gpt.attention(*x, mask), q, k, v)
    tolerance = {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(ours, theirs, **tolerance)
    with torch.no_grad():
        torch.testing.assert_close(functions.attention_in_parts(q, k, v, mask), theirs[0], **tolerance)


def test_parts_look_at_no_key_in_vain(monkeypatch):
    seen = []
    monkeypatch.setattr(functions, "fused_attention", lambda q, k, v, mask: seen.append((q.shape[2], k.shape[2])) or q)
    x = torch.randn(2, 3, 200, 4)
    torch.testing.assert_close(functions.attention_in_parts(x, x, x), x)
    assert seen == [(8, 200), (64, 192), (64, 128), (64, 64)]


@pytest.mark.parametrize("shape", [(5,), (3, 16), (2, 5, 31)])
def test_rms_norm(shape):
    x, weight = 3 * torch.randn(shape) + 1, torch.randn(shape[-1])
    if len(shape) == 3:
        x[0, 0] = 0  # a vector without a direction
    torch.testing.assert_close(
        *both(lambda x, w: functions.rms_norm(x, w, 1e-3), lambda x, w: gpt.rms_norm(x, w, 1e-3), x, weight),
        rtol=1e-4,
        atol=1e-5,
    )
    inputs = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True),
        torch.randn(shape[-1], dtype=torch.float64, requires_grad=True),
    ]
    assert torch.autograd.gradcheck(lambda x, w: functions.rms_norm(x, w, 1e-3), inputs)


@pytest.mark.parametrize("rows", [1, 2])
def test_rope(rows):
    angles = 6 * torch.rand(rows, 1, 7, 5)
    x = torch.randn(2, 7, 3, 10).transpose(1, 2)  # [B, H, T, d], as it comes out of q_proj
    ours, theirs = both(lambda x: functions.apply_rope(x, angles), lambda x: gpt.apply_rope(x, angles), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert ours[0].stride() == x.stride()
    with torch.no_grad():
        torch.testing.assert_close(functions.apply_rope(x, angles), theirs[0], rtol=1e-5, atol=1e-6)
    assert functions.apply_rope(x.bfloat16(), angles).dtype == torch.bfloat16


def test_parts_for_the_gpu():
    """On a CPU here: the same functions run there."""
    angles = 6 * torch.rand(2, 1, 7, 5)
    x = torch.randn(2, 7, 3, 10).transpose(1, 2)
    torch.testing.assert_close(
        *both(lambda x: functions.rope_to_compile(x, angles), lambda x: gpt.apply_rope(x, angles), x),
        rtol=1e-5,
        atol=1e-6,
    )
    assert functions.rope_to_compile(x.bfloat16(), angles).dtype == torch.bfloat16
    library.opcheck(functions.sealed_cos_and_sin, (angles,))
    x, weight = 3 * torch.randn(2, 5, 31) + 1, torch.randn(31)
    torch.testing.assert_close(
        *both(lambda x, w: functions.fused_rms_norm(x, w, 1e-3), lambda x, w: gpt.rms_norm(x, w, 1e-3), x, weight),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_model_is_the_same_on_every_device(device, compiled):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no cuda on this machine")
    if device == "cpu" and compiled and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler here")
    torch.manual_seed(0)
    config = gpt.GPTConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    fast = kernels.use(steps.load("step2", "solution"), torch.device(device), compiled)
    one, other = gpt.GPT(config).to(device), fast.GPT(config).to(device)
    other.load_state_dict(one.state_dict())
    ids = torch.randint(0, 97, (3, 20), device=device)
    losses = [model(ids, labels=ids)[1] for model in (one, torch.compile(other) if compiled else other)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    for loss in losses:
        loss.backward()
    for (name, parameter), same in zip(one.named_parameters(), other.parameters()):
        torch.testing.assert_close(parameter.grad, same.grad, rtol=1e-3, atol=1e-5, msg=name)
    if device == "cuda":
        with torch.autocast("cuda", dtype=torch.bfloat16):
            losses = [model(ids, labels=ids)[1] for model in (one, other)]
        torch.testing.assert_close(*losses, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ignored", [-100, 3, 11])
@pytest.mark.parametrize("rows", [1, 256, 700])
def test_cross_entropy(rows, ignored, dtype):
    logits, labels = 9 * torch.randn(rows, 11, dtype=dtype), torch.randint(11, (rows,))
    if rows > 1:
        labels[::3] = ignored
    else:
        labels[0] = 5
    before = logits.clone()
    functions = [lambda x, f=f: 0.3 * f(x, labels, ignore_index=ignored) for f in CROSS_ENTROPIES]
    ours, theirs = both(*functions, logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    with torch.no_grad():
        torch.testing.assert_close(functions[0](logits), theirs[0], rtol=1e-5, atol=1e-7)
    assert logits.equal(before)  # whoever called has them still
    if dtype == torch.float64 and rows == 1:
        assert torch.autograd.gradcheck(functions[0], logits.requires_grad_())


def test_cross_entropy_has_the_same_gradient_when_it_is_asked_again():
    logits, labels = torch.randn(4, 11, requires_grad=True), torch.tensor([3, -100, 0, 10])
    loss = functions.cross_entropy(logits, labels)
    first, again = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for _ in range(2))
    assert first.equal(again)


def test_cross_entropy_of_no_labels():
    labels = torch.full((4,), -100)
    ours, theirs = both(*(lambda x, f=f: f(x, labels) for f in CROSS_ENTROPIES), torch.randn(4, 11))
    assert ours[0].isnan() and theirs[0].isnan() and ours[1].equal(theirs[1]) and not ours[1].any()


def test_other_cross_entropies_are_pytorchs():
    logits, labels = torch.randn(4, 11), torch.tensor([3, 7, 0, 10])
    weight, rows = torch.rand(11), torch.randint(11, (2, 5))
    for positional, named in [
        ((logits, labels, weight), {}),
        ((logits, labels), {"reduction": "none"}),
        ((logits, labels), {"reduction": "sum"}),
        ((logits, labels), {"label_smoothing": 0.1}),
        ((logits, labels), {"weight": weight, "ignore_index": 7}),
        ((logits[0], labels[0]), {}),
        ((logits, logits.softmax(-1)), {}),
        ((torch.randn(2, 11, 5), rows), {}),
    ]:
        assert functions.cross_entropy(*positional, **named).equal(F.cross_entropy(*positional, **named))
    torch.testing.assert_close(functions.cross_entropy(input=logits, target=labels), F.cross_entropy(logits, labels))


def test_only_step_2_has_another_cross_entropy():
    pytorchs = F.cross_entropy
    assert kernels.use(steps.load("step2", "solution"), torch.device("cpu"), compiled=True).F is F
    fast = kernels.use(steps.load("step2", "solution"), torch.device("cpu"))
    assert fast.F.cross_entropy is functions.cross_entropy and fast.F.silu is F.silu and F.cross_entropy is pytorchs
    kernels.use(fast, torch.device("cpu"))  # once more changes nothing
    assert fast.F.cross_entropy is functions.cross_entropy and fast.attention is functions.attention_in_parts


@pytest.mark.parametrize("padding", [0, 30])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_long_rows_are_read_in_parts_to_the_same_end(kv_heads, padding, monkeypatch):
    calls, fused = [], functions.fused_attention
    monkeypatch.setattr(functions, "fused_attention", lambda *inputs: calls.append(inputs) or fused(*inputs))
    models = twins(kv_heads)
    ids = torch.randint(0, 97, (2, 200))
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    labels = ids.where(mask.bool(), -100)
    found = []
    for model in models:
        model.model.layers[0].requires_grad_(False)  # frozen in part
        rows = model.get_input_embeddings()(ids).detach().requires_grad_()
        logits, loss = model(inputs_embeds=rows, labels=labels, attention_mask=mask if padding else None)
        loss.backward()
        found.append([logits, loss, rows.grad, *(p.grad for p in model.parameters() if p.grad is not None)])
        assert all(parameter.grad is None for parameter in model.model.layers[0].parameters())
    assert len(calls) == 3 * 4  # of three layers, in parts of 64
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-7)


def test_a_model_with_them_is_the_same_model():
    torch.manual_seed(0)
    config = gpt.GPTConfig(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
    )
    plain, fast = gpt, kernels.use(steps.load("step2", "solution"), torch.device("cpu"))
    assert fast.rms_norm is not plain.rms_norm and fast.apply_rope is not plain.apply_rope
    one, other = plain.GPT(config).double(), fast.GPT(config).double()
    other.load_state_dict(one.state_dict())
    ids = torch.randint(0, 97, (3, 20))
    losses = [model(ids, labels=ids)[1] for model in (one, other)]
    torch.testing.assert_close(*losses)  # in float32, which the logits are turned into
    for model, cross_entropy in ((one, F.cross_entropy), (other, functions.cross_entropy)):  # in float64
        cross_entropy(model(ids)[0].flatten(0, 1), ids.flatten()).backward()
    for (name, parameter), same in zip(one.named_parameters(), other.parameters()):
        torch.testing.assert_close(parameter.grad, same.grad, rtol=1e-5, atol=1e-8, msg=name)


def twins(kv_heads=2, dtype=torch.float64):
    """A model of step 2 and the same with what course.kernels puts in. What it says hangs on more than the last word,
    so that it does not say the same again and again."""
    torch.manual_seed(0)
    config = gpt.GPTConfig(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=False,
    )
    fast = kernels.use(steps.load("step2", "solution"), torch.device("cpu"))
    one, other = gpt.GPT(config).to(dtype), fast.GPT(config).to(dtype)
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            if "norm" in name:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))  # a weight that can be forgotten
            elif "o_proj" in name or "down_proj" in name:
                parameter.mul_(4)
    other.load_state_dict(one.state_dict())
    return one, other


@pytest.fixture(params=["matrices whole", "matrices in parts"])
def layout(request, monkeypatch):
    """The models here are so small that no matrix would be read in parts."""
    if request.param == "matrices in parts":
        monkeypatch.setattr(one_token, "LARGE", 0)
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("shape, whole", [((96, 31), False), ((96, 1), False), ((97, 31), True)])
def test_product(shape, whole, rows, dtype, layout, request):
    weight, x = torch.randn(shape, dtype=dtype), torch.randn(rows, 7, shape[1], dtype=dtype)[:, 3]
    matrix = one_token.laid_out(weight)
    assert (matrix.dim() == 2) == (whole or "whole" in request.node.name)  # 97 columns cannot be parted evenly
    torch.testing.assert_close(one_token.product(x, matrix), F.linear(x, weight))


def test_only_large_matrices_are_read_in_parts():
    assert one_token.laid_out(torch.randn(2048, 512)).dim() == (3 if torch.backends.mkl.is_available() else 2)
    assert one_token.laid_out(torch.randn(512, 128)).dim() == 2


@pytest.mark.parametrize("rows, padding", [(1, 0), (1, 3), (3, 0), (3, 3)])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_generation(rows, padding, kv_heads, layout):
    models = twins(kv_heads)
    ids, mask = torch.randint(0, 97, (rows, 7)), None
    if padding:
        mask = torch.ones_like(ids)
        mask[0, :padding] = 0

    def same(**options) -> torch.Tensor:
        expected, found = (model.generate(attention_mask=mask, **options) for model in models)
        assert found.tolist() == expected.tolist()
        return expected

    sampling = {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "uniforms": torch.rand(rows, 90)}
    said = same(input_ids=ids, max_new_tokens=90)  # 90 tokens: more than there is room for at first
    assert len(said.unique()) > 3
    assert same(input_ids=ids, max_new_tokens=90, **sampling).tolist() != said.tolist()
    end = said[0, 2].item()
    assert (same(input_ids=ids, max_new_tokens=90, eos_token_id=end)[0, 2:] == end).all()  # it stops, and stays silent
    same(inputs_embeds=models[0].get_input_embeddings()(ids).detach(), max_new_tokens=9)
    if mask is None:
        same(input_ids=ids[:, :1], max_new_tokens=9)


def test_generation_in_float32_and_in_coarser_numbers(monkeypatch, layout):
    ids = torch.randint(0, 97, (2, 7))
    expected, found = (model.generate(ids, max_new_tokens=9) for model in twins(2, torch.float32))
    assert found.tolist() == expected.tolist()
    monkeypatch.setattr(one_token.OneToken, "__init__", failing)  # squares of bfloat16 are too coarse for it
    assert twins(2, torch.bfloat16)[1].generate(ids, max_new_tokens=9).shape == (2, 9)


def other_ways(model, ids):
    """Right ways to generate that the solution does not take: a token at a time, then several; each row by itself."""
    cache = gpt.KVCache()
    for part in ids.split((2, 1, 2, 1, 1), dim=1):
        logits = model(input_ids=part, cache=cache)[0][:, -1]
    alone = []
    for row in ids:
        own = gpt.KVCache()
        model(input_ids=row[None, :-1], cache=own)
        alone.append(model(input_ids=row[None, -1:], cache=own)[0][:, -1])
    return torch.cat([logits, *alone])


def test_a_generate_of_another_kind(layout):
    plain, fast = twins()
    ids = torch.randint(0, 97, (3, 7))
    expected = other_ways(plain, ids)
    torch.testing.assert_close(one_token.token_by_token(other_ways)(fast, ids), expected)
    flat = one_token.token_by_token(lambda model, ids: model.lm_head(model.model.embed_tokens(ids).flatten(0, 1)))
    torch.testing.assert_close(flat(fast, ids), plain.lm_head(plain.model.embed_tokens(ids)).flatten(0, 1))
    nested = one_token.token_by_token(
        lambda model, ids: torch.cat([model.generate(row[None], max_new_tokens=4) for row in ids])
    )
    assert nested(fast, ids).tolist() == plain.generate(ids, max_new_tokens=4).tolist()


def test_generation_leaves_the_model_as_it_was(monkeypatch):
    plain, fast = twins()
    ids = torch.randint(0, 97, (2, 6))

    def whole():
        return not any("forward" in vars(module) for module in fast.modules())

    with pytest.raises(ValueError, match="no numbers"):
        one_token.token_by_token(failing)(fast)
    assert whole()
    with monkeypatch.context() as patch:
        patch.setattr(one_token.OneToken, "__init__", failing)
        with pytest.raises(ValueError, match="no numbers"):
            fast.generate(ids)
    assert whole()
    said = fast.generate(ids, max_new_tokens=5)
    assert whole()
    for model in (plain, fast):
        row = torch.cat([ids, said], dim=1)  # what was said can be learned from
        model(row, labels=row)[1].backward()
    with torch.no_grad():
        for one, other in zip(plain.parameters(), fast.parameters()):
            torch.testing.assert_close(one.grad, other.grad)
            one.sub_(0.5 * one.grad)
            other.sub_(0.5 * other.grad)
    expected, found = (model.generate(ids, max_new_tokens=9) for model in (plain, fast))  # with the new weights
    assert found.tolist() == expected.tolist() and found[:, :5].tolist() != said.tolist()


def failing(*args):
    raise ValueError("no numbers")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
def test_a_model_that_is_compiled_reads_rows_of_several_lengths():
    """With hand-written gradients the second length was an error inside torch.compile."""
    torch.manual_seed(0)
    fast = kernels.use(steps.load("step2", "solution"), torch.device("cpu"), compiled=True)
    model = fast.GPT(
        fast.GPTConfig(
            vocab_size=97,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )
    compiled = torch.compile(model)
    for length in (12, 9, 7):
        ids = torch.randint(0, 97, (2, length))
        loss = compiled(input_ids=ids, labels=ids)[1]
        loss.backward()
        torch.testing.assert_close(loss, model(ids, labels=ids)[1])


def test_attention_of_other_dimensions():
    """Query heads that share keys by broadcasting: [B, K, G, T, d] beside [B, K, 1, S, d]."""
    q, k = torch.randn(2, 2, 3, 200, 4), torch.randn(2, 2, 1, 200, 4)
    torch.testing.assert_close(functions.attention_in_parts(q, k, k), gpt.attention(q, k, k), rtol=1e-4, atol=1e-5)


def test_angles_may_be_kept_from_generation_for_training():
    x, angles = torch.randn(2, 3, 5, 4, requires_grad=True), torch.rand(1, 1, 5, 2)
    with torch.inference_mode():
        functions.apply_rope(x, angles)
    functions.apply_rope(x, angles).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("dtype, scale", [(torch.bfloat16, 1), (torch.float16, 3000)])
def test_rms_norm_of_coarse_numbers(dtype, scale):
    x, fine = (scale * torch.randn(3, 16)).to(dtype), torch.randn(16)
    for weight in (fine, fine.to(dtype)):
        found, expected = functions.rms_norm(x, weight, 1e-5), gpt.rms_norm(x, weight, 1e-5)
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


def test_labels_for_other_logits_are_an_error():
    with pytest.raises(ValueError, match="batch_size"):
        functions.cross_entropy(torch.randn(256, 7), torch.zeros(300, dtype=torch.long))
