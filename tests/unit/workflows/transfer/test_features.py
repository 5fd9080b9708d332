"""Which images' features are kept under which name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist.data import Images
from fmnist.errors import IntegrityError, RunError
from fmnist.runs import check_run_id
from fmnist.storage import FolderStore
from fmnist.workflows.transfer.features import (
    feature_key,
    feature_shards,
    read_shard,
    shard_path,
    stored_shards,
    write_shard,
)
from fmnist.workflows.transfer.recipes import FACTS

SOUND = FACTS["vgg16"].sound


def _images(count: int, seed: int = 0) -> Images:
    generator = np.random.default_rng(seed)
    return Images(generator.integers(0, 256, (count, 28, 28), np.uint8), generator.integers(0, 10, count, np.uint8))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_every_image_is_in_one_shard_whatever_the_order_and_the_split(
    first: int, second: int, size: int, seed: int
) -> None:
    images = _images(first + second)
    order = np.random.default_rng(seed).permutation(len(images))
    parts = [images.select(order[:first]), images.select(order[first:])]

    shards = feature_shards(parts, size)

    assert sorted(np.concatenate([shard.positions for shard in shards])) == list(range(len(images)))
    assert max(len(shard.positions) for shard in shards) <= size
    assert [shard.digest for shard in shards] == [shard.digest for shard in feature_shards([images], size)]
    for shard, same in zip(shards, feature_shards([images], size), strict=True):
        assert np.array_equal(order[shard.positions], same.positions)


def test_a_changed_pixel_changes_a_digest() -> None:
    images = _images(10)
    changed = Images(images.pixels.copy(), images.labels)
    changed.pixels[3, 5, 5] ^= 1

    assert feature_shards([images], 10)[0].digest != feature_shards([changed], 10)[0].digest


def test_labels_do_not_matter() -> None:
    images = _images(10)

    assert (
        feature_shards([images], 4)[0].digest
        == feature_shards([Images(images.pixels, images.labels[::-1].copy())], 4)[0].digest
    )


def test_the_key_depends_on_all_that_features_depend_on_and_on_nothing_else() -> None:
    key = feature_key("vgg16", "0123", SOUND, "float32")
    others = [
        feature_key("vgg16", "4567", SOUND, "float32"),
        feature_key("vgg16", "0123", SOUND, "bfloat16"),
        *(
            feature_key("vgg16", "0123", replace(SOUND, **change), "float32")
            for change in (
                {"image_size": 64},
                {"resize": False},
                {"scale": 2.0},
                {"offset": (0.0, 0.0, 1.0)},
                {"feature_layer": "block3_pool"},
                {"pooling": "max"},
            )
        ),
    ]

    assert len({key, *others}) == 1 + len(others)
    assert feature_key("vgg16", "0123", replace(SOUND, head_units=(7,), dropouts=(0.0,)), "float32") == key


def test_what_is_stored_is_read(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    [shard] = feature_shards([_images(5)], 5)
    path = shard_path("vgg16-0", shard)
    features = np.arange(10, dtype=np.float16).reshape(5, 2)

    assert stored_shards(store, "vgg16-0") == set()
    write_shard(store, path, features)

    assert stored_shards(store, "vgg16-0") == {path}
    assert np.array_equal(read_shard(store, path), features)
    assert read_shard(store, path).dtype == np.float16


def test_a_damaged_shard_says_where_it_is(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put_bytes("features/a/b.npy", b"nothing of the kind")

    with pytest.raises(IntegrityError, match=r"features/a/b\.npy: damaged"):
        read_shard(store, "features/a/b.npy")


def test_no_run_may_have_the_folders_name() -> None:
    with pytest.raises(RunError, match="run id features"):
        check_run_id("features")
