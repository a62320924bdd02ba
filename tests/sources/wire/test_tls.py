"""An https upstream: whom the gateway trusts, what it shows, and what is wrong at the start."""

import socket
import ssl
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization as pem

from tar_gateway import Settings, SettingsError, Upstream
from tar_gateway.errors import SourceError
from tar_gateway.sources import Caller
from tests.cli.test_command import typed
from tests.server.test_gunicorn_start import gunicorn
from tests.support.fakes import forwarded
from tests.support.files_upstream import FilesUpstream, gateway_to
from tests.support.servers import WORKERS, gateway

FILES = {"a": b"alpha"}
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@dataclass(frozen=True)
class Files:
    """PEM files: of an authority, of a client, and what is none."""

    ca: Path
    other_ca: Path
    both: Path
    certificate: Path
    key: Path
    other_key: Path
    locked_key: Path
    garbage: Path


CA = trustme.CA()
OTHER_CA = trustme.CA()
CLIENT = CA.issue_cert("gateway@internal.test")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    place = tmp_path_factory.mktemp("tls")

    def written(name: str, content: bytes) -> Path:
        (place / name).write_bytes(content)
        return place / name

    return Files(
        ca=written("ca.pem", CA.cert_pem.bytes()),
        other_ca=written("other-ca.pem", OTHER_CA.cert_pem.bytes()),
        both=written("both.pem", CLIENT.private_key_and_cert_chain_pem.bytes()),
        certificate=written("cert.pem", CLIENT.cert_chain_pems[0].bytes()),
        key=written("key.pem", CLIENT.private_key_pem.bytes()),
        other_key=written("other-key.pem", OTHER_CA.issue_cert("x@y.test").private_key_pem.bytes()),
        locked_key=written("locked-key.pem", _locked(CLIENT.private_key_pem.bytes())),
        garbage=written("garbage.pem", b"-----BEGIN CERTIFICATE-----\nx\n"),
    )


def _locked(key: bytes) -> bytes:
    """Encrypt a key with a password."""
    return pem.load_pem_private_key(key, None).private_bytes(
        pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"a password")
    )


