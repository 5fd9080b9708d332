"""Keras goes without what no job uses, and nobody else does."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from fmnist import imports


@pytest.mark.parametrize(("importer", "finds"), [("some.part.module", False), ("some.other", True), ("part", True)])
def test_only_the_named_part_goes_without_the_library(
    importer: str, finds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setitem(imports._SPARED, "some.part", "colorsys")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    imports.spare_keras()

    names: dict[str, object] = {"__name__": importer}
    exec("try:\n    import colorsys\nexcept ImportError:\n    colorsys = None", names)

    assert bool(names["colorsys"]) is finds


def test_keras_has_the_parts_that_are_spared() -> None:
    import keras.src.visualization.plot_image_gallery
    import keras.src.wrappers.fixes

    assert hasattr(keras.src.wrappers.fixes, "sklearn") and hasattr(keras.src.visualization.plot_image_gallery, "plt")


def test_no_tool_makes_the_start_of_rays_processes_slow() -> None:
    # jsonschema imports these wherever they are installed, 2 s in each process of Ray's.
    assert not [name for name in ("rfc3987_syntax", "isoduration", "fqdn") if importlib.util.find_spec(name)]
