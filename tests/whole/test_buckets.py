"""A bucket as upstream, for real: moto with its authentication on, and s3rver."""

import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit
from zlib import crc32

import pytest
from webtest import TestApp

from tar_gateway import S3, Gateway, Settings, Upstream, sign_url
from tar_gateway.errors import SourceError
from tests.support.papers import block
from tests.support.scripted import Scripted, answer
from tests.support.servers import free_port, gateway, listens, wait_until
from tests.support.stores import ALONE, Keys, RunningStore, moto, s3rver

OBJECTS = {
    "pre/a.txt": b"abc",
    "pre/a b+c%20&=~'.txt": b"strange",
    "pre/empty": b"",
    "pre/kept/": b"",
    "pre/ü/deep/er/x.bin": bytes(range(256)) * 1000,
    "pre/ü/y": b"y",
    "pre2/secret": b"a neighbour's",
    "above": b"above the prefix",
}
NAMES = {key.removeprefix("pre/") for key in OBJECTS if key.startswith("pre/")} - {"kept/"}
PUBLIC = Settings(s3_public=True, retry_pause=0, plan_memory=0)


@pytest.fixture(scope="module")
def store() -> Iterator[RunningStore]:
    with moto() as running:
        running.fill("files", OBJECTS, ChecksumAlgorithm="CRC32")
        yield running


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)


def using(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in keys.environment.items():
        monkeypatch.setenv(name, value)


Make = Callable[..., TestApp]


@pytest.fixture
def bucket() -> Iterator[Make]:
    """Make gateways in front of a store's bucket, and close them."""
    with ExitStack() as made:

        def make(store: RunningStore, settings: Settings = PUBLIC, url="s3://files/pre/"):
            gateway = Gateway(S3(url, settings, endpoint=store.url), settings)
            made.callback(gateway.close)
            return TestApp(gateway)

        yield make


def unpacked(body: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}


def test_files_and_directories_are_bundled_and_passed_on(store, bucket, monkeypatch):
    using(store.keys, monkeypatch)
    app = bucket(store)
    whole = app.get("/?bundle=./")
    assert unpacked(whole.body) == {name: OBJECTS["pre/" + name] for name in NAMES}
    with tarfile.open(fileobj=io.BytesIO(whole.body)) as tar:
        assert tar.getmember("kept").isdir()
    assert unpacked(app.get("/%C3%BC/?bundle=deep/&bundle=y").body)
    assert app.get("/a.txt").body == b"abc"
    strange = app.get("/?bundle=a%20b%2Bc%2520%26%3D~'.txt&bundle=empty")
    assert unpacked(strange.body) == {"a b+c%20&=~'.txt": b"strange", "empty": b""}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda keys: Keys(keys.id, "another"), "SignatureDoesNotMatch"),
        (lambda keys: Keys("AKIANOBODY", keys.secret), "InvalidAccessKeyId"),
    ],
    ids=["a wrong secret", "an unknown key"],
)
def test_with_wrong_credentials_nothing_is_had_and_nothing_is_left_out(
    store, bucket, monkeypatch, change, cause
):
    wrong, right = change(store.keys), store.keys
    for path in ("/a.txt", "/?bundle=a.txt", "/?bundle=./", "/?bundle=a.txt,empty&missing=skip"):
        using(wrong, monkeypatch)
        refused = bucket(store).get(path, status=502)
        assert wrong.id not in refused.text
        assert store.url not in refused.text
        using(right, monkeypatch)
        assert bucket(store).get(path, status=200)
    using(wrong, monkeypatch)
    with pytest.raises(SourceError) as told:
        S3("s3://files/pre/", endpoint=store.url).reach()
    assert cause in told.value.for_operator


def test_what_the_credentials_may_not_have_is_denied(store, bucket, monkeypatch):
    using(store.user("poor"), monkeypatch)
    app = bucket(store)
    assert app.get("/a.txt", status=403)
    assert app.get("/?bundle=a.txt", status=403)
    assert app.get("/?bundle=./", status=403)
    assert S3("s3://files/pre/", endpoint=store.url).reach() == 403


def test_a_missing_bucket_is_no_missing_file(store, bucket, monkeypatch):
    using(store.keys, monkeypatch)
    app = bucket(store, url="s3://nowhere/")
    for path in ("/a", "/?bundle=a", "/?bundle=a&missing=skip", "/?bundle=./"):
        app.get(path, status=502)
    app = bucket(store)
    assert app.get("/none", status=404)
    left = app.get("/?bundle=a.txt,none&missing=skip")
    assert unpacked(left.body) == {"a.txt": b"abc"}


