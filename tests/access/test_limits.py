"""Who the client is that downloads are counted for, and whose word on that is believed."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway import Settings
from tar_gateway.access.credentials import Hop
from tar_gateway.access.limits import Downloads, Questions, address_of
from tar_gateway.errors import Busy, TooManyRequests
from tar_gateway.sources.wire.tally import Tally
from tar_gateway.web.observe.download import Download
from tests.support.files_upstream import FilesUpstream, gateway_to
from tests.support.scripted import Scripted, answer

PROXIES = "10.0.0.0/8,2001:db8:ffff::/48,unix"

HOP = Hop.before(None, Settings())


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
    download = Download(downloads, {"REQUEST_METHOD": "GET", **environ}, Tally(), HOP)
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
    ended.end()
    ended.end()
    begin(downloads)
    assert downloads.is_full


def test_a_refused_download_gives_no_room_back():
    downloads = Downloads(Settings(max_downloads=1))
    begin(downloads)
    refused = Download(downloads, {"REQUEST_METHOD": "GET"}, Tally(), HOP)
    with pytest.raises(Busy):
        refused.begin()
    refused.end()
    assert downloads.is_full


def begin_bundle(downloads: Downloads, **environ: str):
    download = begin(downloads, **environ)
    try:
        download.become_bundle()
    except TooManyRequests:
        download.end()
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
    first.end()
    begin_bundle(downloads, **ONE)


def test_plain_files_count_four_to_one():
    downloads = Downloads(Settings(max_downloads_per_client=2))
    bundle = begin_bundle(downloads, **ONE)
    files = [begin(downloads, **ONE) for _ in range(4)]
    for refused in (begin, begin_bundle):
        with pytest.raises(TooManyRequests):
            refused(downloads, **ONE)
    files.pop().end()
    begin(downloads, **ONE)
    bundle.end()
    begin_bundle(downloads, **ONE)


def test_a_file_that_turns_out_to_be_a_bundle_needs_the_room_of_one():
    downloads = Downloads(Settings(max_downloads_per_client=1))
    listed, other = begin(downloads, **ONE), begin(downloads, **ONE)
    with pytest.raises(TooManyRequests):
        listed.become_bundle()
    other.end()
    listed.become_bundle()
    with pytest.raises(TooManyRequests):
        begin(downloads, **ONE)
    listed.end()
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


# --- questions ----------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Give the time, which a test may change."""
    now = [1000.0]
    monkeypatch.setattr("tar_gateway.access.limits.time.monotonic", lambda: now[0])
    return now


def seconds_to_wait(questions: Questions, client: str, count: int) -> int:
    """Take questions; return the seconds after which there are enough, 0 where there were."""
    try:
        questions.take(client, count)
    except TooManyRequests as refused:
        return int(dict(refused.headers)["Retry-After"])
    return 0


def test_so_many_questions_come_a_minute_and_so_many_are_saved(clock):
    questions = Questions(60, 100)
    assert seconds_to_wait(questions, "a", 100) == 0
    assert seconds_to_wait(questions, "a", 1) == 1
    assert seconds_to_wait(questions, "a", 30) == 30
    clock[0] += 29.5
    assert seconds_to_wait(questions, "a", 30) == 1
    clock[0] += 0.5
    assert seconds_to_wait(questions, "a", 30) == 0
    clock[0] += 10_000
    assert seconds_to_wait(questions, "a", 100) == 0
    assert seconds_to_wait(questions, "a", 1) == 1


def test_each_client_has_its_own(clock):
    questions = Questions(60, 100)
    assert [seconds_to_wait(questions, client, 100) for client in "abab"] == [0, 0, 100, 100]


def test_a_full_bucket_is_enough_for_any_number_and_what_is_beyond_is_owed(clock):
    questions = Questions(60, 100)
    assert seconds_to_wait(questions, "a", 150) == 0
    assert seconds_to_wait(questions, "a", 1) == 51


def test_what_is_under_way_is_not_refused_and_what_was_not_asked_is_given_back(clock):
    questions = Questions(60, 100)
    questions.take("a", 150, refuse=False)
    assert seconds_to_wait(questions, "a", 10) == 60
    questions.settle("a", -60)
    assert seconds_to_wait(questions, "a", 10) == 0
    questions.settle("a", 20)
    assert seconds_to_wait(questions, "a", 10) == 30
    questions.settle("a", -1000)  # never more than may be saved
    assert [seconds_to_wait(questions, "a", 100) for _ in range(2)] == [0, 100]


