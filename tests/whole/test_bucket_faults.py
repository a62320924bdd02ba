"""Every fault on the way between the gateway and moto: what looks complete is right."""

import http.client
from collections.abc import Iterator
from itertools import count
from urllib.parse import urlsplit
from wsgiref.util import setup_testing_defaults

import pytest

from tar_gateway import S3, Gateway, Settings
from tar_gateway.errors import BrokenOff
from tests.faults import FAULTS, PASSING, Reply
from tests.support.scripted import Scripted, Wire
from tests.support.stores import RunningStore, moto
from tests.support.wrapped import unpacked

DATA = bytes(range(250)) * 280
OFFSETS = (0, 1, 511, 512, len(DATA) // 2, len(DATA) - 1)
SETTINGS = Settings(s3_public=True, retries=2, retry_pause=0, read_timeout=0.5)

# What is of another version of the file, or of a server that heeds no range: moto does.
ELSEWHERE = {"changes", "changes heedlessly", "ignores Range", "holds more"}


class Way:
    """The way to a store, on which faults happen: each request is passed on as it came."""

    def __init__(self, store: RunningStore) -> None:
        self._place = urlsplit(store.url)
        self.fault: tuple[str, int, int] | None = None
        self._numbers = count()

    def set(self, kind: str, request: int, offset: int) -> None:
        self.fault, self._numbers = (kind, request, offset), count()

    def __call__(self, wire: Wire) -> None:
        reply = self._passed_on(wire)
        kind, request, offset = self.fault or ("", -1, 0)
        if next(self._numbers) == request:
            FAULTS[kind](wire, reply, offset, None)
        else:
            reply.send(wire)

    def _passed_on(self, wire: Wire) -> Reply:
        seen = wire.request
        onward = http.client.HTTPConnection(self._place.hostname, self._place.port)
        onward.putrequest(seen.method, seen.target, skip_host=True, skip_accept_encoding=True)
        for name, value in seen.headers:  # the Host field too, which is signed
            onward.putheader(name, value)
        onward.endheaders()
        response = onward.getresponse()
        body, told = response.read(), response.headers["Content-Length"]
        onward.close()
        left_out = {"content-length", "connection"}
        head = tuple(pair for pair in response.getheaders() if pair[0].lower() not in left_out)
        return Reply(f"{response.status} {response.reason}", head, body, int(told or 0))


@pytest.fixture(scope="module")
def way() -> Iterator[tuple[Way, Gateway]]:
    with moto() as store, pytest.MonkeyPatch.context() as patch:
        store.fill("files", {"first": b"first" * 100, "second": DATA})
        for name, value in store.keys.environment.items():
            patch.setenv(name, value)
        made = Way(store)
        with Scripted(default=made) as server:
            source = S3("s3://files/", SETTINGS, endpoint=server.url.rstrip("/"))
            gateway = Gateway(source, SETTINGS)
            yield made, gateway
            gateway.close()


def outcome(gateway: Gateway, query: str) -> str:
    environ = {"PATH_INFO": "/", "QUERY_STRING": query}
    setup_testing_defaults(environ)
    told = {}

    def start_response(status, headers, exc_info=None):
        told.update(status=int(status[:3]), length=dict(headers).get("Content-Length"))

    body = gateway(environ, start_response)
    try:
        received = b"".join(body)
    except BrokenOff:
        return "broken"
    finally:
        body.close()
    if told["status"] != 200:
        return "refused"
    whole = len(received) == int(told["length"])
    right = whole and unpacked(received) == {"first": b"first" * 100, "second": DATA}
    return "right" if right else "CORRUPT"


# The requests of a bundle of two files: a list or two HEADs, and a GET for each.
BY_LIST, BY_NAME = "bundle=./", "bundle=first&bundle=second"


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("kind", PASSING)
def test_a_passing_fault_is_not_noticed(way, kind, offset):
    between, gateway = way
    between.set(kind, 2, offset)
    assert outcome(gateway, BY_LIST) == "right"


@pytest.mark.parametrize("request_number", [0, 1])
@pytest.mark.parametrize("kind", PASSING)
def test_nor_is_one_while_sizes_are_asked(way, kind, request_number):
    between, gateway = way
    for query in (BY_LIST, BY_NAME):
        between.set(kind, request_number, 0)
        assert outcome(gateway, query) == "right"


@pytest.mark.parametrize("request_number", [0, 1, 2])
@pytest.mark.parametrize("kind", sorted(set(FAULTS) - ELSEWHERE - set(PASSING)))
def test_a_wrong_answer_never_makes_a_wrong_archive(way, kind, request_number):
    between, gateway = way
    for query in (BY_LIST, BY_NAME):
        between.set(kind, request_number, 100)
        assert outcome(gateway, query) != "CORRUPT"
