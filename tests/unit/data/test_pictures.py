import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw

from fmnist.data.pictures import MOST_PIXELS, PreparedPicture, read_pictures
from fmnist.errors import UserError


def image_like_the_data_sets(seed: int = 0) -> np.ndarray:
    """Random light pixels on a black border: uint8 [28, 28]."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[2:26, 5:23] = np.random.default_rng(seed).integers(60, 255, (24, 18))
    return pixels


def trousers(width=400, height=600, ground="white", cloth="navy") -> Image.Image:
    """A photograph-sized drawing: two legs, taller than wide, off-centre."""
    picture = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((60, 40, 200, 140), fill=cloth)
    draw.rectangle((60, 140, 115, 520), fill=cloth)
    draw.rectangle((145, 140, 200, 520), fill=cloth)
    return picture


def read_one(path: Path, **options) -> PreparedPicture:
    (picture,) = read_pictures(path, **options)
    return picture


def saved(picture: Image.Image | np.ndarray, path: Path, **options) -> Path:
    if isinstance(picture, np.ndarray):
        np.save(path, picture)
    else:
        picture.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["image.png", "image.npy"])
def test_image_of_the_data_set_comes_through_bit_for_bit(tmp_path, name):
    pixels = image_like_the_data_sets()
    path = saved(pixels if name.endswith("npy") else Image.fromarray(pixels), tmp_path / name)
    picture = read_one(path)
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.pixels.dtype == np.uint8
    assert (picture.background, picture.source_size, picture.notes) == ("dark", (28, 28), ())


def test_negative_of_the_data_set_is_taken_as_light_and_negated(tmp_path):
    pixels = image_like_the_data_sets()
    picture = read_one(saved(Image.fromarray(255 - pixels), tmp_path / "negative.png"))
    assert picture.background == "light"
    np.testing.assert_array_equal(picture.pixels, pixels)


def test_photograph_fills_the_frame_with_light_clothing_on_black(tmp_path):
    picture = read_one(saved(trousers(), tmp_path / "trousers.png"))
    lit = picture.pixels > 100
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    assert (rows[0], rows[-1]) == (0, 27)  # the longest edge fills the frame
    assert len(columns) == pytest.approx(28 * 141 / 481, abs=1)  # the aspect is kept
    assert abs(columns[0] - (27 - columns[-1])) <= 1  # centred
    assert not lit[20, 13:15].any()  # between the legs
    assert picture.pixels[:, :9].max() == 0
    assert picture.background == "light"
    assert picture.source_size == (400, 600)
    assert picture.notes == ("trimmed to 141 x 481 pixels",)


def test_same_object_on_light_and_on_dark_ground_gives_the_same_pixels(tmp_path):
    light = read_one(saved(trousers(ground="white", cloth=(55, 55, 55)), tmp_path / "light.png"))
    dark = read_one(saved(trousers(ground="black", cloth=(200, 200, 200)), tmp_path / "dark.png"))
    assert (light.background, dark.background) == ("light", "dark")
    np.testing.assert_array_equal(light.pixels, dark.pixels)


@pytest.mark.parametrize(("ground", "pure", "cloth"), [("#dddddd", "white", "black"), ("#222222", "black", "white")])
def test_grey_ground_becomes_as_black_as_the_extended_sides(tmp_path, ground, pure, cloth):
    picture = read_one(saved(trousers(ground=ground, cloth=cloth), tmp_path / "studio.png"))
    expected = read_one(saved(trousers(ground=pure, cloth=cloth), tmp_path / "pure.png"))
    assert np.abs(picture.pixels.astype(int) - expected.pixels).max() <= 3
    assert "background of 34 of 255 was taken as black" in picture.notes


def test_background_given_by_hand_wins(tmp_path):
    path = saved(Image.fromarray(image_like_the_data_sets()), tmp_path / "image.png")
    picture = read_one(path, background="light")
    assert picture.background == "light"
    np.testing.assert_array_equal(picture.pixels, 255 - image_like_the_data_sets())
    with pytest.raises(UserError, match="expected auto, light or dark"):
        read_pictures(path, background="blue")


def test_exif_rotation_is_honoured(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6  # stored lying, to be shown turned by 90 degrees
    lying = trousers().transpose(Image.Transpose.ROTATE_90)
    upright = read_one(saved(trousers(), tmp_path / "upright.jpg", quality=95))
    picture = read_one(saved(lying, tmp_path / "lying.jpg", quality=95, exif=turned))
    assert picture.source_size == (400, 600)
    assert np.abs(picture.pixels.astype(int) - upright.pixels).mean() < 2


def test_transparency_is_put_on_white(tmp_path):
    cut_out = trousers().convert("RGBA")
    cut_out.putalpha(Image.fromarray(np.where(np.asarray(trousers().convert("L")) > 200, 0, 255).astype(np.uint8)))
    picture = read_one(saved(cut_out, tmp_path / "cut-out.png"))
    assert picture.background == "light"
    assert "transparent parts were put on white" in picture.notes
    np.testing.assert_array_equal(picture.pixels, read_one(saved(trousers(), tmp_path / "white.png")).pixels)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "CMYK"])
def test_every_kind_of_picture_gives_the_same_pixels(tmp_path, mode):
    drawing = trousers(cloth="black")
    suffix = "jpg" if mode == "CMYK" else "png"
    picture = read_one(saved(drawing.convert(mode), tmp_path / f"picture.{suffix}"))
    expected = read_one(saved(drawing, tmp_path / "rgb.png"))
    difference = np.abs(picture.pixels.astype(int) - expected.pixels)
    assert difference.mean() < 10 if mode == "CMYK" else difference.max() == 0  # JPEG changes the edges


def test_sixteen_bit_picture_keeps_its_brightness(tmp_path):
    pixels = image_like_the_data_sets()
    path = saved(Image.fromarray(pixels.astype(np.uint16) * 257), tmp_path / "sixteen.png")
    picture = read_one(path)
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.notes == ("16 bits a pixel were reduced to 8",)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_picture_of_fewer_bits_than_its_file_has_keeps_its_brightness(tmp_path, bits):
    pixels = image_like_the_data_sets()
    values = np.rint(pixels * ((2**bits - 1) / 255)).astype(np.uint16)
    picture = read_one(saved(Image.fromarray(values), tmp_path / "camera.png"))
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.notes == (f"16 bits a pixel were taken as {bits}",)


@pytest.mark.parametrize("kind", ["png", "png of 16 bits", "npy"])
@pytest.mark.parametrize("scale", [1, 3])
def test_mask_of_0_and_1_is_the_picture_of_black_and_white(tmp_path, kind, scale):
    mask = np.kron(image_like_the_data_sets() > 0, np.ones((scale, scale), bool))
    expected = read_one(saved(Image.fromarray(mask.astype(np.uint8) * 255), tmp_path / "expected.png"))
    values = mask.astype(np.uint16 if "16" in kind else np.uint8)
    path = tmp_path / f"mask.{kind[:3]}"
    picture = read_one(saved(values if kind == "npy" else Image.fromarray(values), path))
    np.testing.assert_array_equal(picture.pixels, expected.pixels)
    assert picture.pixels.max() == 255
    assert "0 and 1 were taken as black and white" in picture.notes


def test_stack_gives_one_picture_an_image(tmp_path):
    stack = np.stack([image_like_the_data_sets(seed) for seed in range(3)])
    stack[1] = 255 - stack[1]
    pictures = read_pictures(saved(stack, tmp_path / "stack.npy"))
    assert [picture.name for picture in pictures] == ["stack.npy[0]", "stack.npy[1]", "stack.npy[2]"]
    assert [picture.background for picture in pictures] == ["dark", "light", "dark"]
    np.testing.assert_array_equal(pictures[1].pixels, image_like_the_data_sets(1))


@pytest.mark.parametrize("shape", [(28, 28, 1), (1, 28, 28, 1), (1, 28, 28)])
def test_array_may_have_a_channel_or_a_stack_axis(tmp_path, shape):
    pixels = image_like_the_data_sets()
    picture = read_one(saved(pixels.reshape(shape), tmp_path / "image.npy"))
    np.testing.assert_array_equal(picture.pixels, pixels)


def test_colour_array_equals_the_same_picture_as_png(tmp_path):
    from_png = read_one(saved(trousers(), tmp_path / "trousers.png"))
    colour = np.asarray(trousers())
    opaque = np.dstack([colour, np.full(colour.shape[:2], 255, np.uint8)])
    for array in (colour, opaque, colour / 255):
        np.testing.assert_array_equal(read_one(saved(array, tmp_path / "trousers.npy")).pixels, from_png.pixels)


@examples(40)
@given(pixels=arrays(np.uint8, (28, 28)), kind=st.sampled_from(["uint8", "float 0..1", "float 0..255", "int64", "png"]))
def test_28_by_28_input_is_at_most_negated(tmp_path, pixels, kind):
    pixels[0, 0] = 255  # or floats up to 1 in a range of 0 to 255 would be read as 0 to 1
    scaled = {"float 0..1": (pixels / 255).astype(np.float32), "float 0..255": pixels.astype(float)}
    if kind == "png":
        path = saved(Image.fromarray(pixels), tmp_path / "image.png")
    else:
        path = saved(scaled.get(kind, pixels.astype("int64") if kind == "int64" else pixels), tmp_path / "image.npy")
    picture = read_one(path)
    np.testing.assert_array_equal(picture.pixels, pixels if picture.background == "dark" else 255 - pixels)


@examples(40)
@given(width=st.integers(1, 90), height=st.integers(1, 90), seed=st.integers(0, 99))
def test_picture_of_any_size_becomes_28_by_28(tmp_path, width, height, seed):
    colours = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    picture = read_one(saved(Image.fromarray(colours), tmp_path / "any.png"))
    assert picture.pixels.shape == (28, 28)
    assert picture.source_size == (width, height)


def test_very_long_picture_still_has_a_pixel_of_width(tmp_path):
    assert read_one(saved(Image.fromarray(np.eye(2, 4000, dtype=np.uint8) * 255), tmp_path / "line.png")).pixels.any()


def test_flat_picture_is_black_and_says_so(tmp_path):
    picture = read_one(saved(Image.new("RGB", (50, 70), "white"), tmp_path / "flat.png"))
    assert picture.pixels.max() == 0
    assert picture.notes == ("one flat colour: nothing was found on it",)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((0, 28)), r"shape \(0, 28\) holds no pixels"),
        (np.zeros(784), r"shape \(784,\), expected \[height, width\]"),
        (np.zeros((784, 1)), r"shape \(784, 1\) is no picture: an edge of 1 pixels"),
        (np.zeros((5, 785)), r"shape \(5, 785\) seems to be rows with a label"),
        (np.zeros((3, 40, 50)), r"shape \(3, 40, 50\), expected \[height, width\]"),
        (np.zeros((28, 28, 5)), r"shape \(28, 28, 5\)"),
        (np.zeros((2, 30, 30, 3)), r"shape \(2, 30, 30, 3\)"),
        (np.full((28, 28), np.nan), "784 of 784 values are not finite"),
        (np.full((28, 28), -1), "values from -1 to -1, expected integers 0 to 255"),
        (np.full((28, 28), 300.0), r"values from 300\.0 to 300\.0"),
        (np.full((28, 28), "x"), "values of type <U1"),
        (np.full((28, 28), 1j), "values of type complex128"),
    ],
)
def test_unusable_array_is_refused_in_one_line_with_the_files_name(tmp_path, array, reason):
    with pytest.raises(UserError, match=reason) as refusal:
        read_pictures(saved(array, tmp_path / "bad.npy"))
    assert str(refusal.value).startswith(str(tmp_path / "bad.npy"))
    assert "\n" not in str(refusal.value)


def test_unusable_file_is_refused_in_one_line_with_its_name(tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("not a picture")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(saved(trousers(), tmp_path / "whole.jpg").read_bytes()[:900])
    pickled = tmp_path / "objects.npy"
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    archive = tmp_path / "archive.npy"
    with archive.open("wb") as file:
        np.savez(file, a=np.zeros(3))
    empty = tmp_path / "empty.npy"
    empty.touch()
    # A few bytes that claim gigabytes of pixels, more and less than what Pillow itself refuses.
    claims = {tmp_path / f"{edge}.png": edge for edge in (50_000, 12_000)}
    for path, edge in claims.items():
        chunks = (b"IHDR" + struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(100)))
        packed = (struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    reasons = {
        **dict.fromkeys(claims, rf"pixels, expected at most {MOST_PIXELS:,}$"),
        text: "not a picture, expected a PNG, JPEG or .npy file",
        cut: "damaged picture",
        pickled: "not a NumPy array of numbers",
        archive: "an archive of arrays",
        empty: "not a NumPy array of numbers",
        tmp_path / "absent.png": "no such file",
        tmp_path: "cannot be read",
    }
    for path, reason in reasons.items():
        with pytest.raises(UserError, match=reason) as refusal:
            read_pictures(path)
        assert str(refusal.value).startswith(f"{path}: ")
        assert "\n" not in str(refusal.value)


@examples(150)
@given(suffix=st.sampled_from(["png", "jpg", "npy"]), at=st.floats(0, 1), value=st.binary(max_size=4))
def test_damaged_file_is_read_or_refused_but_never_crashes(tmp_path, suffix, at, value):
    path = tmp_path / f"damaged.{suffix}"
    saved(image_like_the_data_sets() if suffix == "npy" else trousers(50, 40), path)
    content = bytearray(path.read_bytes())
    position = int(at * (len(content) - 1))
    content[position : position + len(value) + 1] = value
    path.write_bytes(content)
    try:
        assert all(picture.pixels.shape == (28, 28) for picture in read_pictures(path))
    except UserError as refusal:
        assert "\n" not in str(refusal)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_rows_of_784_values_are_pictures_and_said_to_be(tmp_path, count):
    images = np.stack([image_like_the_data_sets(seed) for seed in range(count)])
    pictures = read_pictures(saved(images.reshape(count, 784), tmp_path / "rows.npy"))
    np.testing.assert_array_equal([picture.pixels for picture in pictures], images)
    assert {picture.notes for picture in pictures} == {("rows of 784 values were taken as pictures of 28 x 28 pixels",)}


@pytest.mark.parametrize("count", [3, 4])
def test_as_many_pictures_as_a_colour_has_channels_are_pictures_and_said_to_be(tmp_path, count):
    pictures = read_pictures(saved(np.stack([image_like_the_data_sets()] * count), tmp_path / "few.npy"))
    assert len(pictures) == count
    assert pictures[0].notes == (f"taken as one of {count} pictures, not as one picture of {count} channels",)
