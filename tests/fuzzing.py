"""How many examples a property test tries: few and always the same in `make test`, many new ones in `make fuzz`."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings

TESTED = 100  # What a property test tries that does not say otherwise; `make fuzz` tries a hundred times as many.


def register_profiles() -> None:
    """Makes the profile `fmnist` the current one, and `fuzz` known to pytest's ``--hypothesis-profile``."""
    # How long an example takes depends on the machine's load. Each example overwrites the files of the one before.
    unchecked = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    shared: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": unchecked}
    settings.register_profile("fmnist", max_examples=TESTED, derandomize=True, **shared)
    settings.register_profile("fuzz", max_examples=100 * TESTED, derandomize=False, print_blob=True, **shared)
    settings.load_profile("fmnist")


def examples(count: int, **more: Any) -> settings:
    """Returns the settings of a property test that tries ``count`` examples in `make test`.

    Args:
        count: of examples; in `make fuzz` a hundred times as many.
        more: other settings of hypothesis.
    """
    return settings(max_examples=count * settings.default.max_examples // TESTED, **more)
