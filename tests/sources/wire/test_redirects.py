"""Redirects of the upstream: to which hosts they are followed, and with what."""

import io
import ssl
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest
import trustme

from tar_gateway import Settings, Upstream
from tar_gateway.errors import SourceError
from tar_gateway.sources import Caller, Stat
from tar_gateway.sources.wire.pool import Origin
from tar_gateway.sources.wire.redirects import Redirects, place_of
from tar_gateway.sources.wire.response import failed
from tests.support.files_upstream import TEXT, Canned, FilesUpstream, gateway_to
from tests.support.scripted import Scripted, answer, close, wait_until

CREDENTIALS = {"Authorization": "Bearer caller", "Cookie": "id=1"}
SIGNED = "signed/a?X-Signature=hunter2&x=%2F"
DATA = bytes(range(256)) * 40
NOT_ALLOWED = "the upstream redirects to a place that is not allowed"


def redirect(location: str, status: int = 302) -> Canned:
    return Canned(status, (TEXT, ("Location", location)), b"moved")


@pytest.fixture
def store() -> Iterator[FilesUpstream]:
    with FilesUpstream({"signed/a": DATA}) as running:
        yield running


@pytest.fixture
def upstream(store: FilesUpstream) -> Iterator[FilesUpstream]:
    files = {"a": redirect(store.url + SIGNED), "b": b"beta"}
    with FilesUpstream(files) as running:
        yield running


def contents(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}


# --- what is followed --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_an_allowed_host_is_followed_for_a_member(upstream, store, status):
    upstream.files["a"] = redirect(store.url + SIGNED, status)
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        assert contents(app.get("/?bundle=a&bundle=b").body) == {"a": DATA, "b": b"beta"}
    assert {request.target for request in store.requests} == {"/" + SIGNED}


@pytest.mark.parametrize("location", ["/dir%20a/", "dir%20a/", "{own}dir%20a/?x=1"])
def test_the_index_page_of_a_directory_is_never_taken_for_a_file(upstream, location):
    upstream.files["dir a"] = redirect(location.replace("{own}", upstream.url), 301)
    upstream.files["dir a/"] = b"<h1>Index</h1>"
    with gateway_to(upstream, redirect_hosts=[upstream.host]) as app:
        (fault,) = app.get("/?bundle=dir%20a", status=404).json["members"]
    assert (
        fault["reason"]
        == "it is a directory: with a slash at its end it stands for all files in it"
    )


def test_a_part_of_an_archive_is_a_part_of_what_is_redirected_to(upstream, store):
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        whole = app.get("/?bundle=a")
        part = app.get("/?bundle=a", headers={"Range": "bytes=600-700"}, status=206)
    assert part.body == whole.body[600:701]
    asked = store.requests[-1].headers
    assert (asked["range"], asked["if-match"]) == ("bytes=88-188", whole_tag(store))


def test_a_host_that_is_not_there_says_nothing_of_the_upstream():
    with FilesUpstream() as gone:
        host = gone.host
    with FilesUpstream({"a": redirect(f"http://{host}/a")}) as upstream:
        settings = Settings(redirect_hosts=[host])
        with (
            closing(Upstream(upstream.url, settings)) as asked,
            pytest.raises(SourceError, match="redirects to cannot be reached") as caught,
        ):
            asked.stat("a", Caller())
        assert not asked.health.is_failing
    assert caught.value.transient
    assert not caught.value.unreachable
    assert caught.value.cause == f"connection refused ({host})"


def test_a_host_that_goes_on_failing_is_given_up_on_and_the_upstream_is_not():
    with FilesUpstream() as gone:
        host = gone.host
    with (
        FilesUpstream({"a": redirect(f"http://{host}/a")}) as upstream,
        closing(Upstream(upstream.url, Settings(redirect_hosts=[host], retries=0))) as asked,
    ):

        def failure() -> SourceError:
            with pytest.raises(SourceError) as caught:
                asked.stat("a", Caller())
            return caught.value

        assert wait_until(lambda: not failure().transient)
        assert not asked.health.is_failing


def test_content_of_another_host_that_breaks_says_nothing_of_the_upstream():
    with Scripted({"/a": answer(b"01234", 'ETag: "1"', length=10, then=close)}) as broken:
        host = broken.url.removeprefix("http://").rstrip("/")
        with (
            FilesUpstream({"a": redirect(f"{broken.url}a")}) as upstream,
            closing(Upstream(upstream.url, Settings(redirect_hosts=[host]))) as asked,
            closing(asked.open("a", 0, 10, Stat(10, 0, None), Caller())) as content,
        ):
            assert content.read(5) == b"01234"
            with pytest.raises(SourceError, match="broke the connection"):
                content.read(5)
            assert failed(content, SourceError("slow", transient=True)).of_server is False
            assert not asked.health.is_failing