@contextmanager
def serving(
    ca: trustme.CA = CA,
    name: str = "127.0.0.1",
    *,
    expired: bool = False,
    clients: trustme.CA | None = None,
) -> Iterator[FilesUpstream]:
    """Serve files under a certificate; ``clients`` is whose certificate a client must show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name, not_after=YESTERDAY if expired else None).configure_cert(context)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        clients.configure_trust(context)
    with FilesUpstream(dict(FILES), tls=context) as running:
        yield running


def test_an_upstream_of_the_pinned_authority_is_accepted(files):
    with serving() as upstream, gateway_to(upstream, upstream_ca_file=files.ca) as app:
        assert app.get("/a").body == b"alpha"
        assert b"alpha" in app.get("/?bundle=a").body


UNKNOWN_CA = "unable to get local issuer certificate"


@pytest.mark.parametrize(
    ("served", "trusted", "cause"),
    [
        pytest.param({"ca": OTHER_CA}, "ca", UNKNOWN_CA, id="another authority"),
        pytest.param({}, "other_ca", UNKNOWN_CA, id="an authority that is not pinned"),
        pytest.param({}, None, UNKNOWN_CA, id="an authority that the system does not know"),
        pytest.param(
            {"name": "127.0.0.2"},
            "ca",
            "IP address does not match the certificate",
            id="another host's address",
        ),
        pytest.param({"expired": True}, "ca", "certificate has expired", id="expired"),
    ],
)
def test_an_upstream_that_is_not_proved_hears_nothing(files, caplog, served, trusted, cause):
    chosen = {"upstream_ca_file": getattr(files, trusted)} if trusted else {}
    with serving(**served) as upstream, gateway_to(upstream, **chosen) as app:
        plain = app.get("/a", status=502)
        bundle = app.get("/?bundle=a", status=502)
        assert upstream.requests == []
    reason = "the TLS connection to the upstream failed"
    assert plain.json["detail"] == reason
    assert [fault["reason"] for fault in bundle.json["members"]] == [reason]
    assert f"{upstream.url} fails: {reason}: {cause} ({upstream.host})" in caplog.messages
    assert cause not in plain.text + bundle.text


def cause_of(url: str, settings: Settings) -> str | None:
    with closing(Upstream(url, settings)) as upstream, pytest.raises(SourceError) as caught:
        upstream.stat("a", Caller())
    return caught.value.cause


def test_a_certificate_of_another_host_is_told_to_the_operator(files):
    with serving(name="files.internal") as upstream:
        host = upstream.host.replace("127.0.0.1", "localhost")
        cause = cause_of(f"https://{host}/", Settings(upstream_ca_file=files.ca))
    assert cause == f"hostname does not match the certificate ({host})"


def test_a_self_signed_certificate_is_told_to_the_operator(files, tmp_path):
    (tmp_path / "self.pem").write_bytes(CA.private_key_pem.bytes() + CA.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "self.pem")
    with FilesUpstream(dict(FILES), tls=context) as upstream:
        cause = cause_of(upstream.url, Settings(upstream_ca_file=files.other_ca))
    assert cause == f"self-signed certificate ({upstream.host})"


@pytest.mark.parametrize(
    "shown", [{"cert": "both"}, {"cert": "certificate", "key": "key"}], ids=["one file", "apart"]
)
def test_the_client_certificate_is_shown_to_an_upstream_that_requires_it(files, shown):
    chosen = {f"upstream_{kind}_file": getattr(files, name) for kind, name in shown.items()}
    with (
        serving(clients=CA) as upstream,
        gateway_to(upstream, upstream_ca_file=files.ca, **chosen) as app,
    ):
        assert app.get("/a").body == b"alpha"
        assert b"alpha" in app.get("/?bundle=a").body


@pytest.mark.parametrize("clients", [CA, OTHER_CA], ids=["none is shown", "another is required"])
def test_an_upstream_that_requires_another_client_gives_nothing(files, clients):
    chosen = {} if clients is CA else {"upstream_cert_file": files.both}
    with (
        serving(clients=clients) as upstream,
        gateway_to(upstream, upstream_ca_file=files.ca, **chosen) as app,
    ):
        assert app.get("/a", status=502).json["status"] == 502
        app.get("/?bundle=a", status=502)
        assert upstream.requests == []


@pytest.mark.parametrize("worker", ["threads", "gevent"])
def test_each_worker_class_speaks_tls(files, tmp_path, worker):
    shown = {"upstream_ca_file": str(files.ca), "upstream_cert_file": str(files.both)}
    with (
        serving(clients=CA) as upstream,
        gateway(upstream.url, tmp_path, *WORKERS[worker], **shown) as running,
        urllib.request.urlopen(running.url + "?bundle=a") as answer,
    ):
        assert b"alpha" in answer.read()
    assert "Warning" not in running.log.read_text()


def cut_off(listener: socket.socket, tls: ssl.SSLContext, head: bytes) -> None:
    """Answer one request by half a file, and cut the connection without TLS's own farewell."""
    accepted, _ = listener.accept()
    with tls.wrap_socket(accepted, server_side=True) as connection:
        while b"\r\n\r\n" not in connection.recv(4096):
            pass
        connection.sendall(head + b"half a file")
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


@pytest.mark.parametrize("ends", ["untold", "told"])
def test_a_connection_that_is_cut_is_no_end_of_a_file(files, ends):
    head = b"HTTP/1.1 200 OK\r\n"
    head += b"Content-Length: 99\r\n\r\n" if ends == "told" else b"\r\n"
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("127.0.0.1").configure_cert(tls)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        served = threads.submit(cut_off, listener, tls, head)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        with closing(Upstream(url, Settings(upstream_ca_file=files.ca))) as upstream:
            answer = forwarded(upstream, "GET", "a", [], Caller())
            with closing(answer.content), pytest.raises(SourceError, match="broke the connection"):
                list(iter(lambda: answer.content.read(4096), b""))
        served.result()