def test_clients_that_owe_nothing_are_not_remembered(clock):
    questions = Questions(60, 100)
    for number in range(50):
        questions.take(f"{number}", 30)
    assert len(questions) == 50
    clock[0] += 31
    questions.take("another", 1)
    assert len(questions) == 1
    questions.settle("another", -1)
    assert len(questions) == 0


def test_no_more_clients_are_remembered_than_there_is_room_for(clock, monkeypatch):
    monkeypatch.setattr("tar_gateway.access.limits._KNOWN", 10)
    questions = Questions(1, 100)
    for number in range(50):
        questions.take(f"{number}", 100)
    assert len(questions) == 10
    assert seconds_to_wait(questions, "49", 1) == 60


STEPS = st.lists(
    st.tuples(st.sampled_from(["wait", "take", "give back"]), st.integers(0, 300)), max_size=30
)


@given(steps=STEPS, a_minute=st.integers(1, 600), saved=st.integers(1, 200))
def test_in_any_time_no_client_has_more_than_was_saved_and_comes_in_it(steps, a_minute, saved):
    with pytest.MonkeyPatch.context() as patch:
        now = [0.0]
        patch.setattr("tar_gateway.access.limits.time.monotonic", lambda: now[0])
        questions, taken = Questions(a_minute, saved), 0
        for step, count in steps:
            match step:
                case "wait":
                    now[0] += count / 7
                case "give back":
                    given = min(count, taken)
                    questions.settle("a", -given)
                    taken -= given
                case "take" if count <= saved:
                    wait = seconds_to_wait(questions, "a", count)
                    if wait:
                        now[0] += wait
                        assert seconds_to_wait(questions, "a", count) == 0
                    taken += count
            assert taken <= saved + now[0] * a_minute / 60 + 1e-3


URL = "/?bundle=a&bundle=b"


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream({"a": b"alpha", "b": b"beta"}) as running:
        yield running


def count(upstream: FilesUpstream) -> int:
    """Return how many questions there were since the last time."""
    asked = len(upstream.requests)
    upstream.requests.clear()
    return asked


def test_beyond_its_questions_a_client_is_refused_before_anything_is_asked(upstream):
    with gateway_to(upstream, questions_per_client=1, max_members=4) as app:
        for _ in range(2):  # two sizes and two files each
            app.get(URL)
            assert count(upstream) == 4
        for target in (URL, "/a", "/none"):
            refused = app.get(target, status=429)
            assert 1 <= int(refused.headers["Retry-After"]) <= 120
            assert "1 questions to the upstream a minute" in refused.json["detail"]
        assert count(upstream) == 0
        app.get("/-/healthy", status=200)


def test_the_largest_bundle_passes(upstream):
    with gateway_to(upstream, questions_per_client=1, max_members=2) as app:
        app.get(URL)
        app.get(URL, status=429)


def test_what_is_remembered_costs_a_client_what_is_asked(upstream):
    with gateway_to(upstream, questions_per_client=1, max_members=3) as app:
        app.head(URL)
        for _ in range(20):
            app.head(URL)
            app.get(URL, headers={"Range": "bytes=-1"}, status=206)
        for _ in range(4):
            app.get(URL, headers={"Range": "bytes=512-513"}, status=206)
        assert count(upstream) == 6
        app.get(URL, headers={"Range": "bytes=512-513"}, status=429)
        app.head(URL)
        assert count(upstream) == 0


def test_every_question_counts_however_it_ends(upstream):
    with gateway_to(upstream, questions_per_client=1, max_members=3) as app:
        app.get("/?bundle=none&bundle=none-2", status=404)
        asked = count(upstream)
        assert asked == 4  # HEAD and GET of each
        app.get("/a", status=200)
        app.get("/b", status=200)
        app.get("/a", status=429)


def test_the_authority_is_asked_on_the_clients_account(upstream):
    with (
        Scripted({"/check": answer(b"yes")}) as authority,
        gateway_to(
            upstream,
            auth_request=authority.url + "check",
            questions_per_client=1,
            max_members=3,
        ) as app,
    ):
        app.head(URL)  # two to the authority, and two to the upstream
        app.get("/a")
        app.get("/b", status=429)
        assert (len(authority.requests), count(upstream)) == (3, 3)


def test_clients_are_told_apart_as_trusted_proxies_say(upstream):
    settings = {"questions_per_client": 1, "max_members": 1, "trusted_proxies": "unix"}
    with gateway_to(upstream, **settings) as app:
        for client in ("192.0.2.1", "192.0.2.2"):
            told = {"X-Forwarded-For": client}
            app.get("/?bundle=a", headers=told)
            app.get("/?bundle=a", headers=told, status=429)
