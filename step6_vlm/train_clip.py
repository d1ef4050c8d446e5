"""Train the eye: a small CLIP on pictures of the world and their descriptions, as CLIP was on the web's.

    python3 -m step6_vlm.train_clip                       # writes step6_vlm/weights/, which the course ships
    python3 -m step6_vlm.train_clip --steps 20 --out DIR  # a quick look at how it goes

A batch is made of families: a scene and its twins, in each of which one attribute is changed (as in NegCLIP,
Yuksekgonul et al. 2023). To tell a caption from those of its family, the eye has to look at every colour, shape, size
and place. In a family that leaves out the changed attribute some captions are alike; there nothing can be learned.

A caption is matched twice: with the class token, as in CLIP, and with the mean of the patches at layer -2, which a
vision-language model will read. In a small tower the class token collects early what it needs, and nothing would make
the patches keep it.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from course.machine import compute
from course.machine.files import write
from course.steps import load
from course.weights.processor import preprocessor_config
from course.world import COLORS, PLACES, SHAPES, SIZES, SPLITS, Scene, Shape, caption, pixels, sample_scenes, split_of

WEIGHTS = Path(__file__).parent / "weights"
EYE, CARD = "eye.safetensors", "eye.json"
MEAN, STD = 0.82, 0.27  # of the world's pixels, roughly; the same for the three channels
WORDS = ["<pad>"] + sorted(
    {"a", "an", "at", "the", "and", ",", "shape"}
    | {w for p in PLACES for w in p.split()}
    | set(COLORS)
    | set(SHAPES)
    | set(SIZES)
)
MAX_WORDS = 40
FAMILY = 8  # a scene and its twins
LEFT_OUT = {"color": "", "size": "", "shape": "shape"}  # what stands in a caption that does not tell an attribute


def normalize(pictures: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 pictures [N, 3, H, W] as the float32 values that the eye was trained on."""
    return (torch.as_tensor(pictures).float() / 255 - MEAN) / STD


class TextTower(nn.Module):
    """CLIP's other half: a caption becomes one vector. It is needed only to train the eye and to search captions."""

    def __init__(self, hidden_size: int = 128, num_hidden_layers: int = 2, num_attention_heads: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), hidden_size)
        self.position = nn.Parameter(torch.randn(MAX_WORDS, hidden_size) * 0.02)
        layer = nn.TransformerEncoderLayer(
            hidden_size,
            num_attention_heads,
            4 * hidden_size,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, num_hidden_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, captions: list[str]) -> torch.Tensor:
        """Captions of B scenes -> [B, D], the mean over the words."""
        rows = [[WORDS.index(w) for w in caption.replace(",", " ,").split()] for caption in captions]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        ids = ids.to(self.position.device)
        words = (ids != 0).unsqueeze(-1)  # [B, T, 1]
        x = self.encoder(self.embedding(ids) + self.position[: ids.shape[1]], src_key_padding_mask=~words.squeeze(-1))
        return self.norm((x * words).sum(1) / words.sum(1))


class CLIP(nn.Module):
    """Both towers, their projections to a shared space, and the learned temperature."""

    def __init__(self, vision: nn.Module, embed_dim: int = 128):
        super().__init__()
        width = vision.config.hidden_size
        self.vision_model = vision
        self.text_model = TextTower(width)
        self.visual_projection = nn.Linear(width, embed_dim, bias=False)
        self.text_projection = nn.Linear(width, embed_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # CLIP's initial temperature
        self.patch_projection = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, embed_dim, bias=False))

    def embed_both(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 3, H, W] -> two vectors [B, D] of length 1: of the class token, and of the patches together."""
        kept = []
        hook = self.vision_model.encoder.layers[-2].register_forward_hook(lambda block, args, out: kept.append(out))
        by_class = self.embed_pictures(pixel_values)
        hook.remove()
        by_patches = self.patch_projection(kept[0][:, 1:]).mean(dim=1)  # [B, P, D] -> [B, D]
        return by_class, F.normalize(by_patches, dim=-1)

    def embed_pictures(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, D], of length 1."""
        return F.normalize(self.visual_projection(self.vision_model.pooled(pixel_values)), dim=-1)

    def embed_captions(self, captions: list[str]) -> torch.Tensor:
        """B captions -> [B, D], of length 1."""
        return F.normalize(self.text_projection(self.text_model(captions)), dim=-1)


