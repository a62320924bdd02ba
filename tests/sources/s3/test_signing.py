"""Signatures as AWS publishes them, and credentials that are renewed ahead of time."""

import datetime
import os
import threading

import botocore.auth
import botocore.credentials
import pytest
from dateutil.tz import tzlocal

from tar_gateway.errors import SourceError
from tar_gateway.sources.s3.signing import Credentials, sign
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
    credentials = Credentials()
    by = waited(credentials.ready())
    signed = dict(sign("GET", URL + target, headers, "us-east-1", host=HOST, by=by))
    assert signed.pop("Authorization") == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    assert {name.lower() for name in signed} | {"host"} == set(names.split(";"))


def test_temporary_credentials_show_their_token(monkeypatch):
    using(EXAMPLE, monkeypatch, AWS_SESSION_TOKEN="token")
    credentials = Credentials()
    by = waited(credentials.ready())
    signed = dict(sign("GET", URL + "/a", [], "us-east-1", host=HOST, by=by))
    assert signed["X-Amz-Security-Token"] == "token"
    assert "x-amz-security-token" in signed["Authorization"]


def test_without_credentials_there_is_an_error_that_tells_the_operator_only():
    with pytest.raises(SourceError) as told:
        waited(Credentials().ready())
    assert (told.value.status, told.value.of_service) == (502, True)
    assert told.value.reason == "the gateway has no credentials for its store"
    assert told.value.for_operator.endswith("none were found")


def test_an_unknown_profile_is_named_to_the_operator():
    with pytest.raises(SourceError, match="no credentials") as told:
        waited(Credentials("nobody").ready())
    assert "nobody" in told.value.for_operator


def test_what_failed_is_not_tried_again_at_once(monkeypatch):
    credentials, tried = Credentials(), []
    monkeypatch.setattr(Credentials, "_session", lambda _: tried.append(1) or 1 / 0)
    for _ in range(3):
        with pytest.raises(SourceError, match="no credentials"):
            waited(credentials.ready())
    assert len(tried) == 1


def test_a_region_is_the_configurations_or_the_usual_one(monkeypatch):
    assert Credentials().region() == "us-east-1"
    assert Credentials("nobody").region() == "us-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert Credentials().region() == "eu-west-1"


def test_secrets_are_in_no_repr(monkeypatch):
    using(EXAMPLE, monkeypatch)
    credentials = Credentials("p")
    assert repr(credentials) == "Credentials(profile='p')"


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


def key_of(credentials: Credentials) -> str:
    return credentials._frozen.access_key


def age(credentials: Credentials, seconds: float) -> None:
    """Let so much of the credentials' time be over."""
    credentials._credentials._expiry_time -= datetime.timedelta(seconds=seconds)


def joined(credentials: Credentials) -> None:
    for thread in threading.enumerate():
        if thread.name == "tar-gateway-s3":
            thread.join(10)


@pytest.fixture
def temporary(monkeypatch):
    def make(*lives: float) -> tuple[Credentials, Temporary]:
        session = Temporary(*lives)
        monkeypatch.setattr(Credentials, "_session", lambda _: session)
        monkeypatch.setattr("tar_gateway.sources.s3.signing._AGAIN", 0)
        return Credentials(), session

    return make


def test_credentials_are_found_outside_the_steps(temporary):
    credentials, _ = temporary(3600)
    steps = credentials.ready()
    assert isinstance(next(steps), Call)
    steps.close()


def test_credentials_with_time_left_are_used_as_they_are(temporary):
    credentials, session = temporary(3600)
    for _ in range(3):
        waited(credentials.ready())
    assert (key_of(credentials), session.made) == ("KEY1", 1)


def test_credentials_are_renewed_ahead_of_time_while_the_old_ones_sign(temporary):
    credentials, session = temporary(3600, 3600)
    waited(credentials.ready())
    age(credentials, 2800)
    session.may_go_on.clear()
    with pytest.raises(StopIteration):
        next(credentials.ready())  # it asks nothing, and waits for nothing
    assert key_of(credentials) == "KEY1"
    session.may_go_on.set()
    joined(credentials)
    assert (key_of(credentials), session.threads[1]) == ("KEY2", "tar-gateway-s3")


def test_a_renewal_that_fails_ahead_of_time_is_tried_again(temporary):
    credentials, _ = temporary(3600)  # and no more
    waited(credentials.ready())
    age(credentials, 3300)
    for _ in range(2):
        assert waited(credentials.ready()).access_key == "KEY1"
        joined(credentials)
    age(credentials, 3600)
    with pytest.raises(SourceError, match="no credentials"):
        waited(credentials.ready())


def test_credentials_that_are_over_are_renewed_before_anything_is_signed(temporary):
    credentials, session = temporary(3600, 3600)
    waited(credentials.ready())
    age(credentials, 3580)
    session.may_go_on.clear()
    steps = credentials.ready()
    assert isinstance(next(steps), Call)
    session.may_go_on.set()
    waited(credentials.ready())
    joined(credentials)
    assert key_of(credentials) == "KEY2"


def test_what_a_store_takes_for_expired_is_looked_for_anew(temporary):
    credentials, session = temporary(3600, 3600)
    used = waited(credentials.ready())
    assert credentials.forget(used)
    assert waited(credentials.ready()).access_key == "KEY2"
    assert credentials.forget(used)  # others have forgotten them before
    assert waited(credentials.ready()).access_key == "KEY2"
    assert session.made == 2


def test_credentials_that_others_forget_meanwhile_still_sign_what_was_begun(temporary):
    credentials, _ = temporary(3600, 3600)
    by = waited(credentials.ready())
    assert credentials.forget(by)
    assert (
        "KEY1" in dict(sign("GET", URL + "/a", [], "us-east-1", host=HOST, by=by))["Authorization"]
    )


def test_credentials_that_are_as_new_as_can_be_are_not_looked_for_again(monkeypatch):
    using(EXAMPLE, monkeypatch)
    credentials = Credentials()
    assert not credentials.forget(waited(credentials.ready()))
