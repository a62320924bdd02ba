"""Where an upstream's redirects point to, in terms of the gateway's own paths."""

from contextlib import closing

import pytest

from tar_gateway.sources.upstream import Upstream


@pytest.mark.parametrize(
    ("location", "below"),
    [
        ("http://files.internal/base/x", "x"),
        ("http://files.internal:80/base/x?y=1#z", "x?y=1#z"),
        ("http://FILES.internal/base/", ""),
        ("//files.internal/base/x/y/", "x/y/"),
        ("/base/x", "x"),
        ("/base/a%20b", "a%20b"),
        ("/other/x", None),
        ("/base", None),
        ("x", None),
        ("", None),
        ("https://files.internal/base/x", None),
        ("http://files.internal:8080/base/x", None),
        ("http://elsewhere/base/x", None),
        ("/base//elsewhere/x", None),
        ("http://files.internal/base//elsewhere", None),
        ("http://files.internal:port/base/", None),
        ("http://[/base/", None),
    ],
)
def test_a_location_is_translated_only_below_the_base(location: str, below: str | None):
    with closing(Upstream("http://files.internal/base/")) as upstream:
        assert upstream.own_path(location, "a") == below