def twin(scene: Scene, rng: random.Random) -> Scene:
    """The same scene with one attribute of one shape changed. A training scene's twin is a training scene."""
    allowed = SPLITS[: SPLITS.index(split_of(scene)) + 1]
    while True:
        i = rng.randrange(len(scene.shapes))
        old = scene.shapes[i]
        # Shapes are the hardest to tell apart, so they change most often.
        attribute = rng.choice(("color", "shape", "shape", "shape", "size", "place"))
        values = {"color": list(COLORS), "shape": SHAPES, "size": SIZES, "place": PLACES}[attribute]
        value = rng.choice([v for v in values if v != getattr(old, attribute)])
        if attribute == "place" and any(s.place == value for s in scene.shapes):
            continue
        new = Shape(**{**asdict(old), attribute: value})
        shapes = sorted((*scene.shapes[:i], new, *scene.shapes[i + 1 :]), key=lambda s: PLACES.index(s.place))
        if split_of(changed := Scene(tuple(shapes))) in allowed:
            return changed


def partial_caption(scene: Scene, left_out: Sequence[str]) -> str:
    """The caption without the attributes in `left_out`: without colour and size "a circle at the top"."""
    shapes = [replace(s, **{name: LEFT_OUT[name] for name in left_out}) for s in scene.shapes]
    return " ".join(caption(Scene(tuple(shapes))).split())


def as_shown(scenes: Sequence[Scene], pictures: np.ndarray, rng: random.Random) -> tuple[np.ndarray, list[str]]:
    """A family as it is shown in training: pictures [F, 3, H, W] and captions that all leave out the same attributes.

    Few captions on the web say everything, and so it is here. Where no colour is told, the family is drawn in colours
    that have no name. So the eye learns to know a star whatever its colour, and will know it in a colour in which it
    has never seen one.
    """
    left_out = rng.choice(((), (), ("size",), ("shape",), ("color",), ("color",), ("color", "size")))
    if "color" in left_out:
        pictures = pixels(scenes, pictures.shape[-1], rng.getrandbits(32), nameless=True)
    return pictures, [partial_caption(s, left_out) for s in scenes]


@torch.no_grad()
def retrieval(clip: CLIP, scenes: list[Scene], size: int) -> float:
    """How often the nearest of `size` captions is the picture's own (scenes that look the same count as one)."""
    hits = total = 0
    for start in range(0, len(scenes) - size + 1, size):
        group = scenes[start : start + size]
        device = clip.logit_scale.device
        image = clip.embed_pictures(normalize(pixels(group, seed=start)).to(device))
        captions = [caption(s) for s in group]
        nearest = (image @ clip.embed_captions(captions).T).argmax(dim=1).tolist()
        hits += sum(captions[j] == captions[i] for i, j in enumerate(nearest))
        total += size
    return hits / total


@torch.no_grad()
def twin_accuracy(clip: CLIP, scenes: list[Scene], seed: int = 1) -> float:
    """How often a picture is nearer to its own caption than to that of a twin with one attribute changed."""
    rng = random.Random(seed)
    device = clip.logit_scale.device
    image = clip.embed_pictures(normalize(pixels(scenes, seed=seed)).to(device))
    own = clip.embed_captions([caption(s) for s in scenes])
    other = clip.embed_captions([caption(twin(s, rng)) for s in scenes])
    return ((image * own).sum(1) > (image * other).sum(1)).float().mean().item()


