"""Access to S3: the client's settings, and ``s3://`` addresses.

Credentials, endpoint and region come from the environment as everywhere (``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``, ``AWS_REGION``), from AWS' files, or from a pod's role. They are never
taken from an address, so they cannot end in a config file, a log or an artifact.
"""

from __future__ import annotations

import os
import random
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fmnist.errors import StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The waits of thirty attempts add up to between one and two minutes, which outlasts the restart of an S3 pod. Two quick
# attempts find a wrong address within ten seconds.
PATIENT_ATTEMPTS = 30
QUICK_ATTEMPTS = 2
_SHORTEST_WAIT, _LONGEST_WAIT = 0.2, 5.0
_TRANSIENT_STATUS = {429, 500, 502, 503, 504}
_TRANSIENT_CODES = {"RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete", "SlowDown"}


def endpoint_url() -> str | None:
    """Returns the address of the S3 server that the environment names, or None for AWS."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


@lru_cache
def client(attempts: int = PATIENT_ATTEMPTS) -> S3Client:
    """Returns this process' S3 client, shared by all threads.

    Args:
        attempts: number of tries before an error is raised: ``PATIENT_ATTEMPTS`` or ``QUICK_ATTEMPTS``.

    Raises:
        StoreError: if ``AWS_ENDPOINT_URL`` is set to something else than an address.
    """
    import boto3
    from botocore.config import Config

    endpoint = endpoint_url()
    if endpoint and "://" not in endpoint:
        raise StoreError("AWS_ENDPOINT_URL: not an address, expected http://host:port or https://host:port")
    patient = attempts > QUICK_ATTEMPTS
    created = boto3.session.Session().client(
        "s3",
        region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=5 if patient else 2,
            read_timeout=30 if patient else 3.5,
            # Servers other than AWS rarely serve bucket names as host names.
            s3={"addressing_style": "path"} if endpoint else {},
            request_checksum_calculation="when_supported",
        ),
    )

    # botocore's own retries do not outlast a restart: their waits begin at 50 ms, and all threads of the process share
    # a quota of 35, which four parts of one upload use up in seconds.
    def wait_before_retry(**event: Any) -> Any:
        if event["attempts"] < attempts and _is_transient(event["response"], event["caught_exception"]):
            longest = min(_SHORTEST_WAIT * 2 ** (event["attempts"] - 1), _LONGEST_WAIT)
            return random.uniform(longest / 2, longest)
        return None

    created.meta.events.register_last("needs-retry.s3", wait_before_retry)
    return created


def _is_transient(response: tuple[Any, dict[str, Any]] | None, exception: Exception | None) -> bool:
    from botocore.exceptions import ConnectionError as BotoConnectionError
    from botocore.exceptions import HTTPClientError, ProxyConnectionError, SSLError

    if response is not None:
        http, parsed = response
        return http.status_code in _TRANSIENT_STATUS or parsed.get("Error", {}).get("Code") in _TRANSIENT_CODES
    return isinstance(exception, (BotoConnectionError, HTTPClientError)) and not isinstance(
        exception, (SSLError, ProxyConnectionError)
    )
