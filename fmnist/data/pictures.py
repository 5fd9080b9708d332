"""Conversion of any picture to the models' input: light clothing on black, 28 x 28 grey pixels.

The steps are those by which Fashion-MNIST was made from shop photographs (Xiao, Rasul and Vollgraf 2017,
section 2): trim the borders that look like the corners, bring the longest edge to 28, sharpen, extend the shortest to
28 with the object in the centre, and negate, since those photographs have a light background.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from fmnist.data.types import PixelStatistics
from fmnist.errors import UserError, first_line
from fmnist.files import local_path, open_regular

Background = Literal["auto", "light", "dark"]

SIZE = 28
WHITE = 255
PILLOW_FORMATS = ("PNG", "JPEG")
# The paper's "close to the corner": within 5 % of the largest possible distance between two colours.
CLOSE_TO_CORNER = 0.05 * WHITE * np.sqrt(3)
# The paper gives radius and deviation (1.0) but no strength. On test images drawn 8 to 20 times as large, 50 % gave the
# accuracy of the originals (.892 against .892), no sharpening .885 and 100 % .889.
SHARPEN = ImageFilter.UnsharpMask(radius=1, percent=50, threshold=0)

# A kilobyte of PNG can claim more than fits into memory. Pictures of more than 16 million pixels are reduced first:
# 28 x 28 pixels need no more.
MOST_PIXELS = 100_000_000
REDUCED_ABOVE = 16_000_000
# Of an array: 127,551 pictures.
MOST_VALUES = 100_000_000
SHORTEST_EDGE = 8
FLAT = ("one flat colour: nothing was found on it",)

Pixels = npt.NDArray[np.uint8]
Notes = tuple[str, ...]


@dataclass(frozen=True)
class PreparedPicture:
    """A picture as a model takes it.

    Attributes:
        name: the file, and for a stack the position in it, such as ``shoes.npy[3]``.
        pixels: uint8 [28, 28], clothing light on black.
        background: what the picture's own background was taken to be.
        source_size: (width, height) of the picture in the file, in pixels, turned as its EXIF data says.
        notes: what was done to it, one short sentence each.
    """

    name: str
    pixels: Pixels
    background: Literal["light", "dark"]
    source_size: tuple[int, int]
    notes: Notes


def read_pictures(path: str | Path, background: Background = "auto") -> list[PreparedPicture]:
    """Reads the pictures in a file, in order; only a ``.npy`` stack holds more than one.

    A picture of 28 x 28 pixels is taken to be prepared already and is at most negated, so an image of the data set
    comes through bit for bit.

    Args:
        path: a PNG or JPEG file of any kind and size, or a ``.npy`` array of shape [height, width], [height, width, 1],
            [height, width, 3 or 4], [n, 28, 28], [n, 28, 28, 1] or [n, 784], with integers 0 to 255 or floats 0 to 1 or
            0 to 255.
        background: what the clothing lies on. ``auto`` decides for each picture by the median of its border.

    Raises:
        UserError: if the file cannot be read or is none of these.
    """
    if background not in get_args(Background):
        raise UserError(f"background {background!r}: expected auto, light or dark")
    path = local_path(path)
    with open_regular(path) as file:
        is_array = path.suffix.lower() == ".npy"
        images, notes = _open_array(file, path) if is_array else _open_picture(file, path)
    names = [path.name] if len(images) == 1 else [f"{path.name}[{index}]" for index in range(len(images))]
    return [_prepare(name, image, background, notes) for name, image in zip(names, images, strict=True)]


def as_trained(picture: PreparedPicture, trained: PixelStatistics) -> PreparedPicture:
    """Brings a picture, light on black, to what the images were that a model was trained on."""
    pixels, notes = picture.pixels, picture.notes
    if trained.light_background:
        pixels = WHITE - pixels
    if trained.high < WHITE and int(pixels.max()) > trained.high:
        pixels = np.rint(pixels * (trained.high / WHITE)).astype(np.uint8)
        notes = (*notes, f"scaled to 0 to {trained.high}, as the training images are")
    return replace(picture, pixels=pixels, notes=notes)


def _open_picture(file: BinaryIO, path: Path) -> tuple[list[Image.Image], Notes]:
    try:
        with warnings.catch_warnings():
            # Pillow's own limit, which is higher, is a warning first.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(file, formats=PILLOW_FORMATS)
        if opened.width * opened.height > MOST_PIXELS:
            raise UserError(f"{path}: {opened.width} x {opened.height} pixels, expected at most {MOST_PIXELS:,}")
        image = ImageOps.exif_transpose(opened)
        image.load()
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{path}: too many pixels, expected at most {MOST_PIXELS:,}") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{path}: not a picture, expected a PNG, JPEG or .npy file") from None
    except Exception as error:  # Pillow documents none, and which one it is depends on where the damage is
        raise UserError(f"{path}: damaged picture ({first_line(error)})") from None
    return [image], ()


def _open_array(file: BinaryIO, path: Path) -> tuple[list[Image.Image], Notes]:
    try:
        # Mapped: a header may claim more than the file has, and more than fits into memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header even gives tokenize.TokenError
        raise UserError(f"{path}: not a NumPy array of numbers ({first_line(error)})") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: an archive of arrays, expected one array as written by numpy.save")
    found = f"{path}: array of shape {array.shape}"
    expected = "expected [height, width], [height, width, 1, 3 or 4], [n, 28, 28] or [n, 784]"
    if array.size == 0:
        raise UserError(f"{found} holds no pixels, {expected}")
    if array.size > MOST_VALUES:
        raise UserError(f"{found} holds {array.size:,} values, expected at most {MOST_VALUES:,}")
    if array.ndim > 2 and array.shape[-1] == 1:
        array = array[..., 0]
    notes: Notes = ()
    if array.ndim == 2 and array.shape[1] == SIZE * SIZE:
        notes = (f"rows of {SIZE * SIZE} values were taken as pictures of {SIZE} x {SIZE} pixels",)
        array = array.reshape(-1, SIZE, SIZE)
    if array.ndim == 2 and array.shape[1] == SIZE * SIZE + 1:
        raise UserError(f"{found} seems to be rows with a label, {expected}")
    if array.ndim == 3 and array.shape[1:] == (SIZE, SIZE):
        if len(array) in (3, 4) and not notes:
            notes = (f"taken as one of {len(array)} pictures, not as one picture of {len(array)} channels",)
        return [Image.fromarray(picture) for picture in _to_bytes(path, array)], notes
    if (array.ndim == 3 and array.shape[2] in (3, 4)) or array.ndim == 2:
        if min(array.shape[:2]) < SHORTEST_EDGE:
            raise UserError(f"{found} is no picture: an edge of {min(array.shape[:2])} pixels, {expected}")
        return [Image.fromarray(_to_bytes(path, array))], notes
    raise UserError(f"{found}, {expected}")


def _to_bytes(path: Path, array: npt.NDArray[Any]) -> Pixels:
    expected = "expected integers 0 to 255, or floats 0 to 1 or 0 to 255"
    if array.dtype.kind not in "uif":
        raise UserError(f"{path}: values of type {array.dtype}, {expected}")
    unusable = int((~np.isfinite(array)).sum())
    if unusable:
        raise UserError(f"{path}: {unusable} of {array.size} values are not finite, {expected}")
    low, high = array.min(), array.max()
    if low < 0 or high > WHITE:
        raise UserError(f"{path}: values from {low} to {high}, {expected}")
    scale = WHITE if array.dtype.kind == "f" and high <= 1 else 1
    return np.rint(array * scale).astype(np.uint8)


def _prepare(name: str, image: Image.Image, background: Background, notes: Notes) -> PreparedPicture:
    source_size = image.size
    image, more = _to_eight_bit_colour(image)
    notes += more
    grey = np.asarray(image.convert("L"))
    if grey.max() == 1:
        image, notes = image.point(lambda value: value * WHITE), (*notes, "0 and 1 were taken as black and white")
        grey = np.asarray(image.convert("L"))
    edge = float(np.median(_border(grey)))
    assumed: Literal["light", "dark"] = background if background != "auto" else "light" if edge > WHITE / 2 else "dark"
    if image.size == (SIZE, SIZE):
        pixels = grey.copy() if assumed == "dark" else WHITE - grey
        return PreparedPicture(name, pixels, assumed, source_size, notes + (FLAT if np.ptp(grey) == 0 else ()))
    box = _box_of_object(np.asarray(image))
    if box is None:
        notes += FLAT
    elif box != (0, 0, *image.size):
        notes = (*notes, f"trimmed to {box[2] - box[0]} x {box[3] - box[1]} pixels")
    upright = image.convert("L") if assumed == "dark" else ImageOps.invert(image.convert("L"))
    black = edge if assumed == "dark" else WHITE - edge
    if 0 < black <= WHITE / 2:
        # Shop photographs lie on white; on grey the extended parts would otherwise be darker than the ground beside.
        stretch = WHITE / (WHITE - black)
        upright = upright.point([round(max(0.0, level - black) * stretch) for level in range(WHITE + 1)])
        notes = (*notes, f"background of {black:.0f} of {WHITE} was taken as black")
    pixels = _fit(upright.crop(box or (0, 0, *image.size)))
    return PreparedPicture(name, pixels, assumed, source_size, notes)


def _fit(image: Image.Image) -> Pixels:
    """Brings the longest edge to 28, keeping the aspect, sharpens, and centres it on black."""
    scale = SIZE / max(image.size)
    width, height = (max(1, round(edge * scale)) for edge in image.size)
    canvas = Image.new("L", (SIZE, SIZE))
    small = image.resize((width, height), Image.Resampling.BICUBIC).filter(SHARPEN)
    canvas.paste(small, ((SIZE - width) // 2, (SIZE - height) // 2))
    return np.array(canvas)


def _to_eight_bit_colour(image: Image.Image) -> tuple[Image.Image, Notes]:
    if image.width * image.height > REDUCED_ABOVE:
        image = image.reduce(math.ceil(math.sqrt(image.width * image.height / REDUCED_ABOVE)))
    if image.mode.startswith("I"):
        values = np.asarray(image, np.float32)
        # Cameras and scanners store their 10 or 12 bits as they are.
        bits = next((bits for bits in (8, 10, 12) if values.max() < 2**bits), 16)
        eight_bit = np.rint(values * (WHITE / (2**bits - 1))).astype(np.uint8)
        note = f"{bits} bits a pixel were reduced to 8" if bits == 16 else f"16 bits a pixel were taken as {bits}"
        return Image.fromarray(eight_bit).convert("RGB"), (note,)
    if not image.has_transparency_data:
        return image.convert("RGB"), ()
    on_white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return on_white.convert("RGB"), ("transparent parts were put on white",)


def _border(grey: Pixels) -> Pixels:
    """Returns the values of the outermost ring, one 28th of the picture wide: one pixel of the data set's images."""
    width = max(1, min(grey.shape) // SIZE)
    inside = np.zeros(grey.shape, bool)
    inside[width:-width, width:-width] = True
    return grey[~inside]


def _box_of_object(colour: Pixels) -> tuple[int, int, int, int] | None:
    """Returns (left, top, right, bottom) of what differs from the corners, or None if nothing does."""
    corners = colour[[0, 0, -1, -1], [0, -1, 0, -1]]
    distance = np.linalg.norm(colour - np.median(corners, axis=0).astype(np.float32), axis=2)
    rows, columns = (np.flatnonzero((distance > CLOSE_TO_CORNER).any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
