"""Where a backbone's pretrained weights come from, and staging them for clusters without internet. Imports no Keras."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from fmnist.console import quiet_libraries
from fmnist.data import default_cache
from fmnist.errors import UserError
from fmnist.runs import sha256_of
from fmnist.storage import open_store, s3
from fmnist.workflows.transfer.recipes import FACTS

# Both formats: Keras' legacy one, in which the ImageNet weights are published, and Keras 3's.
SUFFIX, KERAS3_SUFFIX = ".h5", ".weights.h5"

# A firewall that swallows packets would hold Keras' download for ever.
_STALLED_SECONDS = 20.0


@dataclass(frozen=True)
class WeightsFile:
    """A backbone's weights on this machine.

    Attributes:
        source: what the user named.
        name: of the file.
        path: where it lies.
        sha256: of its content.
        published: whether it is the backbone's ImageNet weights, byte for byte as Keras publishes them.
    """

    source: str
    name: str
    path: Path
    sha256: str
    published: bool


def obtain_weights(
    location: str, backbone: str, note: Callable[[str], None], cache: Path | None = None
) -> WeightsFile | None:
    """Returns a backbone's weights as a local file, after downloading it if need be.

    Args:
        location: one of
            ``none``;
            ``imagenet``: the file in Keras' own cache, downloaded into it if it is not there;
            a file ``….h5`` or ``….weights.h5``;
            a folder that holds one named after the backbone, or as Keras names the published one;
            ``s3://bucket/….h5``, or an ``s3://bucket/prefix`` of such a folder.
        backbone: a key of ``FACTS``.
        note: called with a line of text before a download.
        cache: folder for what is fetched from S3; the data's if None.

    Returns:
        The file, or None for ``none``. That it fits the backbone is not looked at.

    Raises:
        UserError: if there are no such weights, or they cannot be fetched.
    """
    if location == "none":
        return None
    if location == "imagenet":
        path = _keras_download(backbone, note)
    elif location.lower().startswith("s3://"):
        path = _s3_download(location, backbone, note, cache or default_cache())
    else:
        path = _local(location, backbone)
    try:
        return WeightsFile(location, path.name, path, sha256_of(path), _md5(path) == FACTS[backbone].keras_md5)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def stage_weights(backbone: str, source: str, destination: str, note: Callable[[str], None]) -> tuple[WeightsFile, str]:
    """Puts a backbone's weights where jobs on a cluster without internet find them.

    The file is named after the backbone and keeps its bytes, so that published weights are still known as such.

    Args:
        backbone: a key of ``FACTS``.
        source: as `obtain_weights` takes it, but not ``none``.
        destination: a folder or ``s3://bucket/prefix``.
        note: called with a line of text before a download.

    Returns:
        What was staged, and the path or address that it has now.

    Raises:
        UserError: if there are no such weights, or the destination cannot be written.
    """
    store = open_store(destination)
    # Before a download of some hundred megabytes.
    store.check()
    weights = obtain_weights(source, backbone, note)
    if weights is None:
        raise UserError(f"weights: found {source}, expected imagenet, or a file, a folder or an s3:// address")
    name = backbone + (KERAS3_SUFFIX if weights.name.endswith(KERAS3_SUFFIX) else SUFFIX)
    store.put_file(weights.path, name)
    return weights, f"{store.location}/{name}"


def _local(location: str, backbone: str) -> Path:
    path = Path(location).expanduser()
    if path.is_dir():
        try:
            names = [entry.name for entry in path.iterdir()]
        except OSError as error:
            raise UserError(f"{location}: cannot be read: {error.strerror}") from error
        return path / _choose(names, backbone, location)
    if not location.endswith(SUFFIX):
        raise UserError(
            f"weights: {location} is neither a folder nor a file that ends in {SUFFIX}: "
            "expected one of these, an s3:// address of one, imagenet, or none"
        )
    if not path.is_file():
        raise UserError(f"{location}: no such file, expected weights of {backbone}")
    return path


def _choose(names: Collection[str], backbone: str, folder: str) -> str:
    wanted = [backbone + KERAS3_SUFFIX, backbone + SUFFIX, FACTS[backbone].keras_file]
    found = [name for name in wanted if name in names]
    if not found:
        raise UserError(f"{folder}: no weights of {backbone}, expected {', '.join(wanted[:-1])} or {wanted[-1]}")
    # Which of them is meant cannot be known; the older one may be what a later staging was to replace.
    if len(found) > 1:
        raise UserError(f"{folder}: found {' and '.join(found)}, expected one file of weights of {backbone}")
    return found[0]


def _keras_download(backbone: str, note: Callable[[str], None]) -> Path:
    facts = FACTS[backbone]
    home = _keras_home()
    cached = home / "models" / facts.keras_file
    with contextlib.suppress(OSError):
        if _md5(cached) == facts.keras_md5:
            return cached
    address = facts.keras_url + facts.keras_file
    note(f"downloading {address}")
    try:
        # Keras takes another folder if this one is not there.
        home.mkdir(parents=True, exist_ok=True)
        with quiet_libraries():
            import keras

        # Its bar would stand among what a command prints.
        with contextlib.redirect_stdout(io.StringIO()), _socket_timeout(_STALLED_SECONDS):
            got = keras.utils.get_file(
                origin=address, cache_dir=str(home), cache_subdir="models", file_hash=facts.keras_md5
            )
    # Keras raises plain Exceptions.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"weights: the published ImageNet weights of {backbone} are neither at {cached} nor to be downloaded "
            f"({reason}): give --weights FILE.h5 or s3://…, staged by `fmnist weights fetch` where there is a network, "
            "or --weights none"
        ) from error
    return Path(got)


def _keras_home() -> Path:
    """Returns Keras' own folder, found as Keras does."""
    configured = os.environ.get("KERAS_HOME")
    if configured is not None:
        return Path(configured).expanduser()
    home = Path("~").expanduser()
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _s3_download(url: str, backbone: str, note: Callable[[str], None], cache: Path) -> Path:
    bucket, key = s3.split_url(url)
    folder, _, name = key.rpartition("/") if key.endswith(SUFFIX) else (key, "", "")
    place = f"s3://{bucket}/{folder}".rstrip("/")
    versions = _versions(bucket, f"{folder}/" if folder else "", url)
    if not name:
        name = _choose(versions, backbone, url)
    elif name not in versions:
        raise UserError(f"{url}: no such file, expected weights of {backbone}")
    # A folder for each version: an object that changed in the bucket is never read from the cache.
    version = hashlib.sha256(f"{place}/{name}\n{versions[name]}".encode()).hexdigest()[:16]
    path = cache.expanduser() / "weights" / version / name
    if not path.exists():
        note(f"downloading {place}/{name}")
        open_store(place).get_file(name, path)
    return path


def _versions(bucket: str, prefix: str, url: str) -> dict[str, str]:
    # Imported here: boto3 is for those who use it.
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return s3.versions(bucket, prefix)
    except ClientError as error:
        raise UserError(f"{url}: cannot be read: {error.response['Error']['Code']}") from error
    except BotoCoreError as error:
        # Not its text: that quotes the endpoint, which may carry a password.
        raise UserError(f"{url}: cannot be read: {type(error).__name__}") from None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
