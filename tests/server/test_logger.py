"""What the access log says of a request, to machines and to a person at a terminal."""

import json
import logging
from datetime import timedelta
from types import SimpleNamespace

import pytest
from gunicorn.config import Config

from tar_gateway.server.logger import JsonLogger, TerminalFormatter
from tar_gateway.web.observe.log_line import log_line


@pytest.fixture
def access(monkeypatch, capsys):
    """Return what gives the lines of one request, by the settings and the request's environ."""

    def access(*, status=200, settings=(), **environ):
        for name, text in dict(settings).items():
            monkeypatch.setenv(f"TAR_GATEWAY_{name}", text)
        logger = JsonLogger(_config())
        response = SimpleNamespace(headers=[], status=f"{status} X", sent=5)
        made = {"REQUEST_METHOD": "GET", "PATH_INFO": "/a", "QUERY_STRING": "", **environ}
        logger.access(response, None, made, timedelta(seconds=1.5))
        for handler in logger.access_log.handlers:
            handler.flush()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return access


def _config() -> Config:
    config = Config()
    config.set("accesslog", "-")
    return config


BEHIND = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.7"}


@pytest.mark.parametrize(
    ("trusted", "client"), [({"TRUSTED_PROXIES": "10.0.0.1"}, "192.0.2.7"), ({}, "10.0.0.1")]
)
def test_the_client_is_who_trusted_proxies_say_it_is(access, trusted, client):
    (line,) = access(settings=trusted, **BEHIND)
    assert (line["client"], line["peer"]) == (client, "10.0.0.1")


@pytest.mark.parametrize(
    ("page", "status", "lines"),
    [("/-/healthy", 200, 0), ("/-/ready", 503, 1), ("/-/a/b", 200, 1), ("/a", 200, 1)],
)
def test_pages_that_are_well_leave_no_line_where_that_is_wished(access, page, status, lines):
    assert len(access(status=status, PATH_INFO=page)) == 1
    assert len(access(status=status, PATH_INFO=page, settings={"LOG_PAGES": "no"})) == lines


@pytest.mark.parametrize(
    ("event", "fields", "line"),
    [
        (
            "request",
            {"status": 200, "method": "GET", "path": "/a", "bytes": 5, "seconds": 0.1},
            "request 200 GET /a 5 bytes 0.1 s",
        ),
        (
            "bundle",
            {"outcome": "upstream_failed", "status": 502, "path": "/", "query": "bundle=\x1b[2J"},
            r"bundle  upstream_failed 502 /?bundle=\u001b[2J",
        ),
        (
            "bundle",
            {"outcome": "refused", "member": "a\nb", "reason": "it is", "cause": "refused (host)"},
            r"bundle  refused a\nb it is refused (host)",
        ),
    ],
)
def test_a_person_at_a_terminal_reads_one_short_line(event, fields, line):
    record = logging.makeLogRecord({"msg": "%s", "args": (log_line(event, fields),)})
    assert TerminalFormatter().format(record)[9:] == line