def whole_tag(store: FilesUpstream) -> str:
    return store.find("signed/a").headers()["ETag"]


def test_nobodys_credentials_go_to_another_host(upstream, store, tmp_path):
    file = tmp_path / "headers"
    file.write_text("X-Service: hunter2")
    chosen = {"redirect_hosts": [store.host], "upstream_headers_file": file}
    with gateway_to(upstream, **chosen) as app:
        app.get("/?bundle=a", headers={**CREDENTIALS, "X-Other": "1"})
    for request in upstream.requests:
        assert request.headers["authorization"] == "Bearer caller"
        assert request.headers["x-service"] == "hunter2"
    own = {"host", "user-agent", "accept-encoding", "range", "if-match"}
    assert store.requests
    for request in store.requests:
        assert set(request.headers) <= own
        assert request.headers["host"] == store.host


def test_a_url_that_is_signed_for_get_alone_will_do(upstream, store):
    signed = store.files["signed/a"]

    def by_method(request):
        denied = Canned(403, (TEXT,), b"<Error>SignatureDoesNotMatch</Error>")
        store.files["signed/a"] = denied if request.method == "HEAD" else signed

    store.before = by_method
    with gateway_to(upstream, redirect_hosts=[store.host], fetch_parallel=1) as app:
        assert contents(app.get("/?bundle=a").body) == {"a": DATA}
        assert [request.method for request in store.requests] == ["HEAD", "GET", "GET"]
        # Although the upstream's own refusals of HEAD are believed by now.
        app.head("/?bundle=b")
        refused = app.get("/?bundle=none&bundle=none-2&bundle=a", status=404).json["members"]
    assert [member["path"] for member in refused] == ["none", "none-2"]
    assert [each.method for each in upstream.requests if each.target == "/none-2"] == ["HEAD"]


def test_a_signed_url_is_asked_for_anew_each_time(upstream, store):
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        app.get("/?bundle=a")
    assert len(upstream.requests) == len(store.requests) == 2


def test_a_manifest_may_be_redirected_to(upstream, store):
    store.files["signed/list"] = b'{"members": ["b"]}'
    upstream.files["list"] = redirect(store.url + "signed/list")
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        assert contents(app.get("/?bundle&manifest=list").body) == {"b": b"beta"}


def test_connections_of_both_sides_are_used_again(upstream, store):
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        for _ in range(3):
            app.get("/?bundle=a")
        assert (upstream.connections, store.connections) == (1, 1)


@pytest.mark.parametrize(("hops", "status"), [(5, 200), (6, 502)])
def test_at_most_five_redirects_are_followed(upstream, store, hops, status):
    upstream.files["a"] = redirect(store.url + "1")
    for hop in range(1, hops):
        store.files[str(hop)] = redirect(f"{hop + 1}")
    store.files[str(hops)] = DATA
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        response = app.get("/?bundle=a", status=status)
    if status == 502:
        assert response.json["members"][0]["reason"] == "the upstream redirects too often"


def test_a_redirect_in_a_circle_ends(upstream, store):
    store.files["signed/a"] = redirect(upstream.url + "a")
    hosts = [store.host, upstream.host]
    with gateway_to(upstream, redirect_hosts=hosts) as app:
        app.get("/?bundle=a", headers=CREDENTIALS, status=502)
    asked = [request.headers.get("authorization") for request in upstream.requests]
    assert asked == ["Bearer caller", None, None]  # it counts as another host once it was left


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("http://HOST", "/"),
        ("http://HOST?x=1", "/?x=1"),
        ("//HOST/signed/a", "/signed/a"),
        ("HTTP://HOST/signed/a#part", "/signed/a"),
        ("http://HOST//other.test/a", "//other.test/a"),
        ("http://HOST/a%2Fb%20c", "/a%2Fb%20c"),
        ("http://HOST/a b/\xc3\xbc", "/a%20b/%C3%BC"),
    ],
)
def test_the_target_is_what_the_location_says(upstream, store, location, target):
    upstream.files["a"] = redirect(location.replace("HOST", store.host))
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        app.get("/?bundle=a", expect_errors=True)
    assert {request.target for request in store.requests} == {target}


