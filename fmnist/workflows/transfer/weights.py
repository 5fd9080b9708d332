"""Obtaining pretrained weights, and staging them for clusters without internet. Imports no Keras."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from fmnist.data import default_cache
from fmnist.errors import UserError
from fmnist.files import local_path, sha256_of
from fmnist.storage import S3Store, open_store
from fmnist.workflows.transfer.recipes import FACTS
from fmnist.workflows.transfer.records import WeightsRecord

# Keras' legacy format, in which the ImageNet weights are published, and Keras 3's.
SUFFIX, KERAS3_SUFFIX = ".h5", ".weights.h5"

# Of a connection: a firewall that drops packets would block the download for ever.
_TIMEOUT_SECONDS = 20.0

Note = Callable[[str], None]


@dataclass(frozen=True)
class WeightsFile:
    """A backbone's weights on this machine."""

    path: Path
    record: WeightsRecord


def obtain_weights(location: str, backbone: str, note: Note, cache: Path | None = None) -> WeightsFile | None:
    """Returns a backbone's weights as a local file, downloaded if necessary.

    Args:
        location: one of
            ``none``;
            ``imagenet``: the file in Keras' cache, downloaded if it is not there;
            a file ``….h5`` or ``….weights.h5``;
            a folder with a file named after the backbone, or as Keras names the published one;
            ``s3://bucket/….h5``, or ``s3://bucket/prefix`` of such a folder.
        backbone: a key of ``FACTS``.
        note: called with a line of text before a download.
        cache: folder for downloads from S3; that of the data if None.

    Returns:
        The file, or None for ``none``. Its content is not checked here.

    Raises:
        UserError: if there are no such weights, or they cannot be read.
    """
    if location == "none":
        return None
    if location == "imagenet":
        path = _published(backbone, note)
    elif location.lower().startswith("s3://"):
        path = _from_s3(location, backbone, note, cache or default_cache())
    else:
        path = _local(location, backbone)
    try:
        published = _md5(path) == FACTS[backbone].keras_md5
        return WeightsFile(path, WeightsRecord(location, sha256_of(path), published))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def stage_weights(backbone: str, source: str, destination: str, note: Note) -> tuple[WeightsFile, str]:
    """Copies a backbone's weights to a folder or ``s3://bucket/prefix``, for jobs on a cluster without internet.

    The file is named after the backbone and keeps its bytes, so that published weights are still known as such.
    ``source`` and ``note`` are as in `obtain_weights`, except ``none``.

    Returns:
        The staged weights, and their new path or address.

    Raises:
        UserError: if there are no such weights, or the destination cannot be written.
    """
    store = open_store(destination)
    # Before a download of some hundred megabytes.
    store.check()
    weights = obtain_weights(source, backbone, note)
    if weights is None:
        raise UserError(f"weights: found {source}, expected imagenet, or a file, a folder or an s3:// address")
    name = backbone + (KERAS3_SUFFIX if weights.path.name.endswith(KERAS3_SUFFIX) else SUFFIX)
    store.put_file(weights.path, name)
    return weights, f"{store.location}/{name}"


def _local(location: str, backbone: str) -> Path:
    path = local_path(location)
    if path.is_dir():
        try:
            return path / _choose([entry.name for entry in path.iterdir()], backbone, location)
        except OSError as error:
            raise UserError(f"{location}: cannot be read: {error.strerror}") from error
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
    # A guess could take the older one, which the other was to replace.
    if len(found) > 1:
        raise UserError(f"{folder}: found {' and '.join(found)}, expected one file of weights of {backbone}")
    return found[0]


def _published(backbone: str, note: Note) -> Path:
    facts, folder = FACTS[backbone], _keras_home() / "models"
    path = folder / facts.keras_file
    with contextlib.suppress(OSError):
        if _md5(path) == facts.keras_md5:
            return path
    note(f"downloading {facts.keras_url}{facts.keras_file}")
    # Imported here: requests is for those who download.
    import pooch

    registry = {facts.keras_file: f"md5:{facts.keras_md5}"}
    keras = pooch.create(folder, facts.keras_url, registry=registry, retry_if_failed=2)
    pooch.get_logger().setLevel("ERROR")
    try:
        return Path(keras.fetch(facts.keras_file, downloader=pooch.HTTPDownloader(timeout=_TIMEOUT_SECONDS)))
    # OSError: also requests' errors. ValueError: another checksum.
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"weights: the published ImageNet weights of {backbone} are neither at {path} nor to be downloaded "
            f"({reason}): give --weights FILE.h5 or s3://…, staged by `fmnist weights fetch` where there is a network, "
            "or --weights none"
        ) from error


def _keras_home() -> Path:
    """Returns Keras' folder, found as Keras does."""
    if "KERAS_HOME" in os.environ:
        return Path(os.environ["KERAS_HOME"]).expanduser()
    home = Path("~").expanduser()
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"


def _from_s3(url: str, backbone: str, note: Note, cache: Path) -> Path:
    folder, _, name = url.rpartition("/") if url.endswith(SUFFIX) else (url, "", "")
    store = S3Store.at(folder)
    versions = store.versions()
    if not name:
        name = _choose(versions, backbone, url)
    elif name not in versions:
        raise UserError(f"{url}: no such file, expected weights of {backbone}")
    # A folder for each version: an object that changed in the bucket is never read from the cache.
    version = hashlib.sha256(f"{store.location}/{name}\n{versions[name]}".encode()).hexdigest()[:16]
    path = cache.expanduser() / "weights" / version / name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            note(f"{cache}: cannot be written ({error.strerror}): weights are not kept; FMNIST_CACHE names a folder")
            path = Path(tempfile.mkdtemp(prefix="fmnist-"), name)
            atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
        note(f"downloading {store.location}/{name}")
        store.get_file(name, path)
    return path


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