def train(
    clip: CLIP, loss_fn, steps: int, batch: int, lr: float, seed: int = 0, pool: int = 100_000, every: int = 250
) -> list:
    """Train in place; returns the curve [[step, loss], ...]. Pictures are drawn once; batches mix the families."""
    device = clip.logit_scale.device
    rng = random.Random(seed)
    scenes = sample_scenes(min(pool, steps * batch) // FAMILY, "train", seed)
    scenes = [s for scene in scenes for s in (scene, *(twin(scene, rng) for _ in range(FAMILY - 1)))]  # families
    pictures = pixels(scenes, clip.vision_model.config.image_size, seed)
    decay = [p for p in clip.parameters() if p.dim() > 1]
    plain = [p for p in clip.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.98)
    )
    warmup = min(200, steps // 10 + 1)

    def schedule(step: int) -> float:
        return (
            (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
        )

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    held_out = sample_scenes(1024, "held_out", seed)
    curve, started = [], time.time()
    for step in range(steps):
        starts = [FAMILY * rng.randrange(len(scenes) // FAMILY) for _ in range(batch // FAMILY)]
        shown, told = zip(*(as_shown(scenes[i : i + FAMILY], pictures[i : i + FAMILY], rng) for i in starts))
        text = clip.embed_captions([words for family in told for words in family])
        views = clip.embed_both(normalize(np.concatenate(shown)).to(device))
        loss = sum(loss_fn(image, text, clip.logit_scale) for image in views) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        clip.logit_scale.data.clamp_(max=math.log(100))  # as CLIP does
        curve.append([step, loss.item()])
        if step % every == every - 1:
            print(
                f"step {step + 1}/{steps}  loss {np.mean([v for _, v in curve[-every:]]):.4f}  retrieval in 128 "
                f"{retrieval(clip, held_out[:512], 128):.3f}  twins {twin_accuracy(clip, held_out):.3f}  "
                f"{time.time() - started:.0f} s",
                flush=True,
            )
    return curve


def build(module, config: dict | None = None) -> CLIP:
    """A CLIP with fresh weights whose eye is the CLIPVisionModel of `module`: this step's code, whoever wrote it."""
    return CLIP(module.CLIPVisionModel(module.CLIPVisionConfig(**(config or {}))))


def load_clip(module, folder: Path = WEIGHTS) -> CLIP:
    """The shipped CLIP, both towers, in float32 and in eval mode, on the CPU.

    Raises FileNotFoundError if it is not there, RuntimeError (naming the keys) if it does not fit `module`'s classes.
    """
    if not (folder / EYE).exists():
        raise FileNotFoundError(f"{folder / EYE} is missing; make it with: python3 -m step6_vlm.train_clip")
    clip = build(module, json.loads((folder / CARD).read_text())["vision_config"])
    clip.load_state_dict({name: value.float() for name, value in load_file(folder / EYE).items()}, strict=True)
    return clip.eval()


def load_eye(module, folder: Path = WEIGHTS) -> nn.Module:
    """The shipped eye alone: a CLIPVisionModel of `module`."""
    return load_clip(module, folder).vision_model


def picture_settings(size: int) -> dict:
    """How pictures are prepared for the eye, as a preprocessor_config.json says it."""
    return preprocessor_config(size, [MEAN] * 3, [STD] * 3)


def save_clip(clip: CLIP, card: dict, folder: Path = WEIGHTS) -> None:
    """Write the weights as float16 (half the size, and the figures on the card are measured on what is written)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().half().cpu().contiguous() for name, value in clip.state_dict().items()}
    temporary = folder / (EYE + ".new")
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.replace(folder / EYE)
    write(folder / CARD, json.dumps(card, indent=2) + "\n")


def measure(clip: CLIP) -> dict:
    """The figures of the card: how well held-out pictures find their captions."""
    figures = {}
    for split in ("held_out", "held_out_combinations"):
        scenes = sample_scenes(2048, split, 77)
        figures[split] = {
            "retrieval_in_128": round(retrieval(clip, scenes, 128), 4),
            "retrieval_in_2048": round(retrieval(clip, scenes, 2048), 4),
            "twin_accuracy": round(twin_accuracy(clip, scenes), 4),
        }
    return figures


def main() -> None:
    """Train from the command line, then measure what has been written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=256, help=f"pictures a step, a multiple of {FAMILY}")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    if args.batch < 2 * FAMILY or args.batch % FAMILY:
        parser.error(f"--batch is {args.batch}; it must be a multiple of {FAMILY}, and at least {2 * FAMILY}")
    device = compute.pick_device(args.device)
    compute.seed_everything(args.seed)
    solution = load("step6_vlm", "solution")
    clip = build(solution).to(device)
    started = time.time()
    curve = train(clip, solution.contrastive_loss, args.steps, args.batch, args.lr, args.seed)
    card = {
        "made_by": f"python3 -m step6_vlm.train_clip --steps {args.steps} --batch {args.batch} --lr {args.lr} "
        f"--seed {args.seed}",
        "hardware": {**compute.hardware(device), "threads": torch.get_num_threads()},
        "seconds": round(time.time() - started),
        "vision_config": asdict(clip.vision_model.config),
        "image_mean": [MEAN] * 3,
        "image_std": [STD] * 3,
        "loss": [[step, round(value, 4)] for step, value in curve[:: max(1, len(curve) // 200)]],
    }
    save_clip(clip, card, args.out)
    card["figures"] = measure(load_clip(solution, args.out).to(device))
    write(args.out / CARD, json.dumps(card, indent=2) + "\n")
    print(json.dumps(card["figures"], indent=2))


if __name__ == "__main__":
    main()
