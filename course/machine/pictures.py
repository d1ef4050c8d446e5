"""Pictures from files that anybody made: read into RGB, or refused in a sentence that says what to do."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# What Pillow may try: picture files as cameras, browsers and scanners write them. (It also knows formats that start
# other programs, such as EPS.)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
PAPER = (255, 255, 255)  # what shows through where a picture is transparent


def read_picture(path: str | Path) -> Image.Image:
    """The picture in a file, as a person would see it: RGB, turned upright, on white paper where it is transparent.

    Grey, palette and CMYK become RGB; 16 bits a channel become 8; of an animation this is the first picture. Raises
    ValueError, which names the file and says what to do: there is no such file, it is no picture, it is damaged, or
    it has so many pixels that Pillow takes it for an attack (about 90 million).
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"{path} {what}; name a picture file, such as photo.jpg")
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                image.load()
                return _as_seen(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        million = Image.MAX_IMAGE_PIXELS // 10**6
        raise ValueError(f"{path} has more than {million} million pixels; save it smaller and try again") from error
    except PermissionError as error:
        raise ValueError(f"{path} may not be read; change its permissions or copy it") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is no picture that can be read here; save it as PNG or JPEG and try again") from error
    except _Unseen as error:
        raise ValueError(f"{path} {error}; save it as PNG or JPEG and try again") from error
    except (
        Exception
    ) as error:  # each of Pillow's decoders fails in its own way: OSError, SyntaxError, struct.error, ...
        raise ValueError(f"{path} is damaged or cut off ({error}); get it again, or save it anew") from error


class _Unseen(Exception):
    """The numbers in the file do not say how bright they are meant to look."""


def _as_seen(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith(
        "I"
    ):  # 16 bits and more; Pillow's own conversion cuts them off at 255
        image = _in_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, PAPER), image)
    return image.convert("RGB")


def _in_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise _Unseen("holds measured values, not brightnesses")
    return Image.fromarray((values // 257).astype(np.uint8))
