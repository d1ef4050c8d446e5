"""The VLM of step 6 beside transformers' LlavaForConditionalGeneration: the same size, the same weights, the same work.

    python3 -m benchmarks.vlm

Both look at every picture with the frozen eye, in training and in generation; both train projection and language model
with fused AdamW, and answer greedily with a KV cache. That they compute the same is seen to first.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.rounds import best_seconds, machine, verdict, version
from course import kernels, steps
from course.machine import compute
from course.machine.artifacts import save_tensors, to_json
from course.weights import export

BATCHES = {"cpu": ("tiny", 8, 64), "cuda": ("small", 64, 128)}  # preset of the language model, rows, tokens a row
VOCAB = {"tiny": 1024, "small": 8192}
NEW_TOKENS = 40
IMAGE, PAD, END = 1, 0, 2  # ids


def pair(device: torch.device):
    """(our VLM, transformers' LLaVA) with the same random weights, and the batch: ids [B, T], pictures [B, 3, H, W]."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    preset, rows, tokens = BATCHES[device.type]
    sizes = {"vocab_size": VOCAB[preset], **steps.load("step2_gpt", "train").PRESETS[preset]}
    vlm, gpt = steps.load("step6_vlm", "solution"), kernels.use(steps.load("step2_gpt", "solution"), device)
    compute.seed_everything(0)
    llm, eye = gpt.GPT(gpt.GPTConfig(**sizes)), vlm.CLIPVisionModel(vlm.CLIPVisionConfig())
    ours = vlm.VLM(llm, eye.config.hidden_size, llm.config.hidden_size, eye.config.num_patches, eye)
    activation, projector = export.llava_projector(ours.projection, eye.config.hidden_size, llm.config.hidden_size)
    text = export.llama_config(llm.config.__dict__, END, PAD)
    with tempfile.TemporaryDirectory() as folder:
        llama = export.llama_tensors(llm.state_dict(), llm.config.__dict__)
        save_tensors(Path(folder) / "model.safetensors", export.llava_tensors(eye.state_dict(), projector, llama))
        config = export.llava_config(text, eye.config.__dict__, IMAGE, activation)
        (Path(folder) / "config.json").write_text(to_json(config), encoding="utf-8")
        theirs = transformers.LlavaForConditionalGeneration.from_pretrained(folder)
    for parameter in theirs.model.vision_tower.parameters():
        parameter.requires_grad_(False)
    ids = torch.randint(3, sizes["vocab_size"], (rows, tokens), device=device)
    return (
        ours.to(device),
        theirs.to(device),
        ids,
        torch.randn(rows, 3, eye.config.image_size, eye.config.image_size, device=device),
    )


def with_places(ids: torch.Tensor, value: int, count: int) -> torch.Tensor:
    """ids [B, T] with `count` times `value` in front, as LLaVA keeps the picture's place."""
    return torch.cat([ids.new_full((len(ids), count), value), ids], dim=1)


class Work:
    """The two tasks, each done by both: `train` one step on the batch, `generate` an answer to one picture."""

    def __init__(self, device: torch.device):
        self.device = device
        self.ours, self.theirs, self.ids, self.pictures = pair(device)
        count = self.ours.num_patches
        self.long, self.labels = with_places(self.ids, IMAGE, count), with_places(self.ids, -100, count)
        self.trainer = steps.load("step3_pretrain", "solution")
        config = self.trainer.TrainConfig(learning_rate=1e-5)
        self.optimizers = [self.trainer.make_optimizer(model, config) for model in (self.ours, self.theirs)]
        self.mask = torch.ones_like(self.long)

    def step(self, which: int, model, batch: dict, loss) -> None:
        model.train()
        with compute.autocast(self.device):
            self.trainer.train_step(model, self.optimizers[which], [batch], 1.0, loss)

    def train_ours(self) -> None:
        with compute.autocast(self.device):
            features = self.ours.see(self.pictures)
        batch = {"input_ids": self.ids, "labels": self.ids, "features": features}
        self.step(0, self.ours, batch, self.trainer.model_loss)

    def train_theirs(self) -> None:
        batch = {
            "input_ids": self.long,
            "labels": self.labels,
            "pixel_values": self.pictures,
            "attention_mask": self.mask,
        }
        self.step(1, self.theirs, batch, lambda model, batch: (model(**batch).loss, self.ids.numel()))

    @torch.no_grad()
    def generate_ours(self, rows: int = 1) -> torch.Tensor:
        self.ours.eval()
        with compute.autocast(self.device):
            return self.ours.generate(self.ids[:rows], self.ours.see(self.pictures[:rows]), max_new_tokens=NEW_TOKENS)

    @torch.no_grad()
    def generate_theirs(self, rows: int = 1) -> torch.Tensor:
        self.theirs.eval()
        with compute.autocast(self.device):
            out = self.theirs.generate(
                input_ids=self.long[:rows],
                pixel_values=self.pictures[:rows],
                attention_mask=self.mask[:rows],
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=PAD,
                eos_token_id=None,
            )
        return out[:, self.long.shape[1] :]

    @torch.no_grad()
    def check(self) -> None:
        """Raise AssertionError unless both compute the same logits and the same answer."""
        self.ours.eval()
        self.theirs.eval()
        logits = self.theirs(input_ids=self.long, pixel_values=self.pictures, attention_mask=self.mask).logits
        our_logits = self.ours(self.ids, self.ours.see(self.pictures))[0]
        difference = (logits - our_logits).abs().max().item()
        assert difference < 1e-3, f"the logits differ by {difference}"
        if self.device.type == "cpu":
            assert torch.equal(self.generate_ours(), self.generate_theirs()), "the answers differ"


def measure(device: torch.device, rounds: int) -> None:
    """Print both programs' figures for one device, and whether the ratios are what they should be."""
    work = Work(device)
    work.check()
    rows = len(work.ids)
    tasks = {
        "training": ("pictures", rows, 1.0, work.train_ours, work.train_theirs),
        "generation, 1 picture": ("tokens", NEW_TOKENS, 2.0, work.generate_ours, work.generate_theirs),
        f"generation, {rows} pictures": (
            "tokens",
            NEW_TOKENS * rows,
            2.0,
            lambda: work.generate_ours(rows),
            lambda: work.generate_theirs(rows),
        ),
    }
    for name, (unit, amount, bound, ours, theirs) in tasks.items():
        done = {"ours": waited(ours, device), "transformers": waited(theirs, device)}
        best_seconds(done, 1)  # warm up
        seconds = best_seconds(done, rounds)
        print(
            f"{device.type} {name}: "
            + ", ".join(f"{who} {amount / taken:,.1f} {unit}/s" for who, taken in seconds.items())
        )
        print("  " + verdict("ours beside transformers", seconds["transformers"] / seconds["ours"], bound))


def waited(work, device: torch.device):
    """`work` and the wait until the device has done it."""

    def program():
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    print(f"{machine()}, {torch.get_num_threads()} threads, {version('torch')}, {version('transformers')}")
    measure(torch.device("cpu"), args.rounds)
    if torch.cuda.is_available():
        measure(torch.device("cuda"), args.rounds)
    else:
        print("cuda: not measured, there is no CUDA device here")


if __name__ == "__main__":
    main()
