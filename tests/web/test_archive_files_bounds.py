"""A list of files comes within the time of a plan and at the least rate, whoever sends it."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Event

import pytest
from webtest import TestApp

from tar_gateway import BundleMiddleware, Gateway, Settings, Upstream
from tests.support.scripted import Scripted, Wire

LINE = b"- 5 /a.txt first.txt\n"
NEVER = Event()
IN_TIME = {"plan_timeout": 0.3, "min_read_rate": 0}
AT_A_RATE = {"read_timeout": 0.3, "min_read_rate": 4096}


def drip(wire: Wire) -> None:
    """Send a list that goes on for as long as it is read."""
    wire.send(b"HTTP/1.1 200 OK\r\nX-Archive-Files: tar\r\nConnection: close\r\n\r\n")
    wire.drip(LINE * 1000, pause=0.02)


def stop(wire: Wire) -> None:
    """Send a list's beginning and then nothing."""
    wire.send(b"HTTP/1.1 200 OK\r\nX-Archive-Files: tar\r\nContent-Length: 99\r\n\r\n" + LINE)
    wire.stall(NEVER)


def application(environ, start_response):
    """Drip a list."""
    start_response("200 OK", [("X-Archive-Files", "tar")])
    for _ in range(500):
        NEVER.wait(0.02)
        yield LINE


def starts_at_once(environ, start_response):
    """Drip a list, with ``start_response`` called before there is a block."""
    start_response("200 OK", [("X-Archive-Files", "tar")])
    return (NEVER.wait(0.02) or LINE for _ in range(500))


@contextmanager
def face(which, settings: Settings) -> Iterator[TestApp]:
    if which in {application, starts_at_once}:
        with closing(BundleMiddleware(which, settings=settings)) as middleware:
            yield TestApp(middleware)
    else:
        with (
            Scripted({"/list": which}) as server,
            closing(Gateway(Upstream(server.url, settings), settings)) as gateway,
        ):
            yield TestApp(gateway)


TAG = '"tar-' + "0" * 40 + '"'


@pytest.mark.parametrize("headers", [{}, {"If-Range": TAG, "Range": "bytes=1-"}], ids=["", "part"])
@pytest.mark.parametrize(
    ("which", "bounds", "reason"),
    [
        (drip, IN_TIME, "it was not there in time"),
        (stop, IN_TIME, "it was not there in time"),
        (application, IN_TIME, "it was not there in time"),
        (starts_at_once, IN_TIME, "it was not there in time"),
        (drip, AT_A_RATE, "it comes too slowly"),
        (application, AT_A_RATE, "it comes too slowly"),
        (starts_at_once, AT_A_RATE, "it comes too slowly"),
    ],
)
def test_a_list_that_does_not_come_is_504(which, bounds, reason, headers):
    with face(which, Settings(retries=0, **bounds)) as client:
        began = time.monotonic()
        response = client.get("/list", headers=headers, status=504)
        assert time.monotonic() - began < 3
    assert response.json["detail"] == f"the list of files: {reason}"
