"""Times as people read them: what something took, and about how long the rest may take."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Writes a time that was measured as ``41 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    minutes, second = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {second:02d} s" if minutes else f"{second} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rounded(seconds: float) -> str:
    """Writes a time that is an estimate as ``45 s``, ``12 min`` or ``2 h 10 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