def test_a_directory_without_its_slash_and_a_file_with_one_say_what_they_are(
    store, bucket, monkeypatch
):
    using(store.keys, monkeypatch)
    app = bucket(store)
    told = app.get("/?bundle=kept", status=404).json["members"][0]["reason"]
    assert told.startswith("it is a directory: with a slash")
    told = app.get("/?bundle=a.txt/", status=404).json["members"][0]["reason"]
    assert told == "it is a file: ask for it without the slash at its end"
    told = app.get("/?bundle=none/", status=404).json["members"][0]["reason"]
    assert told == "it does not exist"


def test_an_archive_is_resumed_at_any_byte(store, bucket, monkeypatch):
    using(store.keys, monkeypatch)
    app = bucket(store)
    whole = app.get("/?bundle=./")
    for start in range(0, len(whole.body), 50_021):
        part = {"Range": f"bytes={start}-", "If-Range": whole.headers["ETag"]}
        rest = app.get("/?bundle=./", headers=part, status=206)
        assert rest.body == whole.body[start:]


def test_told_checksums_make_a_zips_ranges_free(store, bucket, monkeypatch):
    using(store.keys, monkeypatch)
    url = "/?bundle=a.txt,empty&format=zip"
    app = bucket(store, Settings(s3_public=True, reread_limit=0))
    whole = app.get(url)
    assert whole.headers["Accept-Ranges"] == "bytes"
    with zipfile.ZipFile(io.BytesIO(whole.body)) as archive:
        assert crc32(b"abc") == archive.getinfo("a.txt").CRC
    rest = app.get(url, headers={"Range": "bytes=70-", "If-Range": whole.headers["ETag"]})
    assert rest.body == whole.body[70:]


def test_an_archives_tag_is_the_same_whether_or_not_a_list_told_of_its_members(
    store, bucket, monkeypatch
):
    using(store.keys, monkeypatch)
    app = bucket(store)
    tags = {app.get(f"/?bundle=./{more}").headers["ETag"] for more in ("", "&missing=skip")}
    tags.add(app.get("/?bundle=./&include=**").headers["ETag"])
    assert len(tags) == 1


def test_plain_files_keep_their_ranges_and_conditions(store, bucket, monkeypatch):
    using(store.keys, monkeypatch)
    app = bucket(store)
    whole = app.get("/a.txt")
    tag = whole.headers["ETag"]
    assert app.head("/a.txt").headers["Content-Length"] == "3"
    assert app.get("/a.txt", headers={"If-None-Match": tag}, status=304).body == b""
    assert app.get("/a.txt", headers={"If-Match": '"other"'}, status=412).body == b""
    assert app.get("/a.txt", headers={"Range": "bytes=1-"}, status=206).body == b"bc"
    assert app.get("/a.txt", headers={"Range": "bytes=9-"}, status=416).body == b""
    there = {"Range": "bytes=1-", "If-Range": tag}
    assert app.get("/a.txt", headers=there, status=206).body == b"bc"
    gone = {"Range": "bytes=1-", "If-Range": '"other"'}
    assert app.get("/a.txt", headers=gone, status=200).body == b"abc"
    assert not [name for name in whole.headers if name.lower().startswith("x-amz")]


