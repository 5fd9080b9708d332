"""The S3 server that the other tests stand on behaves as they need."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from s3_server import S3Server

import fmnist.storage.s3


def test_bucket_is_reached_through_the_environment(s3_bucket: str) -> None:
    client = fmnist.storage.s3.client()
    client.put_object(Bucket=s3_bucket, Key="a/b", Body=b"text")
    assert client.get_object(Bucket=s3_bucket, Key="a/b")["Body"].read() == b"text"


def test_killed_server_restarts_with_its_objects(s3_server: S3Server, s3_bucket: str) -> None:
    fmnist.storage.s3.client().put_object(Bucket=s3_bucket, Key="kept", Body=b"text")
    s3_server.restart()
    assert fmnist.storage.s3.client().get_object(Bucket=s3_bucket, Key="kept")["Body"].read() == b"text"


def test_upload_to_a_missing_bucket_is_refused(s3_bucket: str) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        fmnist.storage.s3.client().put_object(Bucket=s3_bucket + "-missing", Key="key", Body=b"")
