"""What becomes of a pipeline when a stage fails or it is to be replaced: with jobs that only pretend to train."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path

import pytest
from data_files import some_images, write_idx_folder
from stage_metrics import STAGES

from fmnist import cli
from fmnist.config import JobConfig
from fmnist.distributed import cluster, session
from fmnist.errors import RunError, TrainingError, UserError
from fmnist.options import parse_config
from fmnist.runs import RunFolder
from fmnist.runs.lifecycle import begin_run, open_run
from fmnist.storage import FolderStore
from fmnist.workflows import JOBS
from fmnist.workflows.pipeline.config import PipelineConfig
from fmnist.workflows.pipeline.job import pipeline
from fmnist.workflows.pipeline.stages import plan

LAPTOP = cluster.Resources(cpus=2, gpus=0, nodes=1, cpus_of_largest_node=2, started_here=True)


class Pretence:
    """Stands in for the jobs.

    Attributes:
        ran: the stages that were run, in order.
        resources: what each was given of Ray.
        errors: what a stage ends with.
    """

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.resources: list[cluster.Resources | None] = []
        self.errors: dict[str, Exception] = {}

    def run(self, job: str, config: JobConfig, resources: cluster.Resources | None = None) -> RunFolder:
        with open_run(job, config) as opened:
            folder = opened.folder
            stage = folder.run_id.removeprefix("night-")
            # A real job settles what is auto: this cluster has no GPU.
            gpus = {one.name: 0.0 for one in fields(config) if one.name.startswith("gpus_per_")}
            begin_run(opened, replace(config, **gpus), {})
            self.ran.append(stage)
            self.resources.append(resources)
            if stage in self.errors:
                raise self.errors[stage]
            for name in ("learning_curves", "confusion_matrix", "trial_curves", "leak", "candidate_curves"):
                folder.put_bytes(f"plots/{name}.png", b"\x89PNG")
            folder.put_json("metrics.json", asdict(STAGES[stage]))
            folder.finish(job)
        return folder


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Pretence:
    @contextmanager
    def no_ray(resources=None):  # type: ignore[no-untyped-def]
        yield LAPTOP

    pretence = Pretence()
    for name, job in JOBS.items():
        monkeypatch.setitem(JOBS, name, replace(job, driver=partial(pretence.run, name)))
    monkeypatch.setattr(cluster, "connected", no_ray)
    monkeypatch.setattr(session, "check_workers", lambda *_, **__: [])
    return pretence


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    data = write_idx_folder(tmp_path / "data", some_images(100), some_images(20, seed=1))
    return PipelineConfig(data=str(data), artifacts=str(tmp_path / "runs"), run_id="night", stages="train")


def again(config: PipelineConfig, **changes: object) -> PipelineConfig:
    return PipelineConfig(**{**vars(config), **changes})  # type: ignore[arg-type]


def state(config: PipelineConfig, run_id: str) -> str:
    return RunFolder(FolderStore(Path(config.artifacts)), run_id).state()


@pytest.mark.parametrize("error", [TrainingError("loss is nan"), ValueError("loss is nan\nand more")])
def test_failed_stage_does_not_stop_the_others_and_is_run_again(
    jobs: Pretence, config: PipelineConfig, error: Exception
) -> None:
    jobs.errors["train-lenet5"] = error

    with pytest.raises(TrainingError, match=r"^run night: 1 of 2 stages failed, train-lenet5; .*report.html has"):
        pipeline(config)

    assert jobs.ran == ["train-lenet5", "train-lenet5-1998"]
    assert state(config, "night") == "unfinished"
    page = RunFolder(FolderStore(Path(config.artifacts)), "night").get_bytes("report.md").decode()
    assert "loss is nan" in page and "and more" not in page

    jobs.errors.clear()
    assert pipeline(config).verify() == []
    assert jobs.ran[2:] == ["train-lenet5"]


def test_finished_pipeline_is_replaced_with_all_its_stages_if_wanted(jobs: Pretence, config: PipelineConfig) -> None:
    pipeline(config)
    with pytest.raises(RunError, match="finished already"):
        pipeline(config)
    with pytest.raises(RunError, match="finished already"):
        pipeline(again(config, seed=1))
    assert len(jobs.ran) == 2

    pipeline(again(config, seed=1, overwrite=True))

    assert jobs.ran[2:] == ["train-lenet5", "train-lenet5-1998"]


def test_replacing_that_was_interrupted_goes_on_with_the_stages_that_are_left(
    jobs: Pretence, config: PipelineConfig
) -> None:
    run = pipeline(again(config, stages="train,tune-notebook"))
    jobs.ran.clear()
    jobs.errors["train-lenet5-1998"] = TrainingError("killed")
    with pytest.raises(TrainingError, match="1 of 2 stages failed, train-lenet5-1998"):
        pipeline(again(config, overwrite=True))
    # The old run of the stage that failed is whole, but it is no part of this pipeline; nor is one left out.
    assert state(config, "night-train-lenet5-1998") == "finished"
    reported = {one["name"]: one["status"] for one in run.get_json("metrics.json")["stages"]}
    assert reported["train-lenet5"] == "finished" and reported["train-lenet5-1998"] == "failed"
    assert reported["tune-notebook"] == "left out"
    jobs.errors.clear()

    assert pipeline(again(config, overwrite=True)).verify() == []

    assert jobs.ran == ["train-lenet5", "train-lenet5-1998", "train-lenet5-1998"]
    # A stage that was left out then is started anew as well.
    pipeline(again(config, stages="train,tune-notebook"))
    assert jobs.ran[3:] == ["tune-notebook"]


def test_pipeline_stays_finished_until_a_stage_has_a_checkpoint(jobs: Pretence, config: PipelineConfig) -> None:
    run = pipeline(config)
    jobs.errors["train-lenet5"] = KeyboardInterrupt()  # type: ignore[assignment]

    with pytest.raises(KeyboardInterrupt):
        pipeline(again(config, overwrite=True))

    assert run.verify() == []
    assert state(config, "night-train-lenet5") == "finished"


def test_what_was_refused_leaves_a_finished_pipeline_as_it_is(jobs: Pretence, config: PipelineConfig) -> None:
    trained = again(config, backbone="vgg16", weights=str(Path(config.data) / "none.weights.h5"))
    pipeline(trained)

    with pytest.raises(UserError, match=r"none\.weights\.h5"):
        pipeline(again(trained, stages="all"))

    assert state(config, "night") == "finished"
    assert len(jobs.ran) == 2


def test_one_file_is_not_taken_for_the_weights_of_several_backbones(jobs: Pretence, config: PipelineConfig) -> None:
    with pytest.raises(UserError, match=r"^weights: found some.weights.h5 for resnet152v2, efficientnetb1, vgg16"):
        pipeline(again(config, stages="all", weights="some.weights.h5"))

    assert jobs.ran == []


def test_what_finds_no_room_is_told_before_anything_is_trained(jobs: Pretence, config: PipelineConfig) -> None:
    with pytest.raises(UserError, match="workers x cpus_per_worker: found 3 x 1"):
        pipeline(again(config, workers=3))
    with pytest.raises(UserError, match="gpus_per_task: found 1, expected at most the 0 GPUs"):
        pipeline(again(config, gpus_per_task=1.0))

    assert jobs.ran == [] and state(config, "night") == "absent"


def test_finished_pipeline_reports_stages_that_have_finished_since(jobs: Pretence, config: PipelineConfig) -> None:
    before = again(config, stages="tune")
    run = pipeline(before)
    for stage in plan(config, "night")[:2]:
        jobs.run(stage.job, stage.config)
    jobs.ran.clear()

    pipeline(config)

    assert jobs.ran == []
    finished = {one["name"] for one in run.get_json("metrics.json")["stages"] if one["status"] == "finished"}
    assert finished == {"train-lenet5", "train-lenet5-1998", "tune-notebook", "tune-extended"}


def test_command_adds_stages_to_a_finished_pipeline(
    jobs: Pretence, config: PipelineConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(JOBS, "pipeline", replace(JOBS["pipeline"], driver=pipeline))
    command = ["pipeline", "--data", config.data, "--artifacts", config.artifacts, "--run-id", "night", "--stages"]
    pipeline(config)

    assert cli.main([*command, "train,crossval"]) == 0
    assert jobs.ran == ["train-lenet5", "train-lenet5-1998", "crossval-lenet5"]
    assert cli.main([*command, "train"]) == 2
    assert "finished already" in capsys.readouterr().err


def test_stages_run_one_after_the_other_on_the_pipelines_ray(jobs: Pretence, config: PipelineConfig) -> None:
    pipeline(again(config, stages="all", backbone="vgg16", weights="none"))

    assert jobs.ran == [
        *("train-lenet5", "train-lenet5-1998", "tune-notebook", "tune-extended", "crossval-lenet5"),
        *("transfer-vgg16-notebook", "transfer-vgg16-sound"),
    ]
    assert jobs.resources == [LAPTOP] * 7


def test_pipeline_of_version_0_1_0_with_side_by_side_resumes(
    jobs: Pretence, config: PipelineConfig, tmp_path: Path
) -> None:
    jobs.errors["train-lenet5"] = TrainingError("killed")
    with pytest.raises(TrainingError):
        pipeline(config)
    run = RunFolder(FolderStore(Path(config.artifacts)), "night")
    settings = run.get_bytes("config.yaml") + b"side_by_side: auto\n"
    run.put_bytes("config.yaml", settings)
    (tmp_path / "old.yaml").write_bytes(settings)
    jobs.errors.clear()

    from_file = parse_config(PipelineConfig, "fmnist pipeline", ["--config", str(tmp_path / "old.yaml")])

    assert from_file == replace(config, gpus_per_worker=0.0, gpus_per_task=0.0)
    pipeline(from_file)
    assert jobs.ran == ["train-lenet5", "train-lenet5-1998", "train-lenet5"]
    assert b"side_by_side" not in run.get_bytes("config.yaml")
