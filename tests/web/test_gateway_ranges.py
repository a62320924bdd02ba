"""Parts of archives and conditional requests: exactly the slice, and nothing else asked for."""

from collections.abc import Iterator

import pytest
from webtest import TestApp

from tests.support.answers import lasting
from tests.support.files_upstream import Canned, File, FilesUpstream, gateway_to

URL = "/reports/?bundle=a.txt&bundle=b.txt&bundle=c.txt"
A, B, C = b"alpha" * 200, b"beta" * 300, b"gamma" * 400

# Where the archive's parts begin: a header block is 512 bytes, data is filled up to blocks.
A_DATA, B_HEADER, B_DATA, C_HEADER, C_DATA = 512, 1536, 2048, 3584, 4096
TRAILER = 4096 + 2048
SIZE = 10240

DATE = "Sun, 13 Sep 2020 12:26:40 GMT"
EARLIER = "Sun, 13 Sep 2020 12:26:39 GMT"
LATER = "Sun, 13 Sep 2020 12:26:41 GMT"


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    files = {"reports/a.txt": A, "reports/b.txt": B, "reports/c.txt": C}
    with FilesUpstream(dict(files)) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream) as running:
        yield running


@pytest.fixture
def whole(app: TestApp, upstream: FilesUpstream) -> Iterator[TestApp]:
    """The whole archive's answer, with nothing asked since."""
    response = app.get(URL)
    upstream.requests.clear()
    return response


def fetches(upstream: FilesUpstream) -> list[tuple[str, str | None]]:
    return [(each.target[-5:], each.headers.get("range")) for each in upstream.asked("GET")]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        (f"bytes=0-{SIZE}", 0, SIZE),
        ("bytes=1-1", 1, 2),
        ("bytes=511-512", 511, 513),
        (f"bytes={A_DATA + 7}-{B_DATA + 9}", A_DATA + 7, B_DATA + 10),
        (f"bytes={B_HEADER}-{B_DATA - 1}", B_HEADER, B_DATA),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes={SIZE - 1}-99999999999", SIZE - 1, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-5000", SIZE - 5000, SIZE),
        ("bytes=-99999999999", 0, SIZE),
        ("Bytes = 5-6".replace(" ", ""), 5, 7),
    ],
)
def test_a_range_is_answered_with_exactly_the_slice(app, whole, asked, start, stop):
    part = app.get(URL, headers={"Range": asked}, status=206)
    assert part.body == whole.body[start:stop]
    assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert part.headers["Content-Length"] == str(stop - start)


def test_a_part_has_the_headers_of_the_whole_but_for_its_place(app, whole):
    part = dict(lasting(app.get(URL, headers={"Range": "bytes=9-18"})))
    assert part.pop("Content-Range") == f"bytes 9-18/{SIZE}"
    assert part.pop("Content-Length") == "10"
    expected = dict(lasting(whole))
    assert expected.pop("Content-Length") == str(SIZE)
    assert part == expected


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 512, []),
        (A_DATA + len(A), B_DATA, []),
        (TRAILER, SIZE, []),
        (B_DATA, B_DATA + 1, [("b.txt", "bytes=0-0")]),
        (B_DATA + 5, B_DATA + len(B), [("b.txt", "bytes=5-1199")]),
        (B_HEADER, C_HEADER, [("b.txt", None)]),
        (
            B_DATA + len(B) - 1,
            C_DATA + 3,
            [("b.txt", "bytes=1199-1199"), ("c.txt", "bytes=0-2")],
        ),
        (
            A_DATA + 1,
            C_DATA + 1,
            [("a.txt", "bytes=1-999"), ("b.txt", None), ("c.txt", "bytes=0-0")],
        ),
    ],
)
def test_only_what_a_range_touches_is_asked_for(app, upstream, whole, *, start, stop, expected):
    part = app.get(URL, headers={"Range": f"bytes={start}-{stop - 1}"}, status=206)
    assert part.body == whole.body[start:stop]
    # Small members are fetched ahead, so their order is nobody's to rely on.
    assert sorted(fetches(upstream), key=str) == sorted(expected, key=str)


