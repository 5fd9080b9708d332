"""Makes the Secret fmnist-s3 in this pod's namespace, unless there is one."""

import json
import os
import secrets
import ssl
import urllib.error
import urllib.request
from pathlib import Path

account = Path("/var/run/secrets/kubernetes.io/serviceaccount")
namespace = (account / "namespace").read_text()
server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
secret = {
    "metadata": {"name": "fmnist-s3"},
    "stringData": {"AWS_ACCESS_KEY_ID": secrets.token_hex(10), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)},
}
request = urllib.request.Request(
    f"{server}/api/v1/namespaces/{namespace}/secrets",
    data=json.dumps(secret).encode(),
    headers={"Authorization": f"Bearer {(account / 'token').read_text()}", "Content-Type": "application/json"},
)
try:
    urllib.request.urlopen(request, context=ssl.create_default_context(cafile=str(account / "ca.crt")), timeout=30)
    print("made the Secret fmnist-s3")
except urllib.error.HTTPError as error:
    if error.code != 409:
        raise
    print("the Secret fmnist-s3 is there already")