def test_a_plain_server_behind_an_https_url_gives_nothing(files):
    with FilesUpstream(dict(FILES)) as upstream:
        settings = Settings(upstream_ca_file=files.ca)
        with (
            closing(Upstream(f"https://{upstream.host}/", settings)) as https,
            pytest.raises(SourceError, match="TLS connection to the upstream failed") as caught,
        ):
            https.stat("a", Caller())
    assert (caught.value.unreachable, caught.value.transient) == (True, False)
    assert caught.value.cause is not None
    assert "wrong version number" in caught.value.cause


# --- files that can't be used ------------------------------------------------------------------

WRONG = [
    pytest.param({"ca": "garbage"}, "garbage.pem holds no certificate", id="no authority"),
    pytest.param({"ca": "key"}, "key.pem holds no certificate", id="a key for an authority"),
    pytest.param({"cert": "garbage"}, "garbage.pem must hold", id="no certificate"),
    pytest.param({"cert": "certificate"}, "and the same file its key", id="no key"),
    pytest.param({"cert": "key", "key": "key"}, "key.pem must hold a certificate", id="only keys"),
    pytest.param(
        {"cert": "certificate", "key": "garbage"}, "garbage.pem its key", id="a broken key"
    ),
    pytest.param(
        {"cert": "certificate", "key": "other_key"},
        "the key in {other_key} is not that of the certificate",
        id="another's key",
    ),
    pytest.param(
        {"cert": "certificate", "key": "locked_key"}, "without a password", id="a locked key"
    ),
    pytest.param({"key": "key"}, "no certificate is given with it", id="a key alone"),
]


def settings_for(files: Files, given: dict[str, str]) -> dict[str, str]:
    return {f"upstream_{kind}_file": str(getattr(files, name)) for kind, name in given.items()}


@pytest.mark.parametrize(("given", "reason"), WRONG)
def test_files_that_cannot_be_used_are_refused_in_one_line(files, given, reason):
    with pytest.raises(SettingsError) as refused:
        Upstream("https://files.internal/", Settings(**settings_for(files, given)))
    line = str(refused.value)
    assert line.startswith("the certificates for the upstream can't be used: ")
    assert reason.format(other_key=files.other_key) in line
    assert len(line.splitlines()) == 1


def test_a_file_that_has_gone_is_refused_in_one_line(files, tmp_path):
    gone = tmp_path / "gone.pem"
    gone.touch()
    for settings in (Settings(upstream_ca_file=gone), Settings(upstream_cert_file=gone)):
        gone.unlink()
        with pytest.raises(SettingsError, match=r"gone\.pem.*: No such file or directory$"):
            Upstream("https://files.internal/", settings)
        gone.touch()


STARTS = [
    pytest.param({"ca": "garbage"}, "garbage.pem holds no certificate", id="authorities"),
    pytest.param(
        {"cert": "certificate", "key": "other_key"}, "is not that of the certificate", id="keys"
    ),
    pytest.param({"headers": "garbage"}, "line 1 is not 'Name: value'", id="headers"),
    pytest.param({"cert": "missing"}, "TAR_GATEWAY_UPSTREAM_CERT_FILE is", id="no such file"),
]


@pytest.mark.parametrize(("given", "reason"), STARTS)
def test_neither_start_goes_on_with_a_file_that_cannot_be_used(files, given, reason):
    here = files.garbage.parent
    paths = {kind: getattr(files, name, here / name) for kind, name in given.items()}
    environment = {f"TAR_GATEWAY_UPSTREAM_{k.upper()}_FILE": str(p) for k, p in paths.items()}
    by_command = typed("serve", "https://files.internal/", **environment)
    by_gunicorn = gunicorn(
        "--bind",
        "127.0.0.1:0",
        TAR_GATEWAY_UPSTREAM="https://files.internal/",
        **environment,
    )
    for done in (by_command, by_gunicorn):
        assert done.returncode == 1
        assert reason in done.stderr
        assert len(done.stderr.splitlines()) == 1
