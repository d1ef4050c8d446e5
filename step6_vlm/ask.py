"""Ask the VLM that `run` has made about a picture of your own.

    python3 -m course ask photo.png "What colour is the star?"

It knows the world it was trained on: coloured shapes on light paper, and the questions of the course. Shown anything
else, it says which of these it takes it for.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from course import kernels
from course.machine.artifacts import ArtifactError, load_artifact
from course.training.chat import Chat
from course.training.fit import load_tokenizer
from course.training.job import Job
from step6_vlm.train_clip import normalize

PAPER = (238, 238, 238)  # what stands beside a picture that is not square: the world's own paper


def square(picture: Image.Image, size: int) -> np.ndarray:
    """Any RGB picture as the eye takes it: the whole of it, uint8 [3, size, size], on paper where it is not square."""
    width, height = (max(1, round(side * size / max(picture.size))) for side in picture.size)
    shown = Image.new("RGB", (size, size), PAPER)
    shown.paste(picture.resize((width, height)), (round((size - width) / 2), round((size - height) / 2)))
    return np.array(shown).transpose(2, 0, 1)


class Seer:
    """What a run of all six steps has left, put together again: eye, projection, language model and tokenizer.

    Raises ArtifactError, with the command that makes it, if there is nothing there or it does not fit the code.
    """

    def __init__(self, preset: str = "tiny", out=None, device: str = "auto", code: str = "chain"):
        job = Job("step6_vlm", preset, device=device, out=out, code=code)
        remake = job.place.command()  # all steps: each needs what the one before has left
        made = load_artifact(job.folder(), remake)
        if "vision" not in made.config or not any(name.startswith("vision.") for name in made.tensors):
            raise ArtifactError(f"{made.path} was left by an older version of the course. Make it anew: {remake}")
        vlm, gpt = job.use("step6_vlm"), kernels.use(job.use("step2_gpt"), job.device)
        self.chat = Chat(load_tokenizer(job), job.use("step4_sft"), job.device)
        llm = gpt.GPT(gpt.GPTConfig(**made.config["llm"]))
        self.eye = vlm.CLIPVisionModel(vlm.CLIPVisionConfig(**made.config["vision"]))
        width, patches = self.eye.config.hidden_size, self.eye.config.num_patches
        image = self.chat.special["<|image|>"]
        self.model = vlm.VLM(llm, width, llm.config.hidden_size, patches, self.eye, image)
        try:
            self.model.load_state_dict(made.tensors, strict=True)
        except RuntimeError as error:
            raise ArtifactError(
                f"What lies in {made.path} does not fit the code: {error}\nMake it anew: {remake}"
            ) from error
        self.model.to(job.device).eval()

    @torch.no_grad()
    def ask(self, picture: Image.Image, questions: Sequence[str]) -> list[str]:
        """The answer to each question about one RGB picture of any size."""
        pixels = normalize(square(picture, self.eye.config.image_size)[None]).to(self.chat.device)
        features = self.eye(pixels)  # [1, P, D]: looked at once, however much is asked
        return self.chat.replies(self.model, questions, features.expand(len(questions), -1, -1))