def test_an_archive_in_pieces_is_the_archive_even_from_different_gateways(upstream, app, whole):
    with gateway_to(upstream) as other:
        pieces = [
            (app, other)[index % 2]
            .get(
                URL, headers={"Range": f"bytes={at}-{at + 1022}", "If-Range": whole.headers["ETag"]}
            )
            .body
            for index, at in enumerate(range(0, SIZE, 1023))
        ]
    assert b"".join(pieces) == whole.body


@pytest.fixture
def etag(whole) -> str:
    return whole.headers["ETag"]


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-0,5-6",
        "bytes=0-0, -1",
        "bytes=6-5",
        "bytes=-",
        "bytes=",
        "bytes=a-b",
        "bytes=--1",
        "bytes=0x0-9",
        "bytes=1_0-20",
        "bytes=\u0661-\u0662".encode().decode("latin-1"),
        "bytes=" + "9" * 5000 + "-",
        "items=0-5",
        "0-5",
        "",
    ],
)
def test_what_is_not_one_range_gives_the_whole(app, whole, asked):
    response = app.get(URL, headers={"Range": asked}, status=200)
    assert response.body == whole.body
    assert "Content-Range" not in response.headers


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 1}", "bytes=-0"])
def test_a_range_that_holds_no_byte_is_416(app, upstream, whole, asked):
    response = app.get(URL, headers={"Range": asked}, status=416)
    assert response.headers["Content-Range"] == f"bytes */{SIZE}"
    assert response.json["status"] == 416
    assert fetches(upstream) == []


@pytest.mark.parametrize("matches", [True, False])
def test_if_range_gives_the_part_of_the_same_archive_only(app, etag, matches):
    condition = etag if matches else '"another"'
    response = app.get(URL, headers={"Range": "bytes=0-9", "If-Range": condition})
    assert response.status_int == (206 if matches else 200)
    assert len(response.body) == (10 if matches else SIZE)


