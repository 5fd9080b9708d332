"""The features that a frozen backbone computes of images, and the shards in which the artifact store keeps them."""

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

# Between a shard's array and its sha256. Whoever reads an array does not look behind it.
_SUM = b"\nsha256 "


@dataclass(frozen=True, eq=False)
class Features:
    """Features of labelled images, the training data of a head.

    ``inputs`` are float32 [n, features], or float16 if computed in bfloat16, which has fewer digits.
    """

    inputs: NDArray[np.floating]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class FeatureShard:
    """The images whose features one task computes: their positions among all, int [n], and their sha256."""

    positions: NDArray[np.intp]
    digest: str


def feature_key(backbone: str, weights: str, recipe: Recipe, precision: str) -> str:
    """Returns a name for everything that features depend on except the images.

    ``weights`` is the sha256 of their file, or the seed of random ones.
    """
    names = ("image_size", "resize", "scale", "offset", "feature_layer", "pooling")
    parts = {"weights": weights} | {name: getattr(recipe, name) for name in names} | {"precision": precision}
    return f"{backbone}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"


def feature_dtype(precision: str) -> type[np.float32] | type[np.float16]:
    """Returns the dtype of stored features."""
    return np.float16 if precision == "bfloat16" else np.float32


def feature_shards(images: Sequence[Images], images_per_shard: int) -> list[FeatureShard]:
    """Assigns images to shards by their pixels, so that shards do not depend on the order that a seed gave the images.

    Positions count through all sets of images. A shard has at most ``images_per_shard``, 1 or more.
    """
    digests = np.array([hashlib.sha256(image).digest() for part in images for image in part.pixels], dtype=object)
    order = np.argsort(digests, kind="stable")
    parts = [order[start : start + images_per_shard] for start in range(0, len(order), images_per_shard)]
    return [FeatureShard(part, hashlib.sha256(b"".join(digests[part])).hexdigest()) for part in parts]


def shard_path(key: str, shard: FeatureShard) -> str:
    """Returns the path of a shard's features in an artifact store."""
    return f"{FEATURES}/{key}/{shard.digest}.npy"


def stored_shards(store: Store, key: str) -> set[str]:
    """Returns the paths of the shards that a store has."""
    return {entry.key for entry in store.entries(f"{FEATURES}/{key}")}


def read_shard(store: Store, path: str) -> NDArray[np.floating]:
    """Reads a shard's features: [n, features].

    Raises:
        IntegrityError: if the file is damaged.
    """
    try:
        content = store.get_bytes(path)
        array, mark, digest = content.rpartition(_SUM)
        # Earlier versions wrote no sum.
        if mark and hashlib.sha256(array).hexdigest().encode() != digest:
            raise ValueError("not what was written")
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError) as error:
        where = f"{store.location}/{path}"
        raise IntegrityError(f"{where}: damaged ({error}); delete it, and it is computed again") from error


def write_shard(store: Store, path: str, features: NDArray[np.floating]) -> None:
    """Stores a shard's features, and their sum behind them; readers see the complete file or none."""
    content = io.BytesIO()
    np.save(content, features, allow_pickle=False)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    store.put_bytes(path, content.getvalue() + _SUM + digest.encode())
