"""Access to a Ray cluster: a local one's token, and what is wrong with a RAY_ADDRESS."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import ray
from ray._private import services
from ray._private.authentication.authentication_token_setup import (
    AuthenticationTokenLoader,
    Config,
    maybe_enable_token_auth_if_token_available,
)
from ray._private.gcs_utils import create_gcs_channel
from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

from fmnist.errors import UserError

ANSWER_SECONDS = 10

HOW_TO_GIVE_A_TOKEN = "RAY_AUTH_MODE=token, and the token in RAY_AUTH_TOKEN, or its file's path in RAY_AUTH_TOKEN_PATH"


@contextmanager
def own_token() -> Iterator[None]:
    """Gives the local cluster that is started in the block a token of its own.

    The token is in the environment of the cluster's processes only, so nothing of it is left however they end. Where
    Ray finds no token, it writes one to ``~/.ray/auth_token``, and from then on each cluster of that user wants it.
    """
    names = ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update({"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_AUTH_MODE": "token"})
    # Ray keeps the first token and the mode that this process has used.
    AuthenticationTokenLoader.instance().reset_cache()
    Config.initialize("")
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
        AuthenticationTokenLoader.instance().reset_cache()
        Config.initialize("")


def check_address(address: str) -> None:
    """Asks the cluster at an address for its id, as Ray does first, but only once: Ray tries for 20 s to minutes.

    Args:
        address: what RAY_ADDRESS says, not empty.

    Raises:
        UserError: if the address is not a head's, no cluster answers there within `ANSWER_SECONDS`, or it wants
            another token.
    """
    head = _address_of_head(address)
    if address == "auto":
        # As ray.init does for a cluster that it finds by itself.
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    channel = create_gcs_channel(head)
    try:
        NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=ANSWER_SECONDS)
    except ray.exceptions.AuthenticationError as error:
        # RAY_AUTH_MODE=token, and there is none to send.
        found = error.message if error.message.startswith("RAY_AUTH_TOKEN_PATH") else "no token found"
        raise UserError(f"RAY_ADDRESS={address}: {found}, expected {HOW_TO_GIVE_A_TOKEN}") from error
    except grpc.RpcError as error:
        raise UserError(f"RAY_ADDRESS={address}: {_refusal(error)}") from error
    finally:
        channel.close()


def _address_of_head(address: str) -> str:
    try:
        if "://" in address:
            raise ValueError(address)
        head: str = services.canonicalize_bootstrap_address(address)
        services.extract_ip_port(head)
    except ConnectionError as error:
        raise UserError(f"RAY_ADDRESS={address}: no Ray cluster runs on this machine") from error
    except ValueError as error:
        raise UserError(
            f"RAY_ADDRESS: found {address!r}, expected the head's HOST:PORT, such as host:6379; "
            "http:// addresses are for `ray job submit --address`"
        ) from error
    return head


def _refusal(error: grpc.RpcError) -> str:
    if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
        # Of "failed to connect to all addresses; last error: UNKNOWN: …: Connection refused", the end.
        reason = error.details().splitlines()[0].rpartition(": ")[2].strip("[]")
        return f"no Ray cluster answers there ({reason}), expected the HOST:PORT that `ray start --head` has printed"
    if AuthenticationTokenLoader.instance().has_token():
        return "the cluster wants another token than that of RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
    return f"the cluster wants a token, expected {HOW_TO_GIVE_A_TOKEN}"
