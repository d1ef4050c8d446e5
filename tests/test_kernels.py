"""The sooner functions that the course trains with are step 2's: the same results, the same gradients."""

import shutil

import pytest
import torch

from course import kernels, steps

gpt = steps.load("step2", "solution")


@pytest.mark.parametrize("T, S", [(7, 7), (1, 7), (3, 7), (1, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_fused_attention(T, S, masked):
    q, k, v = torch.randn(2, 3, T, 4), torch.randn(2, 3, S, 4), torch.randn(2, 3, S, 4)
    mask = None
    if masked:
        mask = torch.ones(T, S, dtype=torch.bool).tril(S - T)[None, None].repeat(2, 1, 1, 1)
        mask[0, :, :, 0] = S == T and torch.arange(T)[:, None].T == 0  # padding, looked at by itself only
    expected = gpt.attention(q, k, v, mask)
    torch.testing.assert_close(kernels.fused_attention(q, k, v, mask), expected, rtol=1e-5, atol=1e-6)


def both(ours, theirs, *inputs):
    """Results and gradients of two functions of the same inputs."""
    found = []
    for function in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in inputs]
        y = function(*leaves)
        gradient = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
        found.append([y, *torch.autograd.grad(y, leaves, gradient)])
    return found


@pytest.mark.parametrize("shape", [(5,), (3, 16), (2, 5, 31)])
def test_rms_norm(shape):
    x, weight = 3 * torch.randn(shape) + 1, torch.randn(shape[-1])
    if len(shape) == 3:
        x[0, 0] = 0    # a vector without a direction
    torch.testing.assert_close(*both(lambda x, w: kernels.rms_norm(x, w, 1e-3),
                                     lambda x, w: gpt.rms_norm(x, w, 1e-3), x, weight), rtol=1e-4, atol=1e-5)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True),
              torch.randn(shape[-1], dtype=torch.float64, requires_grad=True)]
    assert torch.autograd.gradcheck(lambda x, w: kernels.rms_norm(x, w, 1e-3), inputs)


@pytest.mark.parametrize("rows", [1, 2])
def test_rope(rows):
    angles = 6 * torch.rand(rows, 1, 7, 5)
    x = torch.randn(2, 7, 3, 10).transpose(1, 2)    # [B, H, T, d], as it comes out of q_proj
    ours, theirs = both(lambda x: kernels.apply_rope(x, angles), lambda x: gpt.apply_rope(x, angles), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(kernels.apply_rope(x, angles), theirs[0], rtol=1e-5, atol=1e-6)
    assert kernels.apply_rope(x.bfloat16(), angles).dtype == torch.bfloat16


def test_a_model_with_them_is_the_same_model():
    torch.manual_seed(0)
    config = gpt.GPTConfig(vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=3,
                           num_attention_heads=6, num_key_value_heads=2)
    plain, fast = gpt, kernels.use(steps.load("step2", "solution"), torch.device("cpu"))
    assert fast.rms_norm is not plain.rms_norm and fast.apply_rope is not plain.apply_rope
    one, other = plain.GPT(config).double(), fast.GPT(config).double()
    other.load_state_dict(one.state_dict())
    ids = torch.randint(0, 97, (3, 20))
    losses = [model(ids, labels=ids)[1] for model in (one, other)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    for (name, parameter), same in zip(one.named_parameters(), other.parameters()):
        torch.testing.assert_close(parameter.grad, same.grad, rtol=1e-5, atol=1e-8, msg=name)


@pytest.fixture
def twins():
    """A model of step 2 and the same with the functions of course.kernels, in float64; three of its heads share one."""
    torch.manual_seed(0)
    config = gpt.GPTConfig(vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=3,
                           num_attention_heads=6, num_key_value_heads=2)
    fast = kernels.use(steps.load("step2", "solution"), torch.device("cpu"))
    one, other = gpt.GPT(config).double(), fast.GPT(config).double()
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            if "norm" in name:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))  # a weight that can be forgotten
    other.load_state_dict(one.state_dict())
    return one, other


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("prompt", [1, 7])
def test_generation(twins, rows, padded, prompt):
    ids, mask = torch.randint(0, 97, (rows, prompt)), None
    if padded:
        mask = torch.ones_like(ids)
        mask[0, : prompt // 2] = 0
    sampling = {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "uniforms": torch.rand(rows, 90)}
    for options in ({}, sampling, {"eos_token_id": 5, **sampling}):  # 90 tokens: more than there is room for at first
        expected, found = (model.generate(ids, attention_mask=mask, max_new_tokens=90, **options) for model in twins)
        assert found.tolist() == expected.tolist()
    embeds = twins[0].get_input_embeddings()(ids).detach()
    expected, found = (model.generate(inputs_embeds=embeds, attention_mask=mask, max_new_tokens=4) for model in twins)
    assert found.tolist() == expected.tolist()


def test_generation_leaves_the_model_as_it_was(twins):
    plain, fast = twins
    ids = torch.randint(0, 97, (2, 6))
    with pytest.raises(ValueError, match="one column"):
        fast.generate(ids, temperature=1.0, uniforms=Broken())
    said = fast.generate(ids, max_new_tokens=5)
    for model in twins:
        row = torch.cat([ids, said], dim=1)  # what was said can be learned from
        model(row, labels=row)[1].backward()
    torch.testing.assert_close(fast(ids)[0], plain(ids)[0])
    for one, other in zip(plain.parameters(), fast.parameters()):
        torch.testing.assert_close(one.grad, other.grad)
    with torch.no_grad():
        for one, other in zip(plain.parameters(), fast.parameters()):
            one.sub_(0.5 * one.grad)
            other.sub_(0.5 * other.grad)
    expected, found = (model.generate(ids, max_new_tokens=9) for model in twins)  # with the new weights
    assert found.tolist() == expected.tolist()


class Broken:
    """Uniform numbers that cannot be read."""

    def __getitem__(self, key):
        raise ValueError("not one column")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
def test_a_model_that_is_compiled_reads_rows_of_several_lengths():
    """With hand-written gradients the second length was an error inside torch.compile."""
    torch.manual_seed(0)
    fast = kernels.use(steps.load("step2", "solution"), torch.device("cpu"), compiled=True)
    model = fast.GPT(fast.GPTConfig(vocab_size=97, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                                    num_attention_heads=2, num_key_value_heads=1))
    compiled = torch.compile(model)
    for length in (12, 9, 7):
        ids = torch.randint(0, 97, (2, length))
        loss = compiled(input_ids=ids, labels=ids)[1]
        loss.backward()
        torch.testing.assert_close(loss, model(ids, labels=ids)[1])
