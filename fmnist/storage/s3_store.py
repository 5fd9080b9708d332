"""A store in a bucket of AWS S3, or of any server that speaks its protocol."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.errors import StoreError, redacted
from fmnist.storage import s3
from fmnist.storage.folder_store import complete_file, is_local
from fmnist.storage.store import (
    PART_SUFFIX,
    ConflictError,
    CredentialsError,
    Entry,
    MissingKeyError,
    NoConditionsError,
    Versioned,
    check_key,
)

if TYPE_CHECKING:
    from boto3.s3.transfer import TransferConfig

# Readable causes; every other code is shown as the server sent it.
_CAUSES = {
    "NoSuchBucket": "no such bucket",
    "AccessDenied": "access denied",
    "403": "access denied",
    "InvalidAccessKeyId": "access denied, the server does not know AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "access denied, AWS_SECRET_ACCESS_KEY is not the one of AWS_ACCESS_KEY_ID",
    "ExpiredToken": "access denied, the credentials have expired",
    "ExpiredTokenException": "access denied, the credentials have expired",
    "InvalidToken": "access denied, AWS_SESSION_TOKEN is not valid",
    "RequestTimeTooSkewed": "access denied, the clock of this machine is wrong",
    "AuthorizationHeaderMalformed": "access denied, AWS_REGION is not the bucket's region",
    "QuotaExceeded": "the bucket's quota is used up",
    "XMinioAdminBucketQuotaExceeded": "the bucket's quota is used up",
    "XMinioStorageFull": "the server's disk is full",
    "507": "the server's disk or the bucket's quota is full",
    "InvalidBucketName": "not a valid bucket name",
    "ParamValidationError": "not a valid bucket name",
    "NoCredentialsError": "no credentials, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "PartialCredentialsError": "half of the credentials, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "EndpointConnectionError": "cannot connect",
    "ConnectTimeoutError": "cannot connect within the time limit",
    "ReadTimeoutError": "no answer within the time limit",
    "ConnectionClosedError": "connection lost",
    "EndpointResolutionError": "AWS_ENDPOINT_URL is not an address such as http://host:port",
    "SSLError": "the server's certificate is not trusted (AWS_CA_BUNDLE names trusted ones)",
}

# Of these, those that every request with the same credentials meets.
_OF_CREDENTIALS = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "InvalidToken"),
    *("RequestTimeTooSkewed", "AuthorizationHeaderMalformed", "NoCredentialsError", "PartialCredentialsError"),
}

# What servers answer to a conditional write whose condition does not hold.
_CONFLICT = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409", "NoSuchKey", "404"}
# To what they do not know: conditional writes, the deletion of many objects, or its checksum.
_UNKNOWN = {
    *("NotImplemented", "501", "MethodNotAllowed", "405"),
    *("InvalidArgument", "InvalidRequest", "BadRequest", "MissingContentMD5", "400"),
}


_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
# Such as ?X-Amz-Signature=… of a signed address, and ?token=….
_QUERY = re.compile(r"[?&][^/?&=]+=")


@dataclass(frozen=True)
class S3Store:
    """Keeps each key under ``prefix/`` in a bucket. See ``Store`` for the methods.

    Has names only, so it can be sent to other processes: each process uses its own connection and credentials.
    Transient failures are retried for at least three minutes (``fmnist.storage.s3.client``). Uploads carry a CRC32 that
    the server compares with what it received.
    """

    bucket: str
    prefix: str = ""

    @classmethod
    def at(cls, url: str) -> S3Store:
        """Returns the store at ``s3://bucket/prefix``, where # and ? are part of a name; errors as `open_store`."""
        # Not quoted in errors: it may carry a password in a place where none belongs.
        bucket, _, path = url[len("s3://") :].partition("/")
        if "@" in bucket or (":" in bucket and "@" in path) or _QUERY.search(url):
            found = "s3:// address carries credentials or a query"
            raise StoreError(f"{found}: expected s3://bucket/prefix and AWS_ACCESS_KEY_ID")
        if not url.lower().startswith("s3://") or not _BUCKET.fullmatch(bucket):
            raise StoreError(f"{redacted(url)}: not an S3 address, expected s3://bucket/prefix")
        prefix = path.strip("/")
        return cls(bucket, check_key(prefix) if prefix else "")

    @property
    def location(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def check(self) -> None:
        # One name for all: credentials that may not delete leave one file behind, however often they are tried.
        probe = self._object("check") + PART_SUFFIX
        with self._failing("cannot be listed"):
            client = s3.client(s3.QUICK_ATTEMPTS)
            client.list_objects_v2(Bucket=self.bucket, Prefix=self._folder(""), MaxKeys=1)
        with self._failing("cannot be written"):
            client.put_object(Bucket=self.bucket, Key=probe, Body=b"")
        with self._failing("files cannot be deleted"):
            client.delete_object(Bucket=self.bucket, Key=probe)

    def put_file(self, local: Path, key: str) -> None:
        with self._failing("cannot be written", key):
            s3.client().upload_file(str(local), self.bucket, self._object(key), Config=_transfers())

    def put_bytes(self, key: str, data: bytes) -> None:
        with self._failing("cannot be written", key):
            s3.client().put_object(Bucket=self.bucket, Key=self._object(key), Body=data)

    def get_file(self, key: str, local: Path) -> None:
        with complete_file(local) as part, part.open("wb") as file, self._failing("cannot be read", key):
            s3.client().download_fileobj(self.bucket, self._object(key), file, Config=_transfers())

    def get_bytes(self, key: str) -> bytes:
        # Not get_object: a connection that breaks while the body is read is retried only by a managed transfer.
        content = io.BytesIO()
        with self._failing("cannot be read", key):
            s3.client().download_fileobj(self.bucket, self._object(key), content, Config=_transfers())
        return content.getvalue()

    def size(self, key: str) -> int | None:
        name = self._object(key)
        with self._failing("cannot be read", key):
            client = s3.client()
            try:
                return client.head_object(Bucket=self.bucket, Key=name)["ContentLength"]
            except client.exceptions.ClientError as error:
                if _code(error) == "404":
                    return None
                raise

    def exists(self, key: str) -> bool:
        return self.size(key) is not None

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        for page in self._pages(prefix):
            for item in page.get("Contents", []):
                key = item["Key"].removeprefix(self._folder(""))
                # Other tools mark folders by empty objects with a slash at the end.
                if not key.endswith(("/", PART_SUFFIX)):
                    yield Entry(key, item["Size"])

    def folders(self, prefix: str = "") -> list[str]:
        pages = self._pages(prefix, Delimiter="/")
        return sorted(item["Prefix"].split("/")[-2] for page in pages for item in page.get("CommonPrefixes", []))

    def get_version(self, key: str) -> Versioned | None:
        with self._failing("cannot be read", key):
            client = s3.client()
            try:
                answer = client.get_object(Bucket=self.bucket, Key=self._object(key))
            except client.exceptions.NoSuchKey:
                return None
            # Always of UTC; a proxy may have added a second one, which hides that.
            now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).replace(tzinfo=UTC)
            age = max(0.0, (now - answer["LastModified"]).total_seconds())
            return Versioned(answer["Body"].read(), answer["ETag"], age)

    def put_version(self, key: str, data: bytes, replaces: str | None) -> str:
        with self._failing("cannot be written", key):
            try:
                return self._put_if(key, data, replaces)
            except s3.client().exceptions.ClientError as error:
                code = _code(error)
                if code in _UNKNOWN:
                    raise NoConditionsError(f"{self.location}: this server has no conditional writes") from None
                if code not in _CONFLICT:
                    raise
        # An earlier try whose answer was lost may have been this one.
        found = self.get_version(key)
        if found is not None and found.content == data:
            return found.version
        raise ConflictError(f"{self.location}/{key}: another process was first to write it")

    def heeds_conditions(self, key: str) -> bool:
        with self._failing("cannot be written", key):
            try:
                self._put_if(key, self.get_bytes(key), None)
            except s3.client().exceptions.ClientError as error:
                if _code(error) in _CONFLICT:
                    return True
                raise
        return False

    def _put_if(self, key: str, data: bytes, replaces: str | None) -> str:
        condition: Any = {"IfNoneMatch": "*"} if replaces is None else {"IfMatch": replaces}
        return s3.client().put_object(Bucket=self.bucket, Key=self._object(key), Body=data, **condition)["ETag"]

    def why_not_removable(self, prefix: str) -> str | None:
        return None  # `check` has deleted a file

    def delete(self, key: str) -> None:
        with self._failing("cannot be deleted", key):
            s3.client().delete_object(Bucket=self.bucket, Key=self._object(key))

    def delete_folder(self, prefix: str) -> None:
        check_key(prefix)
        for page in self._pages(prefix):
            objects: list[Any] = [{"Key": item["Key"]} for item in page.get("Contents", [])]
            if not objects:
                continue
            with self._failing("cannot be deleted", prefix):
                errors = self._delete_all(objects)
            for error in errors:
                code = error.get("Code", "")
                raise StoreError(f"s3://{self.bucket}/{error.get('Key')}: cannot be deleted: {_CAUSES.get(code, code)}")
        client = s3.client()
        # Uploaded parts of a killed process are not listed, but are paid for.
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=self._folder(prefix))
        with self._failing("cannot be deleted", prefix), contextlib.suppress(client.exceptions.ClientError):
            for upload in (upload for page in pages for upload in page.get("Uploads", [])):
                client.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    def _delete_all(self, objects: list[Any]) -> list[Any]:
        """Deletes up to 1,000 objects; returns what the server says of those that it did not delete."""
        client = s3.client()
        try:
            answer = client.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
            return list(answer.get("Errors", []))
        except client.exceptions.ClientError as error:
            if _code(error) not in _UNKNOWN:
                raise
        for one in objects:
            client.delete_object(Bucket=self.bucket, **one)
        return []

    def versions(self) -> dict[str, str]:
        """Returns the names of the files directly in the store, each with a text that changes with its content.

        A wrong address is an error at once, not after a minute of retries.
        """
        folder = self._folder("")
        with self._failing("cannot be read"):
            paginator = s3.client(s3.QUICK_ATTEMPTS).get_paginator("list_objects_v2")
            pages = paginator.paginate(Bucket=self.bucket, Prefix=folder, Delimiter="/")
            items = [item for page in pages for item in page.get("Contents", [])]
        return {item["Key"].removeprefix(folder): f"{item['ETag']} {item['Size']}" for item in items}

    def _object(self, key: str) -> str:
        return self._folder("") + check_key(key)

    def _folder(self, prefix: str) -> str:
        joined = "/".join(part for part in (self.prefix, prefix and check_key(prefix)) if part)
        return f"{joined}/" if joined else ""

    def _pages(self, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
        with self._failing("cannot be listed", prefix):
            paginator: Any = s3.client().get_paginator("list_objects_v2")
            yield from paginator.paginate(Bucket=self.bucket, Prefix=self._folder(prefix), **options)

    @contextlib.contextmanager
    def _failing(self, what: str, key: str = "") -> Iterator[None]:
        from boto3.exceptions import Boto3Error, S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        address = f"{self.location}/{key}".rstrip("/")
        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError) as error:
            # boto3 hides a refused upload's own error behind this one.
            hidden = error.__context__ if isinstance(error, S3UploadFailedError) else None
            code = _code(hidden or error)
            if what == "cannot be read" and code in {"404", "NoSuchKey"} and self._has_bucket():
                raise MissingKeyError(f"{address}: no such file") from None
            if code in {"400", "403"}:
                code = self._reason() or code
            cause = "no such bucket" if code == "404" else _CAUSES.get(code, code)
            if what == "cannot be written" and code in _UNKNOWN:
                cause += "; a server without CRC32 sums needs AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
            # Not chained: the library's own texts quote addresses and proxies, which may carry passwords.
            kind = CredentialsError if code in _OF_CREDENTIALS else StoreError
            raise kind(f"{address}: {what} at {s3.server_name()}: {cause}") from None
        except OSError as error:
            if is_local(error, what):
                raise
            raise StoreError(f"{address}: {what}: {error.strerror or error} ({error.filename})") from error

    def _reason(self) -> str | None:
        """Returns why the server refuses a listing; its refusal of a HEAD request has a number and no reason."""
        client = s3.client(s3.QUICK_ATTEMPTS)
        try:
            client.list_objects_v2(Bucket=self.bucket, Prefix=self._folder(""), MaxKeys=1)
        except client.exceptions.ClientError as error:
            return _code(error)
        return None

    def _has_bucket(self) -> bool:
        client = s3.client()
        try:
            client.head_bucket(Bucket=self.bucket)
        except client.exceptions.ClientError as error:
            return _code(error) != "404"
        return True


def _code(error: BaseException) -> str:
    """Returns the server's error code (a status number where it sent no text), or else the error's class name."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return response.get("Error", {}).get("Code") or type(error).__name__


@cache
def _transfers() -> TransferConfig:
    from boto3.s3.transfer import TransferConfig

    # Four parts of 8 MiB at once fill a link of 1 Gbit/s; a worker has few cores, and each part is held in memory.
    return TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20, max_concurrency=4)
