"""Step 2 beside Hugging Face's Llama and GPT-2 and a lean GPT-2: the same shapes, one run.

    python3 -m benchmarks.gpt

On the CPU, float32: training steps (forward, backward, AdamW) of 5.8M parameters, and generation for one reader, with
the model of preset tiny and with 5.8M parameters. Ours runs as the course runs it: with what course.kernels puts in
(fused attention as in all peers), and with numbers below 1e-38 flushed to 0 (for all). On a CUDA GPU: 124M parameters,
1,024 tokens a row, bfloat16, compiled and not, with the share of the processor's peak that the model's own arithmetic
reaches (MFU); and generation. Checked along the way: the same logits as Hugging Face's Llama and, in generation, the
same ids.
"""

import argparse
import contextlib
import functools

import torch
import torch.nn.functional as F
import transformers
from torch import nn

from benchmarks.rounds import best_seconds, machine, verdict
from course import kernels, steps
from course.kernels.one_token import OneToken, laid_out, product
from course.machine import compute

gpt = steps.load("step2_gpt", "solution")

TINY = gpt.GPTConfig(vocab_size=1024, **steps.load("step2_gpt", "train").PRESETS["tiny"])
SMALL = gpt.GPTConfig(
    vocab_size=4096,
    hidden_size=256,
    intermediate_size=688,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=8,
    max_position_embeddings=512,
)
LARGE = gpt.GPTConfig(
    vocab_size=50304,
    hidden_size=768,
    intermediate_size=2048,
    num_hidden_layers=12,
    num_attention_heads=12,
    num_key_value_heads=12,
    max_position_embeddings=1024,
)
# Dense bfloat16 operations a second, from NVIDIA's data sheets; the first name that the card's name contains counts.
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}


class LeanGPT2Block(nn.Module):
    """A GPT-2 block the way nanoGPT has it: one matrix for q, k and v, LayerNorm, biases, GELU."""

    def __init__(self, D: int, heads: int):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.c_attn, self.c_proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.c_fc, self.c_out = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def forward(self, x):
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).flatten(2))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x))))


class LeanGPT2(nn.Module):
    """A GPT-2 with nothing in it that it could do without."""

    def __init__(self, config):
        super().__init__()
        D = config.hidden_size
        self.wte, self.wpe = nn.Embedding(config.vocab_size, D), nn.Embedding(config.max_position_embeddings, D)
        self.h = nn.ModuleList(LeanGPT2Block(D, config.num_attention_heads) for _ in range(config.num_hidden_layers))
        self.ln_f, self.lm_head = nn.LayerNorm(D), nn.Linear(D, config.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, input_ids, labels):
        x = self.wte(input_ids) + self.wpe(torch.arange(input_ids.shape[1], device=input_ids.device))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        labels = F.pad(labels[:, 1:], (0, 1), value=-100)
        return logits, F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())


def hugging_llama(config, weights=None):
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **config.__dict__, attn_implementation="sdpa", pad_token_id=0, bos_token_id=1, eos_token_id=2
        )
    )
    if weights is not None:
        model.load_state_dict(weights, strict=True)
    return model


def hugging_gpt2(config):
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.max_position_embeddings,
            n_embd=config.hidden_size,
            n_layer=config.num_hidden_layers,
            n_head=config.num_attention_heads,
            attn_implementation="sdpa",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def build(config, device, compiled: bool = False) -> dict[str, nn.Module]:
    """Ours and its peers, on the device; Hugging Face's Llama with our weights."""
    torch.manual_seed(0)
    ours = kernels.use(steps.load("step2_gpt", "solution"), torch.device(device), compiled).GPT(config)
    models = {
        "ours": ours,
        "Hugging Face Llama": hugging_llama(config, ours.state_dict()),
        "lean GPT-2": LeanGPT2(config),
        "Hugging Face GPT-2": hugging_gpt2(config),
    }
    return {name: model.to(device) for name, model in models.items()}


def training_steps(model, optimizer, ids, autocast, in_a_row: int):
    """Forward, backward, update, several times; afterwards the device has finished."""
    for _ in range(in_a_row):
        with autocast():
            output = model(input_ids=ids, labels=ids)
        loss = output[1] if isinstance(output, tuple) else output.loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    if ids.is_cuda:
        torch.cuda.synchronize()


def training_speeds(models, ids, rounds: int, autocast, warm_up: int = 1) -> dict[str, float]:
    """Tokens a second of each model, in its best round: of one step, or on a GPU of five in a row, since a wait after
    each (as in a loop that reads every loss) leaves the GPU idle until the next step's first kernels arrive."""
    programs, in_a_row = {}, 5 if ids.is_cuda else 1
    for name, model in models.items():
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=ids.is_cuda)
        programs[name] = functools.partial(training_steps, model, optimizer, ids, autocast, in_a_row)
    best_seconds(programs, warm_up)
    return {name: in_a_row * ids.numel() / seconds for name, seconds in best_seconds(programs, rounds).items()}


