"""Pictures of a learner's own: every file is read as a person would see it, or refused in a sentence."""

import numpy as np
import pytest
from PIL import Image

from course.machine.pictures import read_picture
from course.world import draw, sample_scenes

RED, GREEN = (200, 30, 40), (20, 160, 60)


def halves(mode="RGB", size=(8, 4), colors=(RED, GREEN)):
    """A picture that is red on the left and green on the right."""
    image = Image.new(mode, size, colors[0])
    image.paste(colors[1], (size[0] // 2, 0, *size))
    return image


def saved(image, tmp_path, name="picture.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_a_picture_comes_back_as_it_was(tmp_path):
    picture = draw(sample_scenes(1, "train", 1)[0])
    read = read_picture(saved(picture, tmp_path))
    assert read.mode == "RGB" and np.array_equal(np.asarray(read), np.asarray(picture))
    assert read_picture(str(tmp_path / "picture.png")).size == (64, 64)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.gif", "a.bmp", "a.tif", "a.ppm"])
def test_the_usual_formats(tmp_path, name):
    read = read_picture(saved(halves(size=(64, 32)), tmp_path, name))
    assert read.mode == "RGB" and read.size == (64, 32)
    assert np.abs(np.asarray(read).astype(int) - np.asarray(halves(size=(64, 32)))).mean() < 6


def test_the_name_need_not_say_the_format(tmp_path):
    saved(halves(), tmp_path, "a.png").rename(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg").getpixel((0, 0)) == RED


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "CMYK", "RGBA"])
def test_other_kinds_of_colour(tmp_path, mode):
    image = halves().convert(mode)
    read = read_picture(saved(image, tmp_path, "a.tif"))
    assert read.mode == "RGB"
    assert np.array_equal(np.asarray(read), np.asarray(image.convert("RGB")))


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tif"):
        read = np.asarray(read_picture(saved(Image.fromarray(ramp), tmp_path, name)))
        assert read.shape == (16, 16, 3) and abs(read[..., 0].astype(int) - np.arange(256).reshape(16, 16)).max() <= 1
    wide = Image.fromarray(ramp.astype(np.int32))
    assert np.asarray(read_picture(saved(wide, tmp_path, "b.tif"))).max() == 255


def test_transparent_is_white_paper(tmp_path):
    image = halves("RGBA", colors=((*RED, 0), (*GREEN, 255)))
    read = read_picture(saved(image, tmp_path))
    assert read.getpixel((0, 0)) == (255, 255, 255) and read.getpixel((7, 0)) == GREEN
    half = read_picture(saved(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), tmp_path))
    assert half.getpixel((0, 0)) == (127, 127, 127)
    palette = halves().convert("P")
    palette = saved(palette, tmp_path, "a.gif", transparency=palette.getpixel((0, 0)))
    assert read_picture(palette).getpixel((0, 0)) == (255, 255, 255)
    grey = saved(Image.new("L", (2, 2), 9), tmp_path, "g.png", transparency=9)
    assert read_picture(grey).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation, place", [(1, (0, 0)), (2, (7, 0)), (3, (7, 3)), (6, (3, 0)), (8, (0, 7))])
def test_a_turned_photo_stands_upright(tmp_path, orientation, place):
    """The one red pixel is at the top left in the file; the camera's note says where it belongs."""
    image = Image.new("RGB", (8, 4), GREEN)
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = read_picture(saved(image, tmp_path, exif=exif))
    assert read.size == ((4, 8) if orientation in (6, 8) else (8, 4)) and read.getpixel(place) == RED
    assert read.getexif().get(0x0112, 1) == 1  # nobody turns it again


def test_an_animation_is_its_first_picture(tmp_path):
    first, second = Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), GREEN)
    path = saved(first, tmp_path, "a.gif", save_all=True, append_images=[second])
    assert np.abs(np.asarray(read_picture(path)).astype(int) - RED).max() < 6


def test_the_file_is_closed(tmp_path, recwarn):
    path = saved(halves(), tmp_path)
    read_picture(path)
    path.unlink()
    assert not [w for w in recwarn if w.category is ResourceWarning]


# what is refused, and in which words


def test_what_is_no_picture(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    drawing = tmp_path / "drawing.eps"  # Pillow would start Ghostscript for it
    drawing.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    for path in (text, empty, drawing):
        with pytest.raises(ValueError, match=f"{path.name} is no picture .* PNG or JPEG"):
            read_picture(path)


def test_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="gone.png does not exist; name a picture"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="is a folder"):
        read_picture(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_what_is_cut_off(tmp_path, name):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    path = saved(noise, tmp_path, name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"{name} is (damaged or cut off|no picture)"):
        read_picture(path)


def test_what_is_huge(tmp_path):
    path = saved(Image.new("1", (20_000, 10_000)), tmp_path)  # 200 million pixels in 25 kB
    with pytest.raises(ValueError, match="picture.png has more than 89 million pixels; save it smaller"):
        read_picture(path)
    with pytest.raises(ValueError, match="more than 89 million"):
        read_picture(saved(Image.new("1", (10_000, 9_000)), tmp_path))  # where Pillow would only warn


def test_what_is_measured_rather_than_seen(tmp_path):
    for number, values in enumerate((np.ones((4, 4), np.float32), np.full((4, 4), 10**6, np.int32))):
        path = saved(Image.fromarray(values), tmp_path, f"{number}.tif")
        with pytest.raises(ValueError, match="measured values"):
            read_picture(path)
