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


def begin_bundle(downloads: Downloads, **environ: str):
    download = begin(downloads, **environ)
    try:
        download.become_bundle()
    except TooManyRequests:
        download.end("refused")
        raise
    return download


ONE, OTHER = {"REMOTE_ADDR": "192.0.2.1"}, {"REMOTE_ADDR": "192.0.2.2"}


def test_one_client_has_a_share_of_its_own():
    downloads = Downloads(Settings(max_downloads_per_client=1))
    first = begin_bundle(downloads, **ONE)
    begin_bundle(downloads, **OTHER)
    for refused in (begin, begin_bundle):
        with pytest.raises(TooManyRequests):
            refused(downloads, **ONE)
    first.end("complete")
    begin_bundle(downloads, **ONE)


def test_plain_files_count_four_to_one():
    downloads = Downloads(Settings(max_downloads_per_client=2))
    bundle = begin_bundle(downloads, **ONE)
    files = [begin(downloads, **ONE) for _ in range(4)]
    for refused in (begin, begin_bundle):
        with pytest.raises(TooManyRequests):
            refused(downloads, **ONE)
    files.pop().end("complete")
    begin(downloads, **ONE)
    bundle.end("complete")
    begin_bundle(downloads, **ONE)


def test_a_file_that_turns_out_to_be_a_bundle_needs_the_room_of_one():
    downloads = Downloads(Settings(max_downloads_per_client=1))
    listed, other = begin(downloads, **ONE), begin(downloads, **ONE)
    with pytest.raises(TooManyRequests):
        listed.become_bundle()
    other.end("complete")
    listed.become_bundle()
    with pytest.raises(TooManyRequests):
        begin(downloads, **ONE)
    listed.end("complete")
    begin_bundle(downloads, **ONE)


def test_a_client_that_is_refused_takes_no_room_of_all():
    downloads = Downloads(Settings(max_downloads=2, max_downloads_per_client=1))
    begin_bundle(downloads, **ONE)
    with pytest.raises(TooManyRequests):
        begin(downloads, **ONE)
    assert not downloads.is_full
    begin(downloads, **OTHER)
    assert downloads.is_full


def test_one_client_has_32_bundles_or_128_files_unless_it_is_set_otherwise():
    downloads = Downloads(Settings(max_downloads=1000))
    for client, start, most in ((ONE, begin_bundle, 32), (OTHER, begin, 128)):
        for _ in range(most):
            start(downloads, **client)
        with pytest.raises(TooManyRequests, match="32 downloads of one client"):
            start(downloads, **client)


MAY_BE_FRONTS = [
    *("127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1"),
    *("::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1", "", "unix:", "localhost"),
]


@pytest.mark.parametrize("peer", MAY_BE_FRONTS)
def test_a_peer_that_may_speak_for_many_is_not_one_client(peer, caplog):
    downloads = Downloads(Settings(max_downloads_per_client=1))
    for client in ("198.51.100.1", "198.51.100.2"):
        begin_bundle(downloads, REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=client)
        begin_bundle(downloads, REMOTE_ADDR=peer)
    (line,) = [record.getMessage() for record in caplog.records]  # said once
    assert line.endswith(f"set TAR_GATEWAY_TRUSTED_PROXIES={peer or 'unix'}")


@pytest.mark.parametrize("peer", ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1"])
def test_every_other_peer_is_one_client(peer, caplog):
    downloads = Downloads(Settings(max_downloads_per_client=1))
    begin_bundle(downloads, REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR="198.51.100.1")
    with pytest.raises(TooManyRequests):
        begin(downloads, REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR="198.51.100.2")
    assert not caplog.records


@pytest.mark.parametrize("peer", ["", "127.0.0.1", "fd00::1"])
def test_a_trusted_peer_says_who_the_clients_are(peer, caplog):
    settings = Settings(max_downloads_per_client=1, trusted_proxies="unix,127.0.0.1,fd00::/8")
    downloads = Downloads(settings)
    for client in ("198.51.100.1", "10.0.0.1", "127.0.0.2"):
        begin_bundle(downloads, REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=client)
        with pytest.raises(TooManyRequests):
            begin(downloads, REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=client)
    assert not caplog.records
