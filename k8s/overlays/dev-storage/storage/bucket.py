"""Makes the bucket that ARTIFACTS names, as soon as the server answers."""

import os
import time
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

bucket = urlsplit(os.environ["ARTIFACTS"]).netloc
client = boto3.client("s3", config=Config(connect_timeout=2, retries={"total_max_attempts": 1}))
deadline = time.monotonic() + 300
while True:
    try:
        client.create_bucket(Bucket=bucket)
        print(f"made the bucket {bucket}")
        break
    except (client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
        print(f"the bucket {bucket} is there already")
        break
    except (BotoCoreError, ClientError) as error:
        if time.monotonic() > deadline:
            raise
        print(f"waiting for {os.environ['AWS_ENDPOINT_URL']}: {type(error).__name__}", flush=True)
        time.sleep(2)