@pytest.mark.parametrize(
    ("allowed", "url", "location", "followed"),
    [
        ("store.test", "http://a/", "http://store.test/x", True),
        ("store.test", "http://a/", "http://store.test:80/x", True),
        ("store.test", "http://a/", "https://store.test:443/x", True),
        ("store.test", "http://a/", "http://STORE.test/x", True),
        ("Store.test", "http://a/", "http://store.test/x", True),
        ("store.test", "http://a/", "http://store.test:/x", True),
        ("store.test", "http://a/", "http://store.test:443/x", False),
        ("store.test", "http://a/", "http://store.test:8080/x", False),
        ("store.test", "http://a/", "http://store.test:0/x", False),
        ("store.test", "http://a/", "http://store.test./x", False),
        ("store.test", "http://a/", "http://a.store.test/x", False),
        ("store.test", "http://a/", "http://store.test.evil/x", False),
        ("store.test", "http://store.test/", "x", True),
        ("store.test", "https://a/", "https://store.test/x", True),
        ("store.test", "https://a/", "http://store.test/x", False),
        ("store.test", "https://a/", "http://store.test:443/x", False),
        ("store.test:80", "http://a/", "http://store.test/x", True),
        ("store.test:80", "http://a/", "https://store.test/x", False),
        ("store.test:8080", "http://a/", "http://store.test:8080/x", True),
        ("store.test:8080", "http://a/", "http://store.test/x", False),
        ("[::1]", "http://a/", "http://[::1]/x", True),
        ("[::1]:81", "http://a/", "http://[::1]:81/x", True),
        ("[::1]:81", "http://a/", "http://[::1]/x", False),
        ("a.test, store.test", "http://a/", "http://store.test/x", True),
        ("", "http://a/", "http:///x", False),
    ],
)
def test_a_host_is_allowed_by_its_name_and_port(allowed, url, location, followed):
    settings = Settings(redirect_hosts=allowed)
    place = place_of(location, url, frozenset(settings.redirect_hosts))
    assert (place is not None) is followed


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("http://STORE.test:080/x", "http://store.test/x"),
        ("http://store.test:/x", "http://store.test/x"),
        ("http://store.test:08080/x", "http://store.test:8080/x"),
        ("http://[::1]:00080/x", "http://[::1]/x"),
    ],
)
def test_each_host_and_port_has_one_spelling(location, place):
    found = place_of(location, "http://a/", {"store.test", "store.test:8080", "[::1]"})
    assert found is not None
    assert found.geturl() == place


def test_spellings_of_one_port_share_their_connections(upstream, store):
    for zeros in range(3):
        place = store.url.replace("127.0.0.1:", "127.0.0.1:" + "0" * zeros)
        upstream.files[f"{zeros}"] = redirect(place + SIGNED)
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        for zeros in range(3):
            assert contents(app.get(f"/?bundle={zeros}").body) == {f"{zeros}": DATA}
        assert store.connections == 1


def test_closing_bears_a_redirect_to_another_host_in_its_midst(monkeypatch):
    """A host that is redirected to for the first time changes what is being closed."""
    redirects = Redirects(Settings(redirect_hosts=["a.test", "b.test", "c.test"]))
    a, b, c = (urlsplit(f"http://{name}.test/") for name in "abc")
    redirects._server(a), redirects._server(b)
    with monkeypatch.context() as patched:
        patched.setattr(Origin, "close", lambda _: redirects._server(c))
        redirects.close()
    redirects.close()


# --- what is not -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:PORT/signed/a",
        "http://127.0.0.1/signed/a",
        "http://127.0.0.1:1/signed/a",
        "https://HOST.test/signed/a",
        "ftp://HOST/signed/a",
        "http://user:hunter2@HOST/signed/a",
        "http://HOST@127.0.0.1:1/signed/a",
        "http://127.0.0.1:1\\@HOST/signed/a",
        "http://HOST:x/signed/a",
        "http://[HOST/signed/a",
        "http:///signed/a",
        "/b?token=hunter2",
        "b",
        "",
    ],
)
def test_a_redirect_elsewhere_is_a_bad_gateway(upstream, store, location):
    port = store.host.partition(":")[2]
    upstream.files["a"] = redirect(location.replace("HOST", store.host).replace("PORT", port))
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        response = app.get("/?bundle=a", headers=CREDENTIALS, status=502)
    assert response.json["members"] == [{"path": "a", "status": 502, "reason": NOT_ALLOWED}]
    assert {request.target for request in upstream.requests} == {"/a"}
    assert store.requests == []


def test_no_redirect_is_followed_unless_a_host_is_allowed(upstream, store):
    with gateway_to(upstream) as app:
        response = app.get("/?bundle=a", headers=CREDENTIALS, status=502)
    assert response.json["members"] == [{"path": "a", "status": 502, "reason": NOT_ALLOWED}]
    assert store.requests == []


