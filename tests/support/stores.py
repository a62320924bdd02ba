"""Object stores for tests: moto with its authentication on, and s3rver; processes on loopback."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

from tests.support.servers import PATIENCE, free_port, listens, wait_until

REGION = "us-east-1"

# What keeps botocore from asking anything but what a test sets.
ALONE = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}

_ALL = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}


@dataclass(frozen=True)
class Keys:
    """An access key of a store, and its secret."""

    id: str
    secret: str = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        return {**ALONE, "AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": self.secret}


@dataclass(frozen=True)
class RunningStore:
    """A store: its URL, keys that may do everything, and its process."""

    url: str
    keys: Keys
    process: "subprocess.Popen[bytes]" = field(repr=False)

    def client(self, service: str = "s3", keys: Keys | None = None) -> Any:
        keys = keys or self.keys
        return botocore.session.Session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=keys.id,
            aws_secret_access_key=keys.secret,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def fill(self, bucket: str, objects: Mapping[str, bytes], **more: str) -> None:
        """Make a bucket of these objects."""
        client = self.client()
        client.create_bucket(Bucket=bucket)
        for key, data in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=data, **more)

    def user(self, name: str, *statements: Mapping[str, object]) -> Keys:
        """Make a user of moto's, who may do what the statements say."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        if statements:
            policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
            iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=policy)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return Keys(made["AccessKeyId"], made["SecretAccessKey"])

    def check_signatures(self, *, yes: bool = True) -> None:
        """Let moto check every request from now on, or none."""
        data = b"0" if yes else b"inf"
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/moto-api/reset-auth", data, plain)
        with urllib.request.urlopen(request):
            pass


@contextmanager
def moto() -> Iterator[RunningStore]:
    """Run moto; it refuses whoever is not its user."""
    port = free_port()
    environment = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": "inf"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _process(command, port, environment) as process:
        store = RunningStore(f"http://127.0.0.1:{port}", Keys("none", "none"), process)
        keys = store.user("owner", _ALL, {"Effect": "Allow", "Action": "iam:*", "Resource": "*"})
        store.check_signatures()
        yield RunningStore(store.url, keys, process)


@contextmanager
def s3rver(place: Path) -> Iterator[RunningStore]:
    """Run s3rver, which keeps its objects in a directory."""
    port = free_port()
    place.mkdir()
    program = shutil.which("s3rver")
    assert program is not None
    address = ["--address", "127.0.0.1", "--port", str(port)]
    command = [program, "--directory", str(place), "--silent", *address]
    with _process(command, port, dict(os.environ)) as process:
        yield RunningStore(f"http://127.0.0.1:{port}", Keys("S3RVER", "S3RVER"), process)


@contextmanager
def _process(
    command: list[str], port: int, environment: Mapping[str, str]
) -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(environment)
    )
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, command[0])
        assert process.poll() is None, "it has ended"
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)
