"""A shell script on a machine of its own: no other processes or ports, no network, and an S3 server.

The machine is a set of Linux namespaces; whatever the script starts ends with it, `ray start` included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from s3_server import S3Server

_UNSHARE = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
# Bash is the machine's first process, for it waits for those that lose their parents. Ray takes the address that a
# packet to the internet would have; without a route it guesses by the host's name.
_BOOT = (
    "ip link set lo up && ip address add 10.0.0.1/32 dev lo && ip route add default dev lo src 10.0.0.1 "
    '&& "$@"; exit $?'
)


def why_not() -> str:
    """Returns why this system cannot have one; empty where it can."""
    if missing := [name for name in ("unshare", "ip", "bash") if not shutil.which(name)]:
        return f"no {', '.join(missing)} here"
    tried = subprocess.run([*_UNSHARE, "bash", "-c", _BOOT, "-", "true"], capture_output=True, text=True, timeout=60)
    return "" if tried.returncode == 0 else f"no namespaces for this user: {tried.stderr.strip()}"


def run(
    script: str, folder: Path, environment: dict[str, str], buckets: set[str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Runs a Bash script in a folder.

    Args:
        script: its text.
        folder: where it begins.
        environment: all its variables; those that lead to the S3 server are added.
        buckets: the S3 server's, empty ones.
        timeout: seconds, after which the machine is gone and the test fails.

    Returns:
        Exit code, and both outputs in one.
    """
    # Ray's sockets lie in it, and a socket's path has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="own-", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        file = Path(temporary, "script")
        file.write_text(script)
        inside = [sys.executable, __file__, str(file), temporary, *sorted(buckets)]
        return subprocess.run(
            [*_UNSHARE, "bash", "-c", _BOOT, "-", *inside],
            cwd=folder,
            env={**environment, "RAY_TMPDIR": temporary},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )


def _main(script: str, temporary: str, *buckets: str) -> int:
    server = S3Server(Path(temporary, "s3"))
    server.start()
    for bucket in buckets:
        server.client().create_bucket(Bucket=bucket)
    return subprocess.run(["bash", script], env={**os.environ, **server.environment()}).returncode


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
