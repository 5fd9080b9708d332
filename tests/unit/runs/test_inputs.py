"""A run is resumed with what it has read before."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist.config import SPACES
from fmnist.errors import RunError
from fmnist.runs import RunFolder
from fmnist.runs.inputs import code_sums, inputs_of
from fmnist.runs.lifecycle import begin_run, open_run, with_inputs
from fmnist.storage import FolderStore
from fmnist.workflows.train.config import TrainConfig

IMAGES = {"sha256": {"train-images": "a" * 64, "test-images": "b" * 64}}
OTHERS = {"sha256": {"train-images": "c" * 64, "test-images": "b" * 64}}
WEIGHTS = {"weights of vgg16": "d" * 64}


def settings(tmp_path: Path, **more: object) -> TrainConfig:
    return TrainConfig(artifacts=str(tmp_path / "runs"), run_id="one", **more)  # type: ignore[arg-type]


def begin(config: TrainConfig, images: dict[str, dict[str, str]], weights: dict[str, str]) -> str:
    with open_run("train", config) as opened:
        opened = with_inputs(opened, config, images, weights)
        begin_run(opened, config, images)
        return opened.entry


def test_run_with_other_images_or_weights_is_refused(tmp_path: Path) -> None:
    config = settings(tmp_path)
    begin(config, IMAGES, WEIGHTS)

    assert begin(config, IMAGES, WEIGHTS) == "resumed"
    with pytest.raises(
        RunError, match=r"^run one in .*: started with another train-images: sha256 a{12}…, found c{12}…"
    ):
        begin(config, OTHERS, WEIGHTS)
    with pytest.raises(RunError, match="started with another weights of vgg16"):
        begin(config, IMAGES, {"weights of vgg16": "e" * 64})
    assert begin(settings(tmp_path, overwrite=True), OTHERS, WEIGHTS) == "replaced"


def test_run_of_an_earlier_version_knows_its_images(tmp_path: Path) -> None:
    config = settings(tmp_path)
    begin(config, IMAGES, {})
    run = RunFolder(FolderStore(tmp_path / "runs"), "one")
    environment = run.get_json("environment.json")
    del environment["inputs"]
    run.put_json("environment.json", environment)

    with pytest.raises(RunError, match="started with another train-images"):
        begin(config, OTHERS, {})
    assert begin(config, IMAGES, WEIGHTS) == "resumed"


def test_changed_code_is_refused_and_changed_comments_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config, module = settings(tmp_path, model="own_space:build"), tmp_path / "own_space.py"
    module.write_text("def build(hp):\n    return 1\n")
    begin(config, IMAGES, {})

    module.write_text("# Said better.\ndef build(hp):\n    return  1\n")
    assert begin(config, IMAGES, {}) == "resumed"
    module.write_text("def build(hp):\n    return 2\n")
    with pytest.raises(RunError, match="started with another code of own_space:build"):
        begin(config, IMAGES, {})


@pytest.mark.parametrize(
    "statement",
    ["import own_blocks", "from own_blocks import block", "def build(hp):\n    import own_blocks as blocks"],
)
def test_changed_module_that_the_space_imports_from_its_folder_is_refused(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config, blocks = settings(tmp_path, model="own_space:build"), tmp_path / "own_blocks.py"
    (tmp_path / "own_space.py").write_text(f"import json\n{statement}\n")
    blocks.write_text("import own_space\nblock = 1\n")
    begin(config, IMAGES, {})
    assert begin(config, IMAGES, {}) == "resumed"

    blocks.write_text("import own_space\nblock = 2\n")
    with pytest.raises(RunError, match="started with another code of own_blocks"):
        begin(config, IMAGES, {})


def test_run_of_the_space_notebook_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    config = settings(tmp_path, model="notebook")
    begin(config, IMAGES, {})
    assert begin(config, IMAGES, {}) == "resumed"
    run = RunFolder(FolderStore(tmp_path / "runs"), "one")
    environment = run.get_json("environment.json")
    # Earlier versions recorded no code of their own spaces.
    del environment["inputs"]["code of notebook"]
    run.put_json("environment.json", environment)

    with pytest.raises(RunError, match=r"another code of notebook: that of fmnist 0\.1\.0, found "):
        begin(config, IMAGES, {})
    assert begin(settings(tmp_path, model="notebook", overwrite=True), IMAGES, {}) == "replaced"


def test_run_of_an_unchanged_space_of_an_earlier_version_resumes(tmp_path: Path) -> None:
    config = settings(tmp_path, model="extended")
    begin(config, IMAGES, {})
    run = RunFolder(FolderStore(tmp_path / "runs"), "one")
    environment = run.get_json("environment.json")
    del environment["inputs"]
    run.put_json("environment.json", environment)

    assert begin(config, IMAGES, {}) == "resumed"


@pytest.mark.parametrize("space", SPACES)
def test_code_of_every_space_has_a_sum(space: str) -> None:
    assert len(inputs_of(TrainConfig(model=space), {}, {})[f"code of {space}"]) == 64


def test_code_that_is_not_there_has_no_sum() -> None:
    assert code_sums("no_such_module.at.all") == {}
    assert code_sums("fmnist.runs.inputs").keys() >= {"fmnist.runs.inputs", "fmnist.runs.folder", "fmnist.runs.lease"}
    assert code_sums("sys") == {}


def test_other_versions_are_a_line_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = settings(tmp_path)
    begin(config, IMAGES, {})
    run = RunFolder(FolderStore(tmp_path / "runs"), "one")
    environment = run.get_json("environment.json")
    run.put_json("environment.json", {**environment, "keras": "3.0.0"})
    capsys.readouterr()

    begin(config, IMAGES, {})

    assert capsys.readouterr().out.startswith("run one: started with keras 3.0.0, now 3.")
    assert run.get_json("environment.json")["earlier"] == [{"tensorflow": environment["tensorflow"], "keras": "3.0.0"}]
    begin(config, IMAGES, {})
    assert capsys.readouterr().out == ""
    assert len(run.get_json("environment.json")["earlier"]) == 1
