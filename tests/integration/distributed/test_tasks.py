"""A pool of tasks on a real Ray: results as they end, a limit, retries of killed processes, and errors for people."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from fmnist.distributed import cluster, tasks
from fmnist.distributed.events import listen, open_events
from fmnist.distributed.tasks import TaskPool
from fmnist.errors import DataError, TrainingError


@pytest.fixture(scope="module", autouse=True)
def joined(ray_cluster: str) -> Iterator[None]:
    with cluster.connected():
        yield


def pool(notes: list[str], **more: object) -> TaskPool:
    return TaskPool(**({"kind": "shard", "cpus": 0.5, "gpus": 0, "retries": 0, "note": notes.append} | more))  # type: ignore[arg-type]


def name(key: int) -> str:
    return f"shard {key}"


def square(number: int) -> int:
    return number * number


def overlap(folder: Path, number: int) -> int:
    """How many tasks run at once while this one does."""
    mark = folder / str(number)
    mark.touch()
    time.sleep(0.3)
    running = len(list(folder.iterdir()))
    mark.unlink()
    return running


def import_path() -> tuple[list[str], list[str]]:
    """The import path of a process that has imported fmnist, and the driver's own folders."""
    import fmnist  # noqa: F401

    return sys.path, list(ray._private.worker.global_worker.core_worker.get_job_config().py_driver_sys_path)


def killed_at_first(folder: Path, number: int) -> int:
    """Its process is killed in the first attempt for an odd number."""
    attempts = folder / f"attempts-{number}"
    with attempts.open("a") as file:
        file.write("x")
    if number % 2 and len(attempts.read_text()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(attempts.read_text())


def diverge(number: int) -> int:
    if number == 2:
        raise TrainingError("epoch 1, step 3 of 9: the loss is nan")
    return number


def refuse(number: int) -> int:
    if number == 2:
        raise DataError("images.csv: found 3 columns, expected 785")
    return number


def divide(number: int) -> float:
    return 1 / number


def wait_for(file: Path, begun: Path | None = None) -> int:
    if begun:
        begun.touch()
    while not file.exists():
        time.sleep(0.05)
    return 1


def test_every_result_comes_with_its_key() -> None:
    found = dict(pool([]).run(square, ((number, (number,)) for number in range(8)), name))

    assert found == {number: number * number for number in range(8)}
    assert list(pool([]).run(square, [], name)) == []


def test_no_more_calls_are_taken_than_the_limit_allows(tmp_path: Path) -> None:
    taken: list[int] = []

    def calls() -> Iterator[tuple[int, tuple[Path, int]]]:
        for number in range(5):
            taken.append(number)
            yield number, (tmp_path, number)

    results = pool([], cpus=0.1, limit=2).run(overlap, calls(), name)
    next(results)
    assert len(taken) == 2
    assert max(most for _, most in results) <= 2
    assert len(taken) == 5


def test_killed_process_is_retried(tmp_path: Path) -> None:
    calls = ((number, (tmp_path, number)) for number in range(4))

    assert dict(pool([], retries=1).run(killed_at_first, calls, name)) == {0: 1, 1: 2, 2: 1, 3: 2}


def test_lost_task_costs_no_other_task(tmp_path: Path) -> None:
    lost: dict[int, str] = {}
    calls = ((number, (tmp_path, number)) for number in range(4))

    assert dict(pool([]).run(killed_at_first, calls, name, lost.__setitem__)) == {0: 1, 2: 1}
    assert set(lost) == {1, 3}
    assert not any("\n" in reason for reason in lost.values())


def test_training_that_cannot_go_on_costs_no_other_task() -> None:
    lost: dict[int, str] = {}
    calls = ((number, (number,)) for number in range(4))

    assert dict(pool([], retries=3).run(diverge, calls, name, lost.__setitem__)) == {0: 0, 1: 1, 3: 3}
    assert lost == {2: "epoch 1, step 3 of 9: the loss is nan"}


def test_lost_task_is_an_error_where_nobody_collects_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^shard 1: .*the same command with this --run-id") as error:
        list(pool([]).run(killed_at_first, [(1, (tmp_path, 1))], name))

    assert "\n" not in str(error.value)


def test_error_for_people_names_the_task() -> None:
    with pytest.raises(TrainingError, match=r"^shard 2: images\.csv: found 3 columns, expected 785$") as error:
        list(pool([], retries=3).run(refuse, ((number, (number,)) for number in range(3)), name))

    assert isinstance(error.value.__cause__, DataError)


def test_unexpected_error_keeps_its_type_and_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match="in divide"):
        list(pool([], retries=3).run(divide, [(0, (0,))], name))


def test_tasks_without_room_are_told_again_and_again_with_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmnist.waiting.FIRST_SECONDS", 1)
    monkeypatch.setattr("fmnist.waiting.NEXT_SECONDS", 1)
    notes: list[str] = []
    room, taken = tmp_path / "room", tmp_path / "taken"
    all_cpus = ray.remote(num_cpus=2)(wait_for).remote(room, taken)
    while not taken.exists():
        time.sleep(0.05)
    timer = threading.Thread(target=_touch_when, args=(notes, room))
    timer.start()
    queued = pool(notes, kind="fold", cpus=1, has_begun=lambda: False)
    assert dict(queued.run(square, [(3, (3,))], name)) == {3: 9}
    timer.join()
    assert ray.get(all_cpus) == 1

    assert notes[0].startswith("still waiting after ")
    assert notes[0].endswith(": 1 fold of 1 CPU to start; 0 of 2 CPUs free")
    assert notes[0] != notes[1]


def test_tasks_that_have_begun_are_not_called_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmnist.waiting.FIRST_SECONDS", 1)
    monkeypatch.setattr("fmnist.waiting.NEXT_SECONDS", 1)
    notes: list[str] = []
    end = tmp_path / "end"
    timer = threading.Timer(4, end.touch)
    timer.start()
    assert dict(pool(notes, has_begun=lambda: True).run(wait_for, [(1, (end,))], name)) == {1: 1}
    timer.join()
    assert notes == []


def test_slow_tasks_are_told_where_nobody_knows_whether_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "SLOW_SECONDS", 1)
    monkeypatch.setattr("fmnist.waiting.NEXT_SECONDS", 1)
    notes: list[str] = []
    end = tmp_path / "end"
    timer = threading.Thread(target=_touch_when, args=(notes, end))
    timer.start()
    assert dict(pool(notes).run(wait_for, [(1, (end,))], name)) == {1: 1}
    timer.join()
    assert "no shard has ended meanwhile" in notes[0] and notes[0] != notes[1]


def _touch_when(notes: list[str], file: Path) -> None:
    """Makes the file when there are two notes, or after two minutes."""
    deadline = time.monotonic() + 120
    while len(notes) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    file.touch()


def test_events_that_are_gone_with_their_node_are_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    events = open_events()
    with listen(events, print):
        ray.kill(events.actor)
        [listener] = [thread for thread in threading.enumerate() if thread.name == "progress"]
        listener.join(60)

    assert capsys.readouterr().err == "Ray's processes on this machine have ended; the same command resumes the run\n"


def test_drivers_folders_come_last_in_what_a_task_imports_from() -> None:
    [(_, (path, drivers))] = pool([]).run(import_path, [(0, ())], name)

    own = [folder in drivers for folder in path]
    assert any(own) and not all(own) and own == sorted(own), (path, drivers)
