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
from urllib.parse import urlsplit

from fmnist.boundary import say
from fmnist.errors import StoreError, one_line
from fmnist.waiting import Wait

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The waits of eighty attempts add up to between three and six minutes, which outlasts the move of an S3 pod to another
# node. Two quick attempts find a wrong address within ten seconds.
PATIENT_ATTEMPTS = 80
QUICK_ATTEMPTS = 2
_SHORTEST_WAIT, _LONGEST_WAIT = 0.2, 5.0
_TRANSIENT_STATUS = {429, 500, 502, 503, 504}
_TRANSIENT_CODES = {"RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete", "SlowDown"}


def endpoint_url() -> str | None:
    """Returns the address of the S3 server that the environment names, or None for AWS."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def server_name() -> str:
    """Returns the server's host and port for messages, without the password that its address might carry."""
    return urlsplit(endpoint_url() or "").netloc.rpartition("@")[2] or "AWS"


@lru_cache
def client(attempts: int = PATIENT_ATTEMPTS) -> S3Client:
    """Returns this process' S3 client, shared by all threads.

    Args:
        attempts: number of tries before an error is raised: ``PATIENT_ATTEMPTS`` or ``QUICK_ATTEMPTS``.

    Raises:
        StoreError: if ``AWS_ENDPOINT_URL`` is set to something else than an address, or AWS' own files are wrong.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    endpoint = endpoint_url()
    wrong_endpoint = "AWS_ENDPOINT_URL: not an address, expected http://host:port or https://host:port"
    if endpoint and not endpoint.lower().startswith(("http://", "https://")):
        raise StoreError(wrong_endpoint)
    patient = attempts > QUICK_ATTEMPTS
    try:
        session = boto3.session.Session()
        created = session.client(
            "s3",
            # boto3 knows AWS_DEFAULT_REGION and the files of AWS, but not AWS_REGION. Servers other than AWS want any.
            region_name=os.environ.get("AWS_REGION") or session.region_name or "us-east-1",
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 1},
                connect_timeout=5 if patient else 2,
                read_timeout=10 if patient else 3.5,
                # Servers other than AWS rarely serve bucket names as host names.
                s3={"addressing_style": "path"} if endpoint else {},
            ),
        )
    except BotoCoreError as error:
        raise StoreError(f"settings of AWS: {one_line(error)}") from error
    except ValueError:
        # Not chained: it quotes the address, which may carry a password.
        raise StoreError(wrong_endpoint) from None

    # botocore's own retries do not outlast a restart: their waits begin at 50 ms, and all threads of the process share
    # a quota of 35, which four parts of one upload use up in seconds.
    def wait_before_retry(**event: Any) -> Any:
        if event["attempts"] < attempts and _is_transient(event["response"], event["caught_exception"]):
            _wait_of(event["request_dict"]["context"]).look()
            longest = min(_SHORTEST_WAIT * 2 ** (event["attempts"] - 1), _LONGEST_WAIT)
            return random.uniform(longest / 2, longest)
        return None

    def begin_wait(**event: Any) -> None:
        _wait_of(event["request"].context)

    created.meta.events.register("request-created.s3", begin_wait)
    created.meta.events.register_last("needs-retry.s3", wait_before_retry)
    return created


def _wait_of(request: dict[str, Any]) -> Wait:
    """Returns the wait for the server's answer to a request, whose attempts share this dictionary."""
    wait: Wait = request.setdefault("fmnist_wait", Wait(say, lambda: f"the S3 server at {server_name()} to answer"))
    return wait


def _is_transient(response: tuple[Any, dict[str, Any]] | None, exception: Exception | None) -> bool:
    from botocore.exceptions import ConnectionError as BotoConnectionError
    from botocore.exceptions import HTTPClientError, ProxyConnectionError, SSLError

    if response is not None:
        http, parsed = response
        return http.status_code in _TRANSIENT_STATUS or parsed.get("Error", {}).get("Code") in _TRANSIENT_CODES
    return isinstance(exception, (BotoConnectionError, HTTPClientError)) and not isinstance(
        exception, (SSLError, ProxyConnectionError)
    )
