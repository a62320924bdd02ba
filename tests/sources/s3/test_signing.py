"""Signatures as AWS publishes them, and credentials that are renewed ahead of time."""

import datetime
import os
import threading

import botocore.auth
import botocore.credentials
import pytest
from dateutil.tz import tzlocal

from tar_gateway.errors import SourceError
from tar_gateway.sources.s3.signing import Signer
from tar_gateway.sources.wire.asking import Call
from tests.support.fakes import waited
from tests.support.stores import ALONE, Keys

# The access key, secret, date and host of AWS's own examples ("Authenticating Requests: Using the
# Authorization Header", Amazon S3 API reference).
EXAMPLE = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
THEN = datetime.datetime(2013, 5, 24)
HOST = "examplebucket.s3.amazonaws.com"
URL = f"https://{HOST}"


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)


def using(keys: Keys, monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    for name, value in (keys.environment | more).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("target", "headers", "names", "signature"),
    [
        (
            "/test.txt",
            [("Range", "bytes=0-9")],
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "/?max-keys=2&prefix=J",
            [],
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
        (
            "/?lifecycle=",
            [],
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
    ],
)
def test_signatures_are_those_that_aws_publishes(monkeypatch, target, headers, names, signature):
    using(EXAMPLE, monkeypatch)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: THEN)
    signer = Signer()
    waited(signer.ready())
    signed = dict(signer.sign("GET", URL + target, headers, "us-east-1", host=HOST))
    assert signed.pop("Authorization") == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    assert {name.lower() for name in signed} | {"host"} == set(names.split(";"))


def test_temporary_credentials_show_their_token(monkeypatch):
    using(EXAMPLE, monkeypatch, AWS_SESSION_TOKEN="token")
    signer = Signer()
    waited(signer.ready())
    signed = dict(signer.sign("GET", URL + "/a", [], "us-east-1", host=HOST))
    assert signed["X-Amz-Security-Token"] == "token"
    assert "x-amz-security-token" in signed["Authorization"]


def test_without_credentials_there_is_an_error_that_tells_the_operator_only():
    with pytest.raises(SourceError) as told:
        waited(Signer().ready())
    assert (told.value.status, told.value.of_service) == (502, True)
    assert told.value.reason == "the gateway has no credentials for its store"
    assert told.value.for_operator.endswith("none were found")


def test_an_unknown_profile_is_named_to_the_operator():
    with pytest.raises(SourceError, match="no credentials") as told:
        waited(Signer("nobody").ready())
    assert "nobody" in told.value.for_operator


def test_what_failed_is_not_tried_again_at_once(monkeypatch):
    signer, tried = Signer(), []
    monkeypatch.setattr(Signer, "_session", lambda _: tried.append(1) or 1 / 0)
    for _ in range(3):
        with pytest.raises(SourceError, match="no credentials"):
            waited(signer.ready())
    assert len(tried) == 1


def test_a_region_is_the_configurations_or_the_usual_one(monkeypatch):
    assert Signer().region() == "us-east-1"
    assert Signer("nobody").region() == "us-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert Signer().region() == "eu-west-1"


def test_secrets_are_in_no_repr(monkeypatch):
    using(EXAMPLE, monkeypatch)
    signer = Signer("p")
    assert repr(signer) == "Signer(profile='p')"


class Temporary:
    """A session whose credentials end after so many seconds; each renewal makes others."""

    def __init__(self, *lives: float) -> None:
        self._lives = iter(lives)
        self.made = 0
        self.threads: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def get_credentials(self):
        return botocore.credentials.RefreshableCredentials.create_from_metadata(
            self._metadata(), self._metadata, "test"
        )

    def _metadata(self) -> dict[str, str]:
        self.may_go_on.wait(10)
        self.made += 1
        self.threads.append(threading.current_thread().name)
        end = datetime.datetime.now(tzlocal()) + datetime.timedelta(seconds=next(self._lives))
        key = f"KEY{self.made}"
        return {
            **{"access_key": key, "secret_key": "secret", "token": "token"},
            "expiry_time": end.isoformat(),
        }


def key_of(signer: Signer) -> str:
    signed = dict(signer.sign("GET", URL + "/a", [], "us-east-1", host=HOST))
    return signed["Authorization"].partition("Credential=")[2].partition("/")[0]


def age(signer: Signer, seconds: float) -> None:
    """Let so much of the credentials' time be over."""
    signer._credentials._expiry_time -= datetime.timedelta(seconds=seconds)


def joined(signer: Signer) -> None:
    for thread in threading.enumerate():
        if thread.name == "tar-gateway-s3":
            thread.join(10)


@pytest.fixture
def temporary(monkeypatch):
    def make(*lives: float) -> tuple[Signer, Temporary]:
        session = Temporary(*lives)
        monkeypatch.setattr(Signer, "_session", lambda _: session)
        monkeypatch.setattr("tar_gateway.sources.s3.signing._AGAIN", 0)
        return Signer(), session

    return make


def test_credentials_are_found_outside_the_steps(temporary):
    signer, _ = temporary(3600)
    steps = signer.ready()
    assert isinstance(next(steps), Call)
    steps.close()


def test_credentials_with_time_left_are_used_as_they_are(temporary):
    signer, session = temporary(3600)
    for _ in range(3):
        waited(signer.ready())
    assert (key_of(signer), session.made) == ("KEY1", 1)


def test_credentials_are_renewed_ahead_of_time_while_the_old_ones_sign(temporary):
    signer, session = temporary(3600, 3600)
    waited(signer.ready())
    age(signer, 2800)
    session.may_go_on.clear()
    with pytest.raises(StopIteration):
        next(signer.ready())  # it asks nothing, and waits for nothing
    assert key_of(signer) == "KEY1"
    session.may_go_on.set()
    joined(signer)
    assert (key_of(signer), session.threads[1]) == ("KEY2", "tar-gateway-s3")


def test_credentials_that_are_over_are_renewed_before_anything_is_signed(temporary):
    signer, session = temporary(3600, 3600)
    waited(signer.ready())
    age(signer, 3580)
    session.may_go_on.clear()
    steps = signer.ready()
    assert isinstance(next(steps), Call)
    session.may_go_on.set()
    waited(signer.ready())
    joined(signer)
    assert key_of(signer) == "KEY2"


def test_what_a_store_takes_for_expired_is_looked_for_anew(temporary):
    signer, session = temporary(3600, 3600)
    waited(signer.ready())
    signed = signer.sign("GET", URL + "/a", [], "us-east-1", host=HOST)
    assert signer.forget(signed)
    waited(signer.ready())
    assert key_of(signer) == "KEY2"
    assert signer.forget(signed)  # others have forgotten them before
    waited(signer.ready())
    assert session.made == 2


def test_credentials_that_are_as_new_as_can_be_are_not_looked_for_again(monkeypatch):
    using(EXAMPLE, monkeypatch)
    signer = Signer()
    waited(signer.ready())
    assert not signer.forget(signer.sign("GET", URL + "/a", [], "us-east-1", host=HOST))
