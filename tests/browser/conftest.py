"""Each browser is started once in a process; what it downloaded for one test is no other's."""

from collections.abc import Iterator

import pytest

from tests.support.browsers import BROWSERS, MODULES, PROGRAMS, Browser

EACH = [pytest.param(name, marks=pytest.mark.needs(*PROGRAMS[name])) for name in BROWSERS]


@pytest.fixture(scope="session", params=EACH)
def running(request) -> Iterator[Browser]:
    pytest.importorskip(MODULES[request.param])
    with BROWSERS[request.param]() as browser:
        yield browser


@pytest.fixture
def browser(running: Browser) -> Iterator[Browser]:
    """Give a browser as a person finds it in the morning."""
    running.begin()
    yield running
    running.open("about:blank")
