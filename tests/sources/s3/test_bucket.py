"""A bucket's objects and directories over real sockets, and what no caller can make of them."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from urllib.parse import parse_qs, urlsplit

import pytest
from webtest import TestApp

from tar_gateway import S3, Gateway, Locations, Replicas, Settings, SettingsError
from tar_gateway.errors import ContentTooLarge, MemberChanged, SourceError
from tar_gateway.sources import Caller, Stat
from tests.sources.s3.test_composing import SUBRESOURCES
from tests.support.fakes import waited
from tests.support.keys import error, page
from tests.support.scripted import Script, Scripted, Wire, answer
from tests.support.stores import Keys

KEYS = Keys("AKIAOURS", "our-secret")
MODIFIED = "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT"
DATE = "Date: Wed, 25 Nov 2026 12:00:00 GMT"
DATA = b"0123456789"
PUBLIC = Settings(s3_public=True, retry_pause=0, retries=1, plan_memory=0)


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in KEYS.environment.items():
        monkeypatch.setenv(name, value)


def stored(*headers: str, data: bytes = DATA, etag: str = '"x"') -> Script:
    """Be an object, as a store gives it; heed a range and conditions."""

    def script(wire: Wire) -> None:
        tag, asked = f"ETag: {etag}", wire.request.get("Range")
        about = (tag, MODIFIED, DATE, "Content-Type: text/plain", *headers)
        if wire.request.get("If-Match") not in {None, etag}:
            answer(error("PreconditionFailed"), status="412 Precondition Failed")(wire)
        elif wire.request.get("If-None-Match") == etag:
            answer(b"", *about, status="304 Not Modified", length=None)(wire)
        elif asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            stop = min(int(last or len(data)) + 1, len(data))
            told = f"Content-Range: bytes {first}-{stop - 1}/{len(data)}"
            answer(data[int(first) : stop], told, *about, status="206 Partial Content")(wire)
        else:
            answer(data, *about)(wire)

    return script


@pytest.fixture
def server() -> Iterator[Scripted]:
    missing = answer(error("NoSuchKey", Key="pre/a", BucketName="bucket"), status="404 Not Found")
    with Scripted(default=missing) as scripted:
        yield scripted


@pytest.fixture
def bucket(server: Scripted) -> Iterator[Callable[..., S3]]:
    with ExitStack() as made:

        def make(url: str = "s3://bucket/pre/", **settings: object) -> S3:
            used = Settings(**{"retries": 0, **settings})
            source = S3(url, used, endpoint=server.url.rstrip("/"))
            return made.enter_context(closing(source))

        yield make


def stat(source: S3, path: str = "a") -> Stat:
    return waited(source.stat_steps(path, Caller()))


def read(source: S3, told: Stat, start: int = 0, stop: int | None = None) -> bytes:
    stop = told.size if stop is None else stop
    with closing(waited(source.open_steps("a", start, stop, told, Caller()))) as content:
        return b"".join(iter(lambda: content.read(100), b""))


def listed(source: S3, path: str = "d/", *, deep: bool = False) -> list[tuple[str, bool]]:
    found = waited(source.list_steps(path, Caller(), deep=deep))
    return [(each.name, each.is_directory) for each in found.entries]


# --- objects --------------------------------------------------------------------------------------


def test_an_object_is_known_by_one_head(server, bucket):
    server.on("/bucket/pre/a", stored())
    told = stat(bucket())
    assert (told.size, told.mtime, told.validator.text) == (10, 1_700_000_000, '"x"')
    assert told.dated is None  # lists tell its tag, which makes up the archive's
    assert [(seen.method, seen.target) for seen in server.requests] == [("HEAD", "/bucket/pre/a")]


def test_an_empty_object_is_known_by_one_head_where_its_tag_proves_it(server, bucket):
    server.on("/bucket/pre/a", stored(data=b"", etag='"d41d8cd98f00b204e9800998ecf8427e"'))
    assert stat(bucket()).size == 0
    assert len(server.requests) == 1


def test_a_head_without_a_length_is_no_empty_object(server, bucket):
    def badly(wire: Wire) -> None:
        (answer(b"", 'ETag: "x"') if wire.request.method == "HEAD" else stored())(wire)

    server.on("/bucket/pre/a", badly)
    assert stat(bucket()).size == 10
    assert [seen.method for seen in server.requests] == ["HEAD", "GET"]


CRC = "x-amz-checksum-crc32: GSBizw=="


@pytest.mark.parametrize(
    ("headers", "etag", "checksum"),
    [
        ([CRC, "x-amz-checksum-type: FULL_OBJECT"], '"x-2"', 0x192062CF),
        ([CRC, "x-amz-checksum-type: COMPOSITE"], '"x"', None),
        ([CRC], '"x"', 0x192062CF),
        ([CRC], '"x-2"', None),
        (["x-amz-checksum-crc32: GSBizw==-2", "x-amz-checksum-type: FULL_OBJECT"], '"x"', None),
        (["x-amz-checksum-crc32: !!!!!w==", "x-amz-checksum-type: FULL_OBJECT"], '"x"', None),
        (["x-amz-checksum-crc64nvme: AAAAAAAAAAA="], '"x"', None),
        ([], '"x"', None),
    ],
)
def test_a_checksum_is_told_where_it_is_of_the_whole_object(
    server, bucket, headers, etag, checksum
):
    server.on("/bucket/pre/a", stored(*headers, etag=etag))
    assert stat(bucket()).checksum == checksum
    assert server.requests[0].get("x-amz-checksum-mode") == "ENABLED"


def test_a_told_checksum_that_the_bytes_contradict_breaks_the_archive(server, bucket):
    server.on("/bucket/pre/a", stored(CRC, "x-amz-checksum-type: FULL_OBJECT"))
    app = TestApp(Gateway(bucket(s3_public=True), PUBLIC))
    with pytest.raises(Exception, match="CRC-32"):
        app.get("/?bundle=a&format=zip")


def test_a_slice_is_asked_for_on_condition_of_its_version(server, bucket):
    server.on("/bucket/pre/a", stored())
    source = bucket()
    told = stat(source)
    assert read(source, told, 2, 5) == b"234"
    assert read(source, told) == DATA
    part, whole = server.requests[1:]
    assert (part.get("If-Match"), part.get("Range")) == ('"x"', "bytes=2-4")
    assert (whole.get("If-Match"), whole.get("Range")) == ('"x"', None)


def test_another_version_is_no_part_of_the_archive(server, bucket):
    server.on("/bucket/pre/a", stored(), stored(etag='"y"'))
    source = bucket()
    told = stat(source)
    with pytest.raises(MemberChanged):
        read(source, told)


def test_an_object_is_what_was_stored_whatever_its_coding_is_called(server, bucket):
    server.on("/bucket/pre/a", stored("Content-Encoding: gzip"))
    source = bucket()
    assert read(source, stat(source)) == DATA


@pytest.mark.parametrize(
    ("headers", "archived"),
    [
        (["x-amz-storage-class: GLACIER"], True),
        (["x-amz-storage-class: DEEP_ARCHIVE", 'x-amz-restore: ongoing-request="true"'], True),
        (["x-amz-storage-class: GLACIER", 'x-amz-restore: ongoing-request="false", x'], False),
        (["x-amz-storage-class: STANDARD_IA"], False),
    ],
)
def test_what_has_to_be_restored_first_says_so(server, bucket, headers, archived):
    server.on("/bucket/pre/a", stored(*headers))
    source = bucket()
    if archived:
        with pytest.raises(SourceError, match="has to be restored first"):
            stat(source)
    else:
        assert stat(source).size == 10


def test_missing_files_cost_a_request_each_but_for_the_first_of_a_download(server, bucket):
    source, caller = bucket(), Caller()
    server.on("/bucket", answer(page()))
    for number in range(15):
        with pytest.raises(SourceError, match="does not exist"):
            waited(source.stat_steps(f"none{number}", caller))
    asked = [seen for seen in server.requests if seen.path == "/bucket"]
    assert (len(asked), len(server.requests)) == (10, 25)
    assert all(parse_qs(urlsplit(each.target).query)["max-keys"] == ["1"] for each in asked)


def test_credentials_that_may_not_list_still_tell_of_missing_files(server, bucket):
    server.on("/bucket", answer(error("AccessDenied"), status="403 Forbidden"))
    with pytest.raises(SourceError) as told:
        stat(bucket())
    assert told.value.reason == "it does not exist"
    assert bucket().reach() == 403


def test_a_missing_bucket_is_looked_for_again_for_each_file(server, bucket):
    server.on("/bucket", answer(error("NoSuchBucket"), status="404 Not Found"))
    source, caller = bucket(), Caller()
    for _ in range(12):
        with pytest.raises(SourceError) as told:
            waited(source.stat_steps("a", caller))
        assert (told.value.status, told.value.cause) == (502, "NoSuchBucket")
    with pytest.raises(SourceError):
        source.reach()


@pytest.mark.parametrize("status", ["206 Partial Content", "304 Not Modified"])
def test_an_answer_that_nobody_asked_for_is_an_error(server, bucket, status):
    server.on("/bucket/pre/a", answer(DATA, 'ETag: "x"', status=status))
    with pytest.raises(SourceError) as told:
        stat(bucket())
    assert told.value.status == 502


def test_a_size_that_is_not_told_may_be_the_next_time(server, bucket):
    server.on("/bucket/pre/a", answer(b"", 'ETag: "x"', length=None))
    with pytest.raises(SourceError) as told:
        stat(bucket())
    assert told.value.transient


# --- directories ----------------------------------------------------------------------------------


def query_of(number: int, server: Scripted) -> dict[str, str]:
    parts = urlsplit(server.requests[number].target)
    return {name: values[0] for name, values in parse_qs(parts.query).items()}


def test_a_list_goes_on_until_it_says_that_it_ends(server, bucket):
    server.on(
        "/bucket",
        answer(page(("pre/d/a", 1, "x"), token="t/1=")),
        answer(page(token="t2")),  # a page may be empty
        answer(page(("pre/d/b", 1, "x"), prefixes=["pre/d/e/"])),
    )
    assert listed(bucket()) == [("a", False), ("b", False), ("e", True)]
    assert [query_of(number, server).get("continuation-token") for number in range(3)] == [
        *(None, "t/1=", "t2")
    ]
    assert {query_of(number, server)["prefix"] for number in range(3)} == {"pre/d/"}


def test_a_whole_tree_is_listed_without_a_delimiter(server, bucket):
    server.on("/bucket", answer(page(("pre/d/a/b", 1, "x"))))
    found = waited(bucket().list_steps("d/", Caller(), deep=True))
    assert found.entries[0].listing.entries[0].name == "b"
    assert (found.requests, found.entries[0].listing.requests) == (1, 0)
    assert "delimiter" not in query_of(0, server)


def test_a_directory_of_which_no_key_begins_does_not_exist(server, bucket):
    server.on("/bucket", answer(page()))
    with pytest.raises(SourceError) as told:
        listed(bucket())
    assert told.value.status == 404
    assert listed(bucket(), "") == []  # the base is there


@pytest.mark.parametrize(
    "broken",
    [
        answer(page(("pre/d/a", 1, "x"))[:-20]),
        answer(page(("pre2/a", 1, "x"))),
        answer(page(("pre/d/a", 1, "x"), ("pre/d/a", 1, "x"))),
        answer(b"<html>log in</html>"),
        answer(page(("pre/d/a", 1, "x"), token="same")),
        answer(page(), status="204 No Content"),
    ],
)
def test_a_list_that_is_wrong_is_an_error(server, bucket, broken):
    server.on("/bucket", broken)
    with pytest.raises(SourceError) as told:
        listed(bucket(), deep=True)
    assert told.value.status == 502


def test_keys_that_are_no_paths_make_an_error_or_are_reported(server, bucket):
    keys = ["pre/d/a", "pre/d//b", "pre/d/../../pre2/secret", "pre/d/x\x01"]
    server.on("/bucket", answer(page(*((key, 10, '"x"') for key in sorted(keys)))))
    server.on("/bucket/pre/d/a", stored())
    app = TestApp(Gateway(bucket(s3_public=True), PUBLIC))
    told = app.get("/?bundle=d/", status=502).json["members"][0]["reason"]
    assert told.startswith("this directory cannot be listed: it lists the name '")
    left = app.get("/?bundle=d/&missing=report&plan=json").json
    assert {each["path"] for each in left["missing"]} == {
        *("d//b", "d/../../pre2/secret", r"d/x\x01")
    }
    assert [each["name"] for each in left["members"]] == ["d/a", "MISSING.txt"]


def test_directories_that_are_alike_are_no_loop(server, bucket):
    def keys(wire: Wire) -> None:
        prefix = parse_qs(urlsplit(wire.request.target).query)["prefix"][0]
        below = [(f"{prefix}file", 10, '"x"')] if prefix.count("/") > 6 else []
        answer(page(*below, prefixes=[] if below else [f"{prefix}a/"]))(wire)

    server.on("/bucket", keys)
    app = TestApp(Gateway(bucket(s3_public=True), PUBLIC))
    plan = app.get("/?bundle=a/&include=**&plan=json", status=200).json
    assert [each["name"] for each in plan["members"]] == ["a/a/a/a/a/a/file"]


def test_a_list_without_end_is_left(server, bucket):
    def more(wire: Wire) -> None:
        number = len(server.requests)
        answer(page((f"pre/d/{number}", 1, "x"), token=f"t{number}"))(wire)

    server.on("/bucket", more)
    with pytest.raises(ContentTooLarge):
        listed(bucket(max_listings=7))
    assert len(server.requests) == 7
    with pytest.raises(ContentTooLarge):
        listed(bucket(max_members=1))
    assert len(server.requests) == 18
    with pytest.raises(SourceError, match="MAX_LISTING"):
        listed(bucket(max_listing=100))


def test_without_listings_nothing_is_listed(server, bucket):
    with pytest.raises(SourceError) as told:
        listed(bucket(listings="no"))
    assert (told.value.status, server.requests) == (404, [])


def test_a_bundle_of_a_directory_asks_for_no_heads(server, bucket):
    server.on("/bucket", answer(page(*((f"pre/d/{n}", 10, '"x"') for n in range(5)))))
    for number in range(5):
        server.on(f"/bucket/pre/d/{number}", stored())
    app = TestApp(Gateway(bucket(s3_public=True), PUBLIC))
    assert app.get("/?bundle=d/").headers["Accept-Ranges"] == "bytes"
    assert [seen.method for seen in server.requests] == ["GET"] * 6


def test_an_authority_is_asked_about_each_directory_of_a_tree_that_came_in_one_list(server, bucket):
    keys = [("pre/d/a", 10, '"x"'), ("pre/d/closed/hidden", 10, '"x"'), ("pre/d/e/b", 10, '"x"')]
    server.on("/bucket", answer(page(*keys)))
    for key, _, _ in keys:
        server.on(f"/bucket/{key}", stored())

    def judge(wire: Wire) -> None:
        closed = wire.request.get("X-Original-URI") == "/d/closed/"
        answer(b"", status="403 Forbidden" if closed else "200 OK")(wire)

    with Scripted({"/check": judge}) as authority:
        settings = Settings(auth_request=f"{authority.url}check", retry_pause=0)
        with closing(Gateway(bucket(), settings)) as gateway:
            app = TestApp(gateway)
            refused = app.get("/?bundle=d/", status=403)
            assert refused.json["members"][0]["path"] == "d/closed/"
            assert "hidden" not in refused.text
            left = app.get("/?bundle=d/&missing=skip&plan=json")
            assert [each["name"] for each in left.json["members"]] == ["d/a", "d/e/b"]
            assert "hidden" not in left.text
        asked = {seen.get("X-Original-URI") for seen in authority.requests}
    assert asked == {"/d/", "/d/closed/", "/d/e/", "/d/a", "/d/e/b"}
    assert not any("hidden" in seen.target for seen in server.requests)


def test_another_location_below_a_bucket_keeps_its_own_files(server, bucket):
    def keys(wire: Wire) -> None:
        below = "pre/d/" in wire.request.target or "pre%2Fd%2F" in wire.request.target
        deep = "delimiter" not in wire.request.target
        told = [("pre/d/secret", 10, '"x"')] if deep or below else []
        answer(page(("pre/a", 10, '"x"'), *told, prefixes=[] if deep else ["pre/d/"]))(wire)

    server.on("/bucket", keys)
    server.on("/other", answer(page(("b", 10, '"x"'))))
    for path in ("/bucket/pre/a", "/other/b"):
        server.on(path, stored())
    source = Locations({"/": bucket(), "/d/": bucket("s3://other/")})
    app = TestApp(Gateway(source, PUBLIC))
    plan = app.get("/?bundle=./&plan=json").json
    assert [each["name"] for each in plan["members"]] == ["a", "d/b"]


def test_equivalent_buckets_stand_in_for_each_other(server, bucket):
    server.on("/first/a", answer(error("InternalError"), status="500 Internal Server Error"))
    server.on("/second/a", stored())
    for url in ("s3://first/", "s3://second/"):
        server.on(urlsplit(url).path, answer(b""))
    source = Replicas([bucket("s3://first/"), bucket("s3://second/")])
    assert waited(source.stat_steps("a", Caller())).size == 10


# --- plain requests, and what no caller can do ----------------------------------------------------


def test_what_a_store_tells_of_itself_reaches_no_client(server, bucket):
    server.on(
        "/bucket/pre/a",
        stored(
            *("x-amz-request-id: 1", "x-amz-meta-owner: ann", "x-amz-version-id: 1"),
            *("X-Archive-Files: zip", "Set-Cookie: a=b", "Location: http://store/", "Server: s"),
        ),
    )
    app = TestApp(Gateway(bucket(s3_public=True), PUBLIC))
    told = app.get("/a")
    ours = {"Server-Timing", "X-Request-ID", "Content-Length"}
    assert set(told.headers) - ours == {"Content-Type", "ETag", "Last-Modified"}
    missing = app.get("/none", status=404)
    assert "bucket" not in missing.text
    assert "pre/" not in missing.text


HOSTILE = {
    **{"X-Amz-Acl": "public-read", "X-Amz-Security-Token": "theirs", "X-Amz-Date": "20200101"},
    **{"X-Amz-Copy-Source": "other/key", "X-Amz-Request-Payer": "requester", "Cookie": "theirs"},
    **{"X-Amz-Expected-Bucket-Owner": "theirs", "X-Amz-Content-Sha256": "theirs"},
    **{"Authorization": "AWS4-HMAC-SHA256 Credential=THEIRS/x", "X-Forwarded-Host": "theirs"},
    **{"X-HTTP-Method-Override": "DELETE", "Referer": "http://theirs/", "User-Agent": "theirs"},
    **{"X-Original-URL": "/other", "X-Amz-Server-Side-Encryption-Customer-Key": "theirs"},
    **{"Range": "bytes=0-4", "If-None-Match": '"theirs"', "Accept": "theirs", "Via": "1.1 theirs"},
}
OURS = {
    *("host", "user-agent", "accept-encoding", "authorization", "x-amz-date", "range"),
    *("x-amz-content-sha256", "x-amz-checksum-mode", "if-match", "if-none-match"),
}
NAMES = ["a", "d/", "", "../pre2/secret", "%2e%2e/pre2/secret", "..%2fpre2%2fsecret", "./d/../a"]
NAMES += ["/other", "//other/a", "d//a", "a%00", "a%3Facl", "a%26acl", "a%0d%0ax-amz-acl:%20a"]


def test_no_request_that_a_caller_words_reaches_a_store(server, bucket):
    def keys(wire: Wire) -> None:
        holds = parse_qs(urlsplit(wire.request.target).query)["prefix"] == ["pre/d/"]
        answer(page(("pre/d/a", 10, '"x"')) if holds else page())(wire)

    neighbours = ("/bucket/pre2/secret", "/other/a", "/bucket/secret", "/bucket/pre")
    for path in ("/bucket/pre/a", "/bucket/pre/d/a", *neighbours):
        server.on(path, stored())
    server.on("/bucket", keys)
    app = TestApp(Gateway(bucket(s3_public=True), PUBLIC))
    worded = [f"/{name}?{query}" for name in NAMES for query in SUBRESOURCES if query]
    bundles = [f"/?bundle={name}%3F{query}" for name in ("a", "d/") for query in SUBRESOURCES]
    beside = [f"/?bundle=a&{query}" for query in SUBRESOURCES if "v=" not in query]
    names = [f"/{name}" for name in NAMES] + [f"/?bundle={name}" for name in NAMES]
    for url in (*worded, *bundles, *beside, *names):
        for method in (app.get, app.head):
            told = method(url, headers=HOSTILE, status="*")
            assert told.status_int < 500, url
            if url in worded:
                assert told.status_int == 400, url
    assert len(server.requests) > 100
    wrong = [seen for seen in server.requests if not _is_ours(seen)]
    assert wrong == []


def _is_ours(seen) -> bool:
    parts = urlsplit(seen.target)
    query = parse_qs(parts.query, keep_blank_values=True)
    if parts.path == "/bucket":
        asked = seen.method == "GET" and query.pop("prefix")[0].startswith("pre/")
        asked = asked and query.pop("list-type") == ["2"] and query.pop("encoding-type") == ["url"]
        asked = asked and query.pop("delimiter", ["/"]) == ["/"]
        query.pop("max-keys", None)
    else:
        asked = parts.path.startswith("/bucket/pre/") and not parts.path.endswith("/")
    headers = "\n".join(f"{name}: {value}" for name, value in seen.headers)
    return (
        bool(asked)
        and not query
        and seen.method in {"GET", "HEAD"}
        and {name.lower() for name, _ in seen.headers} <= OURS
        and "theirs" not in headers.replace('If-None-Match: "theirs"', "").lower()
        and f"Credential={KEYS.id}/" in headers
        and seen.get("User-Agent") == "tar_gateway"
    )


def test_the_secret_and_the_store_are_in_no_error(server, bucket):
    server.on("/bucket/pre/a", answer(error("InvalidAccessKeyId"), status="403 Forbidden"))
    source = bucket(s3_public=True)
    told = TestApp(Gateway(source, PUBLIC)).get("/?bundle=a", status=502)
    for secret in (KEYS.id, KEYS.secret, "bucket/", str(server.port), "InvalidAccessKeyId"):
        assert secret not in told.text
    assert KEYS.secret not in repr(vars(source))


# --- who may have what ----------------------------------------------------------------------------


def test_a_bucket_is_not_for_everyone_unless_that_is_said(bucket, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("k1:" + "s" * 32)
    for source in (bucket(), Replicas([bucket()]), Locations({"/": bucket()})):
        with pytest.raises(SettingsError, match="say who may have what"):
            Gateway(source)
        for said in (
            Settings(s3_public=True),
            Settings(signing_keys_file=keys),
            Settings(auth_request="http://127.0.0.1:9/"),
        ):
            Gateway(source, said).close()
    Gateway(bucket(s3_public=True)).close()


def test_it_takes_a_bucket_and_no_other_url():
    with pytest.raises(TypeError, match="takes a bucket"):
        S3("http://files.internal/")
    with pytest.raises(SettingsError):
        S3("s3://B/")
