"""Settings as YAML, and back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fmnist.options import parse_config, settings_yaml
from fmnist.workflows.train.config import TrainConfig

# Letters that a command line and a file can have; what a person calls a choice.
TEXTS = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=12)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["1e-3", "1_000", "0x10", "yes", "off", "null", "1:30", ".5", "3.", "~", "", "2026-11-24", "="]),
    TEXTS,
)


@given(hyperparameters=st.dictionaries(TEXTS, VALUES, min_size=1, max_size=5))
def test_hyperparameters_survive_a_file(hyperparameters: dict[str, object], tmp_path_factory) -> None:
    file: Path = tmp_path_factory.mktemp("settings") / "best.yaml"
    config = TrainConfig(model="notebook", hyperparameters=hyperparameters)
    file.write_text(settings_yaml(asdict(config)))

    read = parse_config(TrainConfig, "fmnist train", ["--config", str(file)])

    assert read == config
    assert [type(value) for value in read.hyperparameters.values()] == [type(v) for v in hyperparameters.values()]
