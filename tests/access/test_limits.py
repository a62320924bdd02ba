"""Who the client is that downloads are counted for, and whose word on that is believed."""

import pytest

from tar_gateway import Settings
from tar_gateway.access.limits import Downloads, address_of
from tar_gateway.errors import Busy, TooManyRequests
from tar_gateway.sources.wire.tally import Tally
from tar_gateway.web.observe.download import Download

PROXIES = "10.0.0.0/8,2001:db8:ffff::/48,unix"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        # Whoever is no proxy of ours may write what it likes.
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),
        # What a client says of itself stands in front of what our proxy says of it.
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "10.9.9.9, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("", "198.51.100.7", "198.51.100.7"),
        # Some proxies tell the port as well.
        ("10.0.0.1", "198.51.100.7:5555", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8:9::1]:5555", "2001:db8:9::/64"),
        ("10.0.0.1", "[2001:db8:9::1]", "2001:db8:9::/64"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("::ffff:192.0.2.1", None, "192.0.2.1"),
        # One client has all of a /64.
        ("2001:db8:1:2:3::4", None, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:5::6", None, "2001:db8:1:2::/64"),
        ("2001:db8:ffff::1", "2001:db8:9::1", "2001:db8:9::/64"),
    ],
)
def test_a_client_is_its_address_as_far_as_trusted_proxies_tell_it(peer, forwarded, client):
    environ = {"REMOTE_ADDR": peer}
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    assert address_of(environ, Settings(trusted_proxies=PROXIES).trusted_proxies) == client


def test_without_trusted_proxies_nobody_is_believed():
    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "198.51.100.7"}
    assert address_of(environ, ()) == "10.0.0.1"


def test_unix_sockets_are_believed_only_where_they_are_named():
    environ = {"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "198.51.100.7"}
    assert address_of(environ, ()) == ""


def begin(downloads: Downloads, **environ: str):
    download = Download(downloads, {"REQUEST_METHOD": "GET", **environ}, Tally())
    download.begin()
    return download


def test_no_more_downloads_begin_than_are_allowed():
    downloads = Downloads(Settings(max_downloads=2))
    begin(downloads)
    begin(downloads)
    assert downloads.is_full
    with pytest.raises(Busy):
        begin(downloads)


def test_a_download_that_has_ended_makes_room_once():
    downloads = Downloads(Settings(max_downloads=2))
    begin(downloads)
    ended = begin(downloads)
    ended.end("complete")
    ended.end("complete")
    begin(downloads)
    assert downloads.is_full


def test_a_refused_download_gives_no_room_back():
    downloads = Downloads(Settings(max_downloads=1))
    begin(downloads)
    refused = Download(downloads, {"REQUEST_METHOD": "GET"}, Tally())
    with pytest.raises(Busy):
        refused.begin()
    refused.end("refused")
    assert downloads.is_full


def test_one_client_has_a_share_of_its_own():
    downloads = Downloads(Settings(max_downloads_per_client=1))
    first = begin(downloads, REMOTE_ADDR="192.0.2.1")
    begin(downloads, REMOTE_ADDR="192.0.2.2")
    with pytest.raises(TooManyRequests):
        begin(downloads, REMOTE_ADDR="192.0.2.1")
    first.end("complete")
    begin(downloads, REMOTE_ADDR="192.0.2.1")


def test_clients_are_not_counted_unless_it_is_asked_for():
    downloads = Downloads(Settings(max_downloads=20))
    for _ in range(20):
        begin(downloads, REMOTE_ADDR="192.0.2.1")
    assert downloads.is_full
