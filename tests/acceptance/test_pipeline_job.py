"""The whole study as its users start it: interrupted, resumed, and skipped once it has finished."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmnist import cli
from fmnist.runs import RunFolder
from fmnist.storage import FolderStore
from jobs import Job, command, fmnist, leaving_ray

pytestmark = pytest.mark.usefixtures("ray_cluster")

FILES = {"config.yaml", "environment.json", "data.json", "metrics.json", "plots", "report.html", "report.md", "logs"}
TRAININGS = ("train-lenet5", "train-lenet5-1998")
TRANSFERS = ("transfer-vgg16-notebook", "transfer-vgg16-sound")
STAGES = (*TRAININGS, "crossval-lenet5")
# The profile leaves out ResNet152V2. The other stages take longer and have tests of their own.
ALL = ("--stages", "train,crossval,transfer-resnet152v2-sound")


class Pipeline:
    """A pipeline over few images: interrupted when a training has ended, and resumed with more stages."""

    def __init__(self, data: Path, artifacts: Path) -> None:
        self.store = FolderStore(artifacts)
        self.settings = ["--profile", "smoke", "--data", str(data), "--artifacts", str(artifacts), "--run-id", "night"]
        with Job(sys.executable, "jobs/pipeline.py", *self.settings, "--stages", "train") as job:
            job.wait_for("^stage train-lenet5-1998: ")
            job.process.send_signal(signal.SIGINT)
            self.interrupted = job.wait()
        self.first = job.lines
        self.status_then = self.run().state()
        self.trained_at = self.run("train-lenet5").get_json("metrics.json")["finished"]
        with leaving_ray("pipeline", *self.settings, *ALL) as job:
            assert job.wait() == 0, job.output
        self.second = job.lines

    def run(self, stage: str = "") -> RunFolder:
        return RunFolder(self.store, f"night-{stage}" if stage else "night")


def begun(lines: list[str]) -> list[str]:
    """Returns the names of the stages that a pipeline has started, in order."""
    return [match[1] for line in lines if (match := re.match(r"stage ([\w-]+): ", line))]


@pytest.fixture(scope="module")
def pipeline(ray_cluster: str, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    return Pipeline(tiny_data, tmp_path_factory.mktemp("artifacts"))


def test_every_stage_is_a_finished_run_of_its_own(pipeline: Pipeline) -> None:
    for stage in STAGES:
        assert pipeline.run(stage).verify() == [], stage
        assert pipeline.run(stage).get_json("metrics.json")["job"] == stage.split("-")[0]


def test_control_c_ends_a_stage_with_a_line(pipeline: Pipeline) -> None:
    assert pipeline.interrupted == 130
    assert pipeline.first[-1] == "fmnist: interrupted"
    assert not any("Traceback" in line for line in pipeline.first), pipeline.first


def test_interrupted_pipeline_resumes_without_what_had_finished(pipeline: Pipeline) -> None:
    assert pipeline.status_then == "unfinished"
    assert any("night-train-lenet5 in" in line and "finished already" in line for line in pipeline.second)
    assert pipeline.run("train-lenet5").get_json("metrics.json")["finished"] == pipeline.trained_at
    assert begun(pipeline.second) == ["train-lenet5-1998", "crossval-lenet5"]


def test_report_has_every_stage_and_its_links_lead_somewhere(pipeline: Pipeline) -> None:
    run = pipeline.run()
    page, text = run.get_bytes("report.html").decode(), run.get_bytes("report.md").decode()

    assert run.verify() == []
    assert {path.split("/")[0] for path in run.files()} == FILES | {"manifest.json"}
    links = set(re.findall(r'href="\.\./([\w.-]+/report\.html)"', page))
    assert links == {f"night-{stage}/report.html" for stage in STAGES}
    assert all(pipeline.store.exists(link) for link in links)
    for stage in STAGES:
        assert f"night-{stage}" in text
    assert {one["name"] for one in run.get_json("metrics.json")["stages"] if one["status"] == "finished"} == set(STAGES)


def test_stage_that_was_left_out_says_by_which_setting(pipeline: Pipeline) -> None:
    stages = {one["name"]: one for one in pipeline.run().get_json("metrics.json")["stages"]}

    assert stages["transfer-resnet152v2-sound"]["status"] == stages["tune-notebook"]["status"] == "left out"
    assert stages["transfer-resnet152v2-sound"]["reason"] == "--profile smoke"
    assert stages["tune-notebook"]["reason"] == f"--stages {ALL[1]}"


def test_list_and_show_know_the_pipeline_and_its_stages(pipeline: Pipeline) -> None:
    store = ["--artifacts", pipeline.store.location]
    listed = command("runs", "list", *store).stdout
    shown = command("runs", "show", "night", *store).stdout

    assert re.search(r"^night\tpipeline\tfinished\t-", listed, re.MULTILINE), listed
    assert "name crossval-lenet5, job crossval, run_id night-crossval-lenet5, status finished," in shown
    assert re.search(r"name transfer-resnet152v2-sound, .*, status left out, reason --profile smoke", shown), shown


def test_finished_pipeline_is_refused_or_skipped(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pipeline", *pipeline.settings, *ALL]) == 2
    assert "finished already" in capsys.readouterr().err
    assert cli.main(["pipeline", *pipeline.settings, *ALL, "--skip-finished"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_wrong_weights_are_found_before_anything_is_trained(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--profile", "smoke", "--data", str(tiny_data), "--artifacts", str(tmp_path), "--run-id", "night"]
    code = cli.main(["pipeline", *settings, "--weights", str(tmp_path / "none.weights.h5")])

    error = capsys.readouterr().err
    assert code == 2, error
    assert "none.weights.h5" in error and len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_transfer_stages_are_added_and_linked(pipeline: Pipeline) -> None:
    with fmnist("pipeline", *pipeline.settings, "--stages", "train,crossval,transfer") as job:
        assert job.wait() == 0, job.output

    assert begun(job.lines) == list(TRANSFERS)
    page = pipeline.run().get_bytes("report.html").decode()
    for stage in TRANSFERS:
        assert pipeline.run(stage).verify() == [], stage
        assert f'href="../night-{stage}/report.html"' in page
