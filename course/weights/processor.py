"""Pictures as CLIP's processor prepares them: shortest edge, bicubic; centre crop; normalised. By Pillow."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from course.weights.files import WeightsError, read_json

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PREPROCESSOR = "preprocessor_config.json"


@dataclass(frozen=True)
class Processor:
    """What a CLIP tower wants to be shown. Calling it turns an RGB picture of any size into float32 [3, size,
    size].
    """

    size: int = 224
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        width, height = picture.size
        shorter, longer = sorted((width, height))
        longer = int(self.size * longer / shorter)  # rounded down, as CLIP does
        picture = picture.resize(
            (self.size, longer) if width <= height else (longer, self.size), Image.Resampling.BICUBIC
        )
        left, top = (picture.width - self.size) // 2, (picture.height - self.size) // 2
        values = np.asarray(picture.crop((left, top, left + self.size, top + self.size)), np.float32) / 255  # [H, W, 3]
        return torch.from_numpy((values - np.float32(self.mean)) / np.float32(self.std)).permute(2, 0, 1).contiguous()

    @classmethod
    def read(cls, folder: Path, size: int) -> "Processor":
        """The one in a checkpoint folder, for an eye of `size` pixels; CLIP's own values where there is none."""
        path = Path(folder) / PREPROCESSOR
        config = read_json(path) if path.exists() else {}
        edge, crop = _edge(config.get("size", size)), _edge(config.get("crop_size", size))
        resample = config.get("resample", 3)
        off = [
            name for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize") if config.get(name) is False
        ]
        if (
            off
            or edge != crop
            or crop != size
            or resample != 3
            or abs(config.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-6
        ):
            raise WeightsError(
                f"{path} prepares pictures in another way than CLIP does (shortest edge to {size}, bicubic, centre "
                f"crop {size}, normalised), which is all that this course knows: size {config.get('size')}, "
                f"crop {config.get('crop_size')}, resample {resample}{''.join(f', {name} off' for name in off)}."
            )
        return cls(size, tuple(config.get("image_mean", CLIP_MEAN)), tuple(config.get("image_std", CLIP_STD)))


def _edge(size) -> int | None:
    """The number in one of the ways in which files have it: 224, {"shortest_edge": 224}, {"height": 224,
    "width": 224}.
    """
    if isinstance(size, dict):
        values = {size.get("shortest_edge", size.get("height")), size.get("shortest_edge", size.get("width"))}
        return values.pop() if len(values) == 1 else None
    return size


def preprocessor_config(size: int, mean: Sequence[float], std: Sequence[float]) -> dict:
    """A preprocessor_config.json by which stock transformers does what Processor does."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "do_convert_rgb": True,
    }
