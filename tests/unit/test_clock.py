"""The time of a process, whatever becomes of the system's clock."""

from __future__ import annotations

import time

import pytest

from fmnist import clock


def test_clock_that_is_set_back_takes_no_second_away(monkeypatch: pytest.MonkeyPatch) -> None:
    began = clock.now()
    assert abs(began - time.time()) < 3600
    monkeypatch.setattr(time, "time", lambda: began - 86_400)

    assert began <= clock.now() < began + 3600
