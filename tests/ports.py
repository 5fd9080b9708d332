"""Ports for servers that must be told theirs before they start."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

# Below the ports that the kernel gives to outgoing connections, which would take one while its server is down.
PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Returns ports of 127.0.0.1 that nothing uses; another process may still take one first, so try again then."""
    with ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            listener = stack.enter_context(socket.socket())
            try:
                # Not the seeded generator that property tests and other test processes share.
                listener.bind(("127.0.0.1", random.SystemRandom().choice(PORTS)))
            except OSError:
                continue
            found.append(listener.getsockname()[1])
        return found