def test_the_upstreams_own_host_has_to_be_allowed_too(upstream):
    upstream.files["a"] = redirect("/b")
    with gateway_to(upstream, redirect_hosts=[upstream.host]) as app:
        response = app.get("/?bundle=a", headers=CREDENTIALS)
    assert contents(response.body) == {"a": b"beta"}
    followed = [request for request in upstream.requests if request.target == "/b"]
    assert followed
    assert not any("authorization" in request.headers for request in followed)


def test_a_second_redirect_must_lead_to_an_allowed_host_as_well(upstream, store):
    store.files["signed/a"] = redirect("http://127.0.0.1:1/")
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        response = app.get("/?bundle=a", status=502)
    assert response.json["members"][0]["reason"] == NOT_ALLOWED


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Canned(401, (TEXT, ("WWW-Authenticate", "Basic"))), 403),
        (Canned(403, (TEXT,)), 403),
        (Canned(404, (TEXT,)), 404),
        (Canned(500, (TEXT,)), 502),
        (Canned(300, (TEXT, ("Location", "/b"))), 502),
    ],
)
def test_an_error_of_the_other_host_is_the_members(upstream, store, answer, status):
    store.files["signed/a"] = answer
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        response = app.get("/?bundle=a", status=status)
    assert "WWW-Authenticate" not in response.headers
    assert response.json["members"][0]["status"] == status
    assert "hunter2" not in response.text


def test_a_host_that_is_down_is_a_bad_gateway(upstream, store):
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        store.__exit__(None, None, None)
        response = app.get("/?bundle=a", status=502)
    reason = "the host that the upstream redirects to cannot be reached"
    assert response.json["members"][0]["reason"] == reason


def test_a_plain_redirect_is_still_the_clients_to_follow(upstream, store):
    with gateway_to(upstream, redirect_hosts=[store.host]) as app:
        response = app.get("/a", headers=CREDENTIALS, status=302)
    assert response.headers["Location"] == store.url + SIGNED
    assert store.requests == []


# --- https -------------------------------------------------------------------------------------


class Secured:
    """An https upstream that redirects to a store; both under one authority."""

    def __init__(self, stack: ExitStack, *, store_tls: bool, clients: bool) -> None:
        authority = trustme.CA()
        self.ca, self.certificate = authority.cert_pem, authority.issue_cert("gateway@a.test")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        if clients:
            tls.verify_mode = ssl.CERT_REQUIRED
            authority.configure_trust(tls)
        files = {"signed/a": DATA}
        self.store = stack.enter_context(FilesUpstream(files, tls=tls if store_tls else None))
        moved = {"a": redirect(self.store.url + SIGNED), "b": b"beta"}
        self.upstream = stack.enter_context(FilesUpstream(moved, tls=tls))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def test_a_store_is_trusted_by_the_pinned_authority(stack, tmp_path):
    secured = Secured(stack, store_tls=True, clients=False)
    secured.ca.write_to_path(tmp_path / "ca.pem")
    chosen = {"upstream_ca_file": tmp_path / "ca.pem", "redirect_hosts": [secured.store.host]}
    with gateway_to(secured.upstream, **chosen) as app:
        assert contents(app.get("/?bundle=a").body) == {"a": DATA}


def test_a_store_that_is_not_proved_hears_nothing(upstream, stack):
    secured = Secured(stack, store_tls=True, clients=False)
    upstream.files["a"] = redirect(secured.store.url + SIGNED)
    with gateway_to(upstream, redirect_hosts=[secured.store.host]) as app:
        response = app.get("/?bundle=a", status=502)
    assert "TLS connection" in response.json["members"][0]["reason"]
    assert secured.store.requests == []


def test_https_is_never_left_for_http(stack, tmp_path):
    secured = Secured(stack, store_tls=False, clients=False)
    secured.ca.write_to_path(tmp_path / "ca.pem")
    chosen = {"upstream_ca_file": tmp_path / "ca.pem", "redirect_hosts": [secured.store.host]}
    with gateway_to(secured.upstream, **chosen) as app:
        response = app.get("/?bundle=a", status=502)
    assert response.json["members"][0]["reason"] == NOT_ALLOWED
    assert secured.store.requests == []


def test_the_client_certificate_is_shown_to_the_upstream_only(stack, tmp_path):
    secured = Secured(stack, store_tls=True, clients=True)
    secured.ca.write_to_path(tmp_path / "ca.pem")
    secured.certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    chosen = {
        "upstream_ca_file": tmp_path / "ca.pem",
        "upstream_cert_file": tmp_path / "both.pem",
        "redirect_hosts": [secured.store.host],
    }
    with gateway_to(secured.upstream, **chosen) as app:
        assert contents(app.get("/?bundle=b").body) == {"b": b"beta"}
        app.get("/?bundle=a", status=502)
    assert secured.store.requests == []