def on_cpu(config, rows: int, context: int, rounds: int) -> None:
    models = build(config, "cpu")
    ids = torch.randint(3, config.vocab_size, (rows, context), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = models["ours"](ids)[0], models["Hugging Face Llama"](ids).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    del ours, theirs
    count = sum(parameter.numel() for parameter in models["ours"].parameters())
    print(
        f"\nTraining, {count / 1e6:.1f}M parameters, {rows} rows of {context} tokens, float32, best of {rounds} steps"
    )
    speeds = training_speeds(models, ids, rounds, contextlib.nullcontext)
    for name, speed in speeds.items():
        print(f"  {name:<20}{speed:8.0f} tokens/s")
    print(" ", verdict("training, ours / Hugging Face Llama", speeds["ours"] / speeds["Hugging Face Llama"], 1.05))
    print(" ", verdict("training, ours / lean GPT-2", speeds["ours"] / speeds["lean GPT-2"], 0.95))
    torch.set_flush_denormal(False)
    kept = training_speeds({"ours": models["ours"]}, ids, rounds, contextlib.nullcontext)["ours"]
    compute.flush_denormals()
    print(f"  ours without flushing numbers below 1e-38: {kept:.0f} tokens/s")


def matrix_products(model, new: int):
    """What is left of generation if everything but the large matrix products cost nothing, as a program."""
    layers = map(OneToken, model.model.layers)
    matrices = [matrix for layer in layers for matrix in (layer.qkv, layer.o, layer.gate_up, layer.down)]
    matrices.append(laid_out(model.lm_head.weight))
    inputs = [torch.randn(1, len(matrix) if matrix.dim() == 2 else matrix.shape[2]) for matrix in matrices]

    @torch.inference_mode()
    def products():
        for _ in range(new):
            for x, matrix in zip(inputs, matrices):
                product(x, matrix)

    return products


def generation(config, new: int, rounds: int, device="cpu") -> None:
    models = build(config, device)
    ours, theirs = models["ours"].eval(), models["Hugging Face Llama"].eval()
    prompt = torch.randint(3, config.vocab_size, (1, 16), generator=torch.Generator().manual_seed(0)).to(device)
    programs = {
        "ours": lambda: ours.generate(prompt, max_new_tokens=new),
        "Hugging Face Llama": lambda: theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=new, eos_token_id=None
        )[:, prompt.shape[1] :],
    }
    assert programs["ours"]().tolist() == programs["Hugging Face Llama"]().tolist(), "other ids than Hugging Face"
    if prompt.is_cuda:
        programs = {name: functools.partial(waited, program) for name, program in programs.items()}
    else:
        programs["matrix products only"] = matrix_products(ours, new)
    best = best_seconds(programs, rounds)
    count = sum(parameter.numel() for parameter in ours.parameters())
    print(
        f"\nGeneration, {count / 1e6:.1f}M parameters, one row, {new} tokens after 16, greedy, with a cache, float32, "
        f"{device}, best of {rounds}"
    )
    for name, seconds in best.items():
        print(f"  {name:<22}{new / seconds:7.0f} tokens/s   {1000 * seconds / new:6.2f} ms a token")
    print(" ", verdict("generation, ours / Hugging Face Llama", best["Hugging Face Llama"] / best["ours"], 3.0))


def waited(program) -> None:
    """A program, and the wait until the GPU has done it."""
    program()
    torch.cuda.synchronize()


def on_gpu(config, device, rows: int, context: int, rounds: int, compiled: bool = True) -> None:
    models = build(config, device, compiled)
    ids = torch.randint(3, config.vocab_size, (rows, context), device=device)
    count = sum(parameter.numel() for parameter in models["ours"].parameters())
    # Six operations a parameter and token, and attention's two products, forward and backward (Chowdhery et al. 2022).
    operations = 6 * count + 12 * config.num_hidden_layers * config.hidden_size * context
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this processor"
    peak = next((value for card, value in PEAKS.items() if card in name), None)
    print(
        f"\nTraining on {name}, {count / 1e6:.0f}M parameters, {rows} rows of {context} tokens, bfloat16"
        f"{', compiled' if compiled else ''}, best of {rounds} times five steps"
    )
    autocast = functools.partial(torch.autocast, device.type, dtype=torch.bfloat16)
    if compiled:
        models = {name: torch.compile(model) for name, model in models.items()}
    speeds = training_speeds(models, ids, rounds, autocast, warm_up=3)
    for name, speed in speeds.items():
        share = f"MFU {speed * operations / peak:.1%}" if peak else "peak of this card not known"
        print(f"  {name:<20}{speed:10.0f} tokens/s   {speed * operations / 1e12:6.1f} TFLOP/s   {share}")
    print(" ", verdict("training, ours / Hugging Face Llama", speeds["ours"] / speeds["Hugging Face Llama"], 1.05))
    if peak and compiled:
        share = speeds["ours"] * operations / peak
        print(
            f"  training, share of the peak (MFU): {share:.1%} (goal: at least 45%)  "
            f"{'met' if share >= 0.45 else 'NOT MET'}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=32, help="of a batch on a GPU; 32 took up to 46 GiB")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    compute.flush_denormals()
    print(
        f"{machine()}\ntorch {torch.__version__} on {torch.get_num_threads()} threads, "
        f"transformers {transformers.__version__}"
    )
    on_cpu(SMALL, 16, 256, options.rounds)
    generation(TINY, 200, 2 * options.rounds)
    generation(SMALL, 200, 2 * options.rounds)
    if torch.cuda.is_available():
        generation(SMALL, 200, 2 * options.rounds, "cuda")
        for compiled in (False, True):
            on_gpu(LARGE, torch.device("cuda"), options.rows, 1024, options.rounds, compiled)
    else:
        print("\nno CUDA device: nothing is said about one (124M parameters, bfloat16, compiled)")


if __name__ == "__main__":
    main()