@pytest.mark.parametrize("condition", ["*", DATE, LATER, "x GMT", 'W/"weak"', ""])
def test_if_range_takes_nothing_but_the_strong_tag(app, whole, condition):
    response = app.get(URL, headers={"Range": "bytes=0-9", "If-Range": condition}, status=200)
    assert response.body == whole.body


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("If-None-Match", "{etag}", 304),
        ("If-None-Match", 'W/{etag}, "x"', 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", '"x"', 200),
        ("If-Match", "{etag}", 200),
        ("If-Match", '"x", {etag}', 200),
        ("If-Match", "*", 200),
        ("If-Match", "W/{etag}", 412),
        ("If-Match", '"x"', 412),
        ("If-Modified-Since", DATE, 304),
        ("If-Modified-Since", LATER, 304),
        ("If-Modified-Since", EARLIER, 200),
        ("If-Modified-Since", "yesterday", 200),
        ("If-Unmodified-Since", DATE, 200),
        ("If-Unmodified-Since", EARLIER, 412),
        ("If-Unmodified-Since", "%ff", 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions_decide_on_get_and_head_alike(app, etag, method, *, header, value, status):
    headers = {header: value.replace("{etag}", etag)}
    response = app.request(URL, method=method, headers=headers, expect_errors=True)
    assert response.status_int == status


def link_to(etag: str) -> str:
    return f'<{URL.removeprefix("/reports/")}&v={etag.strip(chr(34))}>; rel="bookmark"'


def test_not_modified_says_what_rfc_9110_wants_and_asks_for_nothing(app, upstream, whole, etag):
    response = app.get(URL, headers={"If-None-Match": etag}, status=304)
    assert response.body == b""
    assert fetches(upstream) == []
    assert sorted(lasting(response)) == [
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "private, no-cache, no-transform"),
        ("ETag", etag),
        ("Last-Modified", DATE),
        ("Link", link_to(etag)),
        ("Vary", "Authorization, Cookie"),
    ]


def test_a_failed_precondition_asks_for_nothing(app, upstream, whole):
    response = app.get(URL, headers={"If-Match": '"x"'}, status=412)
    assert response.content_type == "application/problem+json"
    assert fetches(upstream) == []


def test_head_has_no_ranges(app, whole):
    response = app.head(URL, headers={"Range": "bytes=0-9"}, status=200)
    assert lasting(response) == lasting(whole)


def test_post_has_no_ranges_and_no_preconditions(app, whole, etag):
    headers = {"Range": "bytes=0-9", "If-None-Match": etag, "If-Match": '"x"'}
    members = [("bundle", name) for name in ("a.txt", "b.txt", "c.txt")]
    response = app.post("/reports/?bundle", members, headers=headers, status=200)
    assert response.body == whole.body


def test_a_weak_tag_gives_no_part(app, upstream):
    upstream.files["reports/b.txt"] = File(B, etag='W/"b"', mtime=None)
    response = app.get(URL, headers={"Range": "bytes=0-9"}, status=200)
    assert len(response.body) == SIZE
    assert response.headers["Accept-Ranges"] == "none"


@pytest.mark.parametrize("etag", [None, 'W/"b"'])
def test_a_date_that_is_strong_proves_the_version_as_well(app, upstream, etag):
    upstream.files["reports/b.txt"] = File(B, etag=etag)
    part = app.get(URL, headers={"Range": f"bytes={B_DATA + 4}-{B_DATA + 11}"}, status=206)
    assert part.body == b"betabeta"
    (fetched,) = upstream.asked("GET")
    assert fetched.headers["if-unmodified-since"] == DATE
    assert fetched.headers["range"] == "bytes=4-11"


def test_another_version_of_any_member_is_another_archive(app, upstream, etag):
    upstream.files["reports/b.txt"] = B[::-1]
    part = f"bytes={B_DATA}-{B_DATA + 1}"
    response = app.get(URL, headers={"If-Range": etag, "Range": part}, status=200)
    assert response.headers["ETag"] != etag
    app.get(URL, headers={"If-Match": etag}, status=412)


def test_an_upstream_without_ranges_still_gives_the_right_slice(app, upstream, whole):
    headers = tuple(File(B).headers().items())
    upstream.files["reports/b.txt"] = Canned(200, headers, B)
    part = app.get(URL, headers={"Range": f"bytes={B_DATA + 4}-{C_DATA + 9}"}, status=206)
    assert part.body == whole.body[B_DATA + 4 : C_DATA + 10]


def test_a_link_leads_to_this_very_version_of_the_archive(app, upstream, whole, etag):
    assert whole.headers["Link"] == link_to(etag)
    pinned = f"{URL}&v={etag.strip(chr(34))}"
    assert app.get(pinned).body == whole.body
    assert app.get(pinned, headers={"Range": "bytes=9-18"}, status=206).body == whole.body[9:19]
    upstream.files["reports/b.txt"] = b"another"
    app.get(pinned, status=412)
    app.head(pinned, status=412)
    app.get(pinned, headers={"Range": "bytes=9-18"}, status=412)


def test_the_link_of_a_pinned_archive_is_pinned_once(app, whole, etag):
    pinned = f"{URL}&v={etag.strip(chr(34))}"
    assert app.get(pinned).headers["Link"] == whole.headers["Link"]


@pytest.mark.parametrize("version", ["", "x", "%22", "*"])
def test_any_other_version_is_a_failed_precondition_and_fetches_nothing(
    app, upstream, whole, version
):
    response = app.get(f"{URL}&v={version}", status=412)
    assert response.json["status"] == 412
    assert fetches(upstream) == []


def test_a_weak_archive_or_a_long_query_has_no_link(app, upstream):
    long = "&".join(f"x{number}={'x' * 99}" for number in range(30))
    assert "Link" not in app.get(f"{URL}&{long}").headers
    upstream.files["reports/b.txt"] = File(B, etag='W/"b"', mtime=None)
    assert "Link" not in app.get(URL).headers
