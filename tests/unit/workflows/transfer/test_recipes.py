"""What the recipes say, and which settings they take."""

from __future__ import annotations

import pytest

from fmnist.errors import UserError
from fmnist.workflows.transfer.config import BACKBONES, TransferConfig
from fmnist.workflows.transfer.recipes import FACTS, recipe_of


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_notebook_feeds_every_backbone_the_same(backbone: str) -> None:
    recipe = recipe_of(TransferConfig(recipe="notebook"), backbone)

    assert (recipe.image_size, recipe.resize, recipe.scale, set(recipe.offset)) == (32, False, 1 / 255, {0.0})
    assert recipe.feature_layer == FACTS[backbone].stages[-1]
    assert not recipe.standardise


def test_the_notebook_heads_are_the_studys() -> None:
    config = TransferConfig(recipe="notebook")
    heads = {name: (recipe_of(config, name).head_units, recipe_of(config, name).dropouts) for name in BACKBONES}

    assert heads == {
        "resnet152v2": ((512,), (0.4,)),
        "efficientnetb1": ((512, 128), (0.4, 0.0)),
        "vgg16": ((1024, 512, 128), (0.4, 0.4, 0.0)),
    }


def test_settings_replace_what_the_sound_recipe_says() -> None:
    config = TransferConfig(image_size=64, feature_layer="block3_pool", pooling="max", head_units=[8, 4], dropout=0.1)
    recipe = recipe_of(config, "vgg16")

    assert (recipe.image_size, recipe.feature_layer, recipe.pooling) == (64, "block3_pool", "max")
    assert (recipe.head_units, recipe.feature_dropout, recipe.dropouts) == ((8, 4), 0.1, (0.1, 0.1))
    assert recipe.offset == FACTS["vgg16"].sound.offset


def test_dropout_of_zero_is_not_taken_for_no_setting() -> None:
    recipe = recipe_of(TransferConfig(dropout=0.0), "vgg16")

    assert (recipe.feature_dropout, recipe.dropouts) == (0.0, (0.0,))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "notebook", "pooling": "avg"}, "pooling: found avg, expected auto"),
        ({"recipe": "notebook", "dropout": 0.0}, "dropout: found 0.0, expected auto"),
        ({"recipe": "notebook", "fine_tune_epochs": 2}, "fine_tune_epochs: found 2, expected 0"),
        (
            {"feature_layer": "block9"},
            "feature_layer: found block9, expected the end of a stage of vgg16: block1",
        ),
        ({"fine_tune_epochs": 1, "fine_tune_stages": 5}, "fine_tune_stages: found 5, expected at most 4"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        recipe_of(TransferConfig(**settings), "vgg16")
