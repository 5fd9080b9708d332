"""Settings as YAML, and back."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fmnist.config import JobConfig
from fmnist.errors import UserError
from fmnist.options import parse_config, recipes_of, settings_yaml
from fmnist.workflows.train.config import TrainConfig
from fmnist.workflows.transfer.config import TransferConfig

# What YAML's versions read as numbers, truths, nothing, dates or syntax, and separators of lines.
SPECIAL = [
    "1e-3", "1e3", "1_000", "0x10", "0o17", "0b1", "007", ".5", "3.", "+.5", "._", "._1", "-._", "0x_", "1:30",
    "1:2.5", "+.inf", "-.inf", ".nan", "inf", "nan", "yes", "off", "on", "y", "true", "None", "null", "Null", "~", "=",
    "<<", "2026-11-24", "2026-11-24T10:00:00Z", "?", "-", "null:", "a:", "#a", "&a", "*a", "!x", "|", ">", "%a", "@a",
    "`a", "[", "[1]", "{", "{a}", "'a'", "---", "...", "\\n", "", "? a", "- a", "a: b", "a #b", "{a: 1}", "!!str a",
    '"a"', " a", "a ", " ", "\t", "\n", "a\n b", "\r", "a\r\nb", "a\x85b", "\u2028", "a\u2029", "\x00", "\x7f",
    "\ufeff",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.text("0123456789_.+-:eExobna~ ", max_size=6),
    st.sampled_from(SPECIAL),
)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)


def written_and_read(config: JobConfig, folder: Path) -> JobConfig | None:
    file = folder / "settings.yaml"
    file.write_text(settings_yaml(asdict(config)))
    return parse_config(type(config), "fmnist job", ["--config", str(file)])


@given(hyperparameters=st.dictionaries(TEXTS, VALUES, min_size=1, max_size=5))
def test_hyperparameters_survive_a_file(hyperparameters: dict[str, object], tmp_path: Path) -> None:
    config = TrainConfig(model="notebook", hyperparameters=hyperparameters)

    read = written_and_read(config, tmp_path)

    assert read == config
    assert {name: type(value) for name, value in read.hyperparameters.items()} == {
        name: type(value) for name, value in hyperparameters.items()
    }
    assert yaml.safe_load(settings_yaml(asdict(config))) == asdict(config)


@given(text=TEXTS)
def test_text_settings_survive_a_file(text: str, tmp_path: Path) -> None:
    config = TransferConfig(data=text, run_id=text, weights=text, feature_layer=text, compare_with=text)

    assert written_and_read(config, tmp_path) == config
    assert yaml.safe_load(settings_yaml(asdict(config))) == asdict(config)


@pytest.mark.parametrize("text", SPECIAL)
def test_special_text_survives_a_file_as_key_and_as_value(text: str, tmp_path: Path) -> None:
    config = TrainConfig(run_id=text, model="notebook", hyperparameters={text: text})

    assert written_and_read(config, tmp_path) == config


@pytest.mark.parametrize("text", ["._", "?", "null", "~", "5", "a:"])
def test_flag_that_is_a_text_takes_any_text(text: str) -> None:
    config = parse_config(TrainConfig, "fmnist train", ["--run-id", text, "--data", text])

    assert config is not None and (config.run_id, config.data) == (text, text)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("data: [", "train: line 1, column 8: expected the node content, but found '<stream end>'"),
        ("epochs: 5\nepochs: 1", "train: line 2, column 1: found epochs twice"),
        ("epochs: 12:30", "train: epochs: found 12:30, expected a whole number of 1 or more"),
        ("epochs:", "train: epochs: found null, expected a whole number of 1 or more"),
        ("epochs: &a 1\nseed: *a", "train: line 1, column 9: found an alias"),
        ("", "train: found nothing, expected settings by name"),
        ("- 1", "train: found no names, expected settings by name"),
        ("learning_rate: .inf", "train: learning_rate: found inf, expected a number above 0"),
        ("run_id: 5", "train: run_id: found 5, expected text"),
    ],
)
def test_file_that_cannot_be_read_is_one_line_that_names_it(written: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(written)

    with pytest.raises(UserError) as error:
        parse_config(TrainConfig, "fmnist train", ["--config", str(file)])

    assert str(error.value).startswith(message) and str(error.value).endswith(f"(in {file})")
    assert "\n" not in str(error.value)


def test_flag_that_is_no_text_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^train: found '\\udcff', expected text in UTF-8$"):
        parse_config(TrainConfig, "fmnist train", ["--data", "\udcff"])


@pytest.mark.parametrize(
    ("written", "name", "value"),
    [("seed: 010", "seed", 10), ("xla: off", "xla", "off"), ("limit:", "limit", None), ("data: ._", "data", "._")],
)
def test_settings_are_read_by_the_rules_of_yaml_1_2(written: str, name: str, value: object, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(written)

    assert getattr(parse_config(TrainConfig, "fmnist train", ["--config", str(file)]), name) == value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: found 0, expected a whole number of 1 or more"),
        ({"epochs": True}, "epochs: found true, expected a whole number"),
        ({"seed": None}, "seed: found null, expected a whole number"),
        ({"learning_rate": math.nan}, "learning_rate: found nan, expected a number above 0"),
        ({"xla": False}, "xla: found false, expected one of auto, on, off"),
        ({"overwrite": "yes"}, "overwrite: found yes, expected true or false"),
        ({"hyperparameters": {"units": [1]}}, "hyperparameters: found {'units': \\[1\\]}, expected names with values"),
    ],
)
def test_settings_from_python_are_checked_as_those_of_a_file(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        TrainConfig(**settings)


def test_recipe_is_settings_that_files_and_flags_win_over(tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text("seed: 3\npatience: 4\n")
    plain = parse_config(TrainConfig, "fmnist train", ["--recipe", "fast-92"])

    changed = parse_config(
        TrainConfig, "fmnist train", ["--epochs", "1", "--config", str(file), "--seed=5", "--recipe=fast-92"]
    )

    assert plain is not None and plain.model == "fast" and plain.patience == 0
    assert changed == replace(plain, epochs=1, patience=4, seed=5)


def test_help_names_each_recipe_with_what_it_reaches(capsys) -> None:
    with pytest.raises(SystemExit):
        parse_config(TrainConfig, "fmnist train", ["--help"])

    text = " ".join(capsys.readouterr().out.split())
    recipes = recipes_of(TrainConfig)
    assert list(recipes) == ["fast-90", "fast-92"]
    for name, file in recipes.items():
        assert f"{name}: {file.read_text().splitlines()[0].removeprefix('# ')}" in text


def test_recipe_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="train: recipe: found fast-99, expected one of fast-90, fast-92"):
        parse_config(TrainConfig, "fmnist train", ["--recipe", "fast-99"])
    with pytest.raises(UserError, match="recipe: found fast-92, expected one of sound, notebook"):
        parse_config(TransferConfig, "fmnist transfer", ["--recipe", "fast-92"])
