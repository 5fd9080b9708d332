"""What a frozen backbone makes of images: computed once, kept under a name that says what it depends on."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist.data import Images
from fmnist.errors import IntegrityError
from fmnist.runs import FEATURES
from fmnist.storage import Store
from fmnist.workflows.transfer.recipes import Recipe


@dataclass(frozen=True, eq=False)
class Features:
    """Features of labelled images, as what a head is trained on.

    Attributes:
        inputs: float32 [n, features], or float16 where they were computed in bfloat16, which holds no more digits.
        labels: uint8 [n], 0 to 9.
    """

    inputs: NDArray[np.floating]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Shard:
    """Some of the images whose features are computed by one task.

    Attributes:
        positions: int [n], of its images among all.
        digest: sha256 of its images, in their order.
    """

    positions: NDArray[np.intp]
    digest: str


def feature_key(backbone: str, weights: str, recipe: Recipe, precision: str) -> str:
    """Returns a name of all that features depend on but the images.

    Args:
        weights: sha256 of their file, or how fresh ones were drawn.
        precision: of the products, float32 or bfloat16.
    """
    parts = {
        "weights": weights,
        "image_size": recipe.image_size,
        "resize": recipe.resize,
        "scale": recipe.scale,
        "offset": recipe.offset,
        "feature_layer": recipe.feature_layer,
        "pooling": recipe.pooling,
        "precision": precision,
    }
    return f"{backbone}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"


def feature_dtype(precision: str) -> type[np.float32] | type[np.float16]:
    """What features are kept in."""
    return np.float16 if precision == "bfloat16" else np.float32


def shards(images: Sequence[Images], images_per_shard: int) -> list[Shard]:
    """Deals images to shards by what they show, so that the order that a seed gave them does not matter.

    Args:
        images: sets of images, whose positions are counted through.
        images_per_shard: at most, 1 or more.
    """
    digests = np.array(
        [hashlib.sha256(image.tobytes()).digest() for part in images for image in part.pixels], dtype=object
    )
    order = np.argsort(digests, kind="stable")
    dealt = []
    for start in range(0, len(order), images_per_shard):
        positions = order[start : start + images_per_shard]
        dealt.append(Shard(positions, hashlib.sha256(b"".join(digests[positions])).hexdigest()))
    return dealt


def shard_path(key: str, shard: Shard) -> str:
    """Where in an artifact store a shard's features are."""
    return f"{FEATURES}/{key}/{shard.digest}.npy"


def stored_shards(store: Store, key: str) -> set[str]:
    """Returns the paths of the shards that a store has."""
    return {entry.key for entry in store.entries(f"{FEATURES}/{key}")}


def read_shard(store: Store, path: str) -> NDArray[np.floating]:
    """Reads a shard's features: [n, features].

    Raises:
        IntegrityError: if it is not what was written.
    """
    try:
        return np.load(io.BytesIO(store.get_bytes(path)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise IntegrityError(
            f"{store.location}/{path}: damaged ({error}); delete it, and it is computed again"
        ) from error


def write_shard(store: Store, path: str, features: NDArray[np.floating]) -> None:
    """Stores a shard's features; readers see all of it or nothing."""
    content = io.BytesIO()
    np.save(content, features, allow_pickle=False)
    store.put_bytes(path, content.getvalue())