def test_a_store_may_have_a_host_for_each_bucket(store, monkeypatch):
    using(store.keys, monkeypatch)
    resolve = socket.getaddrinfo

    def to_loopback(host, *more, **options):
        return resolve("127.0.0.1" if host == "files.localhost" else host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", to_loopback)
    endpoint = store.url.replace("127.0.0.1", "{bucket}.localhost")
    with closing(Gateway(S3("s3://files/pre/", PUBLIC, endpoint=endpoint), PUBLIC)) as gateway:
        app = TestApp(gateway)
        assert app.get("/a%20b+c%2520&=~'.txt").body == b"strange"
        assert set(unpacked(app.get("/?bundle=./").body)) == NAMES


def test_an_upstream_may_still_hand_its_files_out_by_urls_that_are_signed_for_get(store):
    signed = store.client().generate_presigned_url(
        "get_object", Params={"Bucket": "files", "Key": "pre/a.txt"}
    )
    host = urlsplit(store.url).netloc

    def refuses_head(wire):
        status = "403 Forbidden" if wire.request.method == "HEAD" else "200 OK"
        answer(b"abc", 'ETag: "x"', status=status)(wire)

    with Scripted() as upstream, Scripted({"/signed": refuses_head}) as other:
        upstream.on("/a.txt", answer(b"", f"Location: {signed}", status="302 Found"))
        upstream.on(
            "/b.txt",
            answer(b"", f"Location: {other.url}signed?X-Amz-Signature=1", status="302 Found"),
        )
        settings = Settings(redirect_hosts=(host, f"127.0.0.1:{other.port}"), retry_pause=0)
        store.check_signatures(yes=False)  # of URLs moto can't
        try:
            with closing(Gateway(Upstream(upstream.url, settings), settings)) as gateway:
                body = TestApp(gateway).get("/?bundle=a.txt,b.txt").body
        finally:
            store.check_signatures()
        assert unpacked(body) == {"a.txt": b"abc", "b.txt": b"abc"}
        assert not any(seen.get("Authorization") for seen in other.requests)


@pytest.mark.needs("s3rver")
def test_another_store_serves_files_directories_and_ranges_as_well(tmp_path, bucket, monkeypatch):
    with s3rver(tmp_path / "store") as store:
        store.fill("files", {k: v for k, v in OBJECTS.items() if not k.endswith("/")})
        using(store.keys, monkeypatch)
        app = bucket(store)
        whole = app.get("/?bundle=./")
        assert unpacked(whole.body) == {name: OBJECTS["pre/" + name] for name in NAMES}
        part = {"Range": "bytes=700-", "If-Range": whole.headers["ETag"]}
        assert app.get("/?bundle=./", headers=part, status=206).body == whole.body[700:]
        assert app.get("/a.txt").body == b"abc"
        assert app.get("/?bundle=none", status=404)
        one_level = app.get("/?bundle=./&exclude=%C3%BC")
        assert set(unpacked(one_level.body)) == {n for n in NAMES if not n.startswith("ü/")}


# --- who may have what ---------------------------------------------------------------------------


def environment_of(marker: str) -> dict[str, str]:
    """Return what a block of shell sets for the command in it."""
    words = shlex.split(block(marker).replace("\\\n", " "))
    return dict(word.split("=", 1) for word in words if word.startswith("TAR_GATEWAY_"))


def settings_of(marker: str, store: RunningStore, place: Path) -> Mapping[str, str]:
    """Return the settings in a block, for a store and in a place of the test's own."""
    (place / "signing-keys").write_text("k1:" + "s" * 32)
    told = environment_of(marker)
    assert told.pop("TAR_GATEWAY_UPSTREAM") == "s3://reports/2026/"
    told["TAR_GATEWAY_S3_ENDPOINT"] = store.url
    if "TAR_GATEWAY_SIGNING_KEYS_FILE" in told:
        told["TAR_GATEWAY_SIGNING_KEYS_FILE"] = str(place / "signing-keys")
    return {name.removeprefix("TAR_GATEWAY_").lower(): text for name, text in told.items()}


@pytest.fixture(scope="module")
def reports(store: RunningStore) -> RunningStore:
    store.fill("reports", {"2026/jan.pdf": b"january", "2025/dec.pdf": b"december"})
    return store


def fetched(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
        return response.read()


def test_a_bucket_behind_signed_links(reports, tmp_path, monkeypatch):
    using(reports.keys, monkeypatch)
    given = settings_of("example: bucket behind signed links", reports, tmp_path)
    with gateway("s3://reports/2026/", tmp_path / "gateway", **given) as running:
        link = sign_url("/?bundle=./", "s" * 32, expires=int(time.time()) + 60, key_id="k1")
        assert unpacked(fetched(running.url.rstrip("/") + link)) == {"jan.pdf": b"january"}
        with pytest.raises(urllib.error.HTTPError, match="403"):
            fetched(running.url + "?bundle=./")
        log = running.log.read_text()
    assert reports.keys.secret not in log
    assert reports.keys.id not in log


def test_a_bucket_behind_an_authority(reports, tmp_path, monkeypatch):
    using(reports.keys, monkeypatch)
    given = settings_of("example: bucket behind an authority", reports, tmp_path)

    def judge(wire):
        allowed = wire.request.get("Cookie") == "user=ann"
        answer(b"", status="204 No Content" if allowed else "403 Forbidden", length=None)(wire)

    with Scripted({"/check": judge}) as authority:
        given["auth_request"] = authority.url + "check"
        with gateway("s3://reports/2026/", tmp_path / "gateway", **given) as running:
            body = fetched(running.url + "?bundle=./", Cookie="user=ann")
            assert unpacked(body) == {"jan.pdf": b"january"}
            for path in ("?bundle=./", "?bundle=jan.pdf", "jan.pdf"):
                with pytest.raises(urllib.error.HTTPError, match="403"):
                    fetched(running.url + path, Cookie="user=bob")
        assert [seen.get("X-Original-URI") for seen in authority.requests][:2] == ["/", "/jan.pdf"]


def test_a_bucket_in_a_program(reports, tmp_path, monkeypatch):
    using(reports.keys, monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "signing-keys").write_text("k1:" + "s" * 32)
    made: dict[str, object] = {}
    text = block("example: bucket in a program")
    exec(text.replace("http://127.0.0.1:9000", reports.url), made)
    link = sign_url("/?bundle=./", "s" * 32, expires=int(time.time()) + 60, key_id="k1")
    with closing(made["application"]):
        assert unpacked(TestApp(made["application"]).get(link).body) == {"jan.pdf": b"january"}


def run_check(**settings: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tar_gateway.cli", "check"]
    return subprocess.run(command, env=environment_with(settings), capture_output=True, text=True)


def test_a_bucket_is_served_by_the_command_as_any_upstream(reports, monkeypatch):
    using(reports.keys, monkeypatch)
    command = [sys.executable, "-m", "tar_gateway.cli", "serve", "s3://reports/2026/"]
    told = {"S3_ENDPOINT": reports.url}
    refused = subprocess.run(command, env=environment_with(told), capture_output=True, text=True)
    assert refused.returncode != 0
    assert "TAR_GATEWAY_S3_PUBLIC=yes" in refused.stderr
    port = free_port()
    told["S3_PUBLIC"] = "yes"
    command += ["--bind", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        command, env=environment_with(told), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: listens(port), "the gateway")
        body = fetched(f"http://127.0.0.1:{port}/?bundle=./")
        assert unpacked(body) == {"jan.pdf": b"january"}
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def environment_with(settings: Mapping[str, str]) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TAR_GATEWAY_")}
    return kept | {f"TAR_GATEWAY_{name.upper()}": text for name, text in settings.items()}


def test_check_tells_whether_the_bucket_can_be_had_and_by_whom(reports, monkeypatch):
    using(reports.keys, monkeypatch)
    told = run_check(upstream="s3://reports/2026/", s3_endpoint=reports.url)
    assert told.returncode != 0
    assert "TAR_GATEWAY_S3_PUBLIC=yes" in told.stderr + told.stdout
    told = run_check(upstream="s3://reports/2026/", s3_endpoint=reports.url, s3_public="yes")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "upstream: s3://reports/2026/ answers 200" in told.stdout
    assert "everyone may have what the gateway's own credentials open (S3_PUBLIC)" in told.stdout
    using(Keys(reports.keys.id, "wrong"), monkeypatch)
    told = run_check(upstream="s3://reports/2026/", s3_endpoint=reports.url, s3_public="yes")
    assert told.returncode != 0
    assert "SignatureDoesNotMatch" in told.stdout + told.stderr


def test_check_warns_of_service_headers_that_open_an_upstream_to_everyone(tmp_path):
    headers, keys = tmp_path / "headers", tmp_path / "keys"
    headers.write_text("Authorization: Bearer x\n")
    keys.write_text("k1:" + "s" * 32)
    warning = "everyone may have what the gateway's own credentials open (UPSTREAM_HEADERS_FILE)"
    with Scripted(default=answer(b"")) as server:
        told = {"upstream": server.url, "upstream_headers_file": str(headers)}
        assert warning in run_check(**told).stdout
        assert warning not in run_check(**told, signing_keys_file=str(keys)).stdout
        assert warning not in run_check(upstream=server.url).stdout


def test_a_policy_as_the_page_shows_it_is_json():
    text = Path(__file__).parents[2].joinpath("docs/upstreams.md").read_text("utf-8")
    policy = json.loads(text.partition("```json\n")[2].partition("```")[0])
    assert [each["Action"] for each in policy["Statement"]] == ["s3:GetObject", "s3:ListBucket"]
