"""What makes a response a list of files, and what its headers and lines say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.archive.bundle import Entry
from tar_gateway.archive.format import Member
from tar_gateway.archive.layout import Layout
from tar_gateway.errors import UpstreamFailed
from tar_gateway.http.conditions import Conditions
from tar_gateway.settings import Settings
from tar_gateway.web.file_list import (
    Step,
    kept_headers,
    next_step,
    passed_names,
    read_list,
)

TAG = Layout([Member("a", 1)]).etag.text


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("X-Archive-Files", "tar")], True),
        ([("x-archive-files", " TAR ")], True),
        ([("Content-Type", "text/plain"), ("X-ARCHIVE-FILES", "tar")], True),
        ([("X-Archive-Files", "zip")], True),
        ([("X-Archive-Files", "rar")], False),
        ([("X-Archive-Files", "")], False),
        ([("X-Archive-Files", "tar, zip")], False),
        ([("X-Archive", "tar")], False),
        ([("X-Archive-Files-Of", "tar")], False),
        ([], False),
    ],
)
def test_one_header_makes_an_answer_a_list(headers, expected):
    assert next_step("GET", Conditions(), 200, headers) is (Step.READ if expected else Step.PASS)


LIST = [("X-Archive-Files", "tar")]
PART = Conditions(range="bytes=5-")
PLAIN = Conditions()


@pytest.mark.parametrize(
    ("method", "conditions", "status", "headers", "expected"),
    [
        # There is no response yet.
        ("GET", PLAIN, None, [], Step.PASS),
        ("HEAD", PLAIN, None, [], Step.PASS),
        ("GET", PART, None, [], Step.PASS),
        ("GET", Conditions(range="bytes=5-", if_range=TAG), None, [], Step.TRY),
        ("HEAD", Conditions(if_none_match=TAG), None, [], Step.TRY),
        ("POST", Conditions(if_match=TAG), None, [], Step.PASS),
        # It is a list.
        ("GET", PLAIN, 200, LIST, Step.READ),
        ("POST", PLAIN, 200, LIST, Step.READ),
        ("POST", PART, 200, LIST, Step.READ),
        ("HEAD", PLAIN, 200, LIST, Step.ASK),
        *(("GET", PART, status, LIST, Step.ASK) for status in (200, 206, 304, 412, 416)),
        *(("HEAD", PLAIN, status, LIST, Step.ASK) for status in (206, 304, 412, 416)),
        # It says what a range or a condition can't be the reason of.
        *(("GET", PLAIN, status, LIST, Step.PASS) for status in (206, 304, 412, 416)),
        *(("POST", PART, status, LIST, Step.PASS) for status in (206, 304, 412, 416)),
        *(("GET", PART, status, LIST, Step.PASS) for status in (201, 302, 401, 404, 500, 0)),
        *(("HEAD", PLAIN, status, LIST, Step.PASS) for status in (201, 302, 401, 404, 500, 0)),
        # It says only that HEAD is not known.
        *(("HEAD", PLAIN, status, [], Step.TRY) for status in (405, 501)),
        ("HEAD", PART, 405, LIST, Step.TRY),
        *(("GET", PART, status, LIST, Step.PASS) for status in (405, 501)),
        # It is no list.
        ("GET", PLAIN, 200, [], Step.PASS),
        ("HEAD", PLAIN, 200, [], Step.PASS),
        ("GET", PART, 206, [], Step.PASS),
    ],
)
def test_what_to_do_with_a_response(method, conditions, status, headers, expected):
    assert next_step(method, conditions, status, headers) is expected


@pytest.mark.parametrize("name", ["if_match", "if_none_match", "if_range"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TAG, True),
        (TAG.removeprefix("W/"), True),
        (f'"other", {TAG}', True),
        ('"guitar-1"', False),
        ('"tar-1"', False),
        ("*", False),
        ("", False),
        ("Sun, 13 Sep 2020 12:26:40 GMT", False),
    ],
)
def test_a_condition_concerns_an_archive_if_it_has_an_archives_tag(name, text, expected):
    step = next_step("GET", Conditions(**{name: text}))
    assert step is (Step.TRY if expected else Step.PASS)


def test_a_range_alone_and_a_date_tell_nothing_of_an_archive():
    assert next_step("GET", Conditions(range="bytes=5-", if_modified_since=TAG)) is Step.PASS


KEPT = [
    ("Content-Disposition", 'attachment; filename="mine.tar"'),
    ("Set-Cookie", "a=1"),
    ("Set-Cookie", "b=2"),
    ("Vary", "Cookie"),
    ("X-Own", "yes"),
]


@pytest.mark.parametrize(
    "removed",
    [
        ("X-Archive-Files", "tar"),
        ("x-archive-pass-headers", "Authorization"),
        ("X-Archive-Anything", "1"),
        ("X-Accel-Redirect", "/secret"),
        ("Content-Type", "text/plain"),
        ("content-length", "5"),
        ("Content-Encoding", "identity"),
        ("Content-Range", "bytes 0-1/2"),
        ("Content-MD5", "Q2hlY2sgSW50ZWdyaXR5IQ=="),
        ("Digest", "sha-256=x"),
        ("Content-Digest", "sha-256=:x:"),
        ("Repr-Digest", "sha-256=:x:"),
        ("ETag", '"list"'),
        ("Last-Modified", "Sun, 13 Sep 2020 12:26:40 GMT"),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "public"),
        ("Expires", "Sun, 13 Sep 2020 12:26:40 GMT"),
        ("Age", "5"),
        ("Date", "Sun, 13 Sep 2020 12:26:40 GMT"),
        ("Server", "own"),
        ("Connection", "close"),
        ("Transfer-Encoding", "chunked"),
        ("X-Broken", "a\r\nb"),
    ],
)
def test_what_is_the_lists_own_does_not_go_along_with_the_archive(removed):
    assert kept_headers([removed, *KEPT]) == KEPT


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([], []),
        (["Authorization"], ["Authorization"]),
        (["Authorization:Cookie"], ["Authorization", "Cookie"]),
        ([" Authorization : X-Own ", "X-Other"], ["Authorization", "X-Own", "X-Other"]),
        (["", ":", "a b", "X-Ü"], []),
        (["Range:If-Range:if-match:If-None-Match:If-Modified-Since:X"], ["X"]),
        (["If-Unmodified-Since:Host:Accept-Encoding:content-length:Content-Type"], []),
        (["Connection:Transfer-Encoding:TE:Upgrade:Proxy-Authorization:Expect"], []),
    ],
)
def test_the_headers_to_be_passed_are_named_and_none_that_would_spoil_a_request(values, names):
    headers = [("X-Archive-Pass-Headers", value) for value in values]
    assert passed_names([("X-Archive-Files", "tar"), *headers]) == names


GOOD = [
    ("- 5 /a.txt a.txt", Entry("a.txt", "a.txt", size=5)),
    (
        "1034ab38 428 /foo.txt My Document1.txt",
        Entry("foo.txt", "My Document1.txt", size=428, checksum=0x1034AB38),
    ),
    ("0 0 /a b", Entry("a", "b", size=0, checksum=0)),
    ("- - /a b", Entry("a", "b", size=None)),
    ("- 007 /a b", Entry("a", "b", size=7)),
    ("- 999999999999999999 /a b", Entry("a", "b", size=10**18 - 1)),
    ("- 1 /a  two spaces ", Entry("a", " two spaces ", size=1)),
    ("- 1 /a%20b/%C3%BC x/y", Entry("a b/ü", "x/y", size=1)),
    ("- 1 /a+b x", Entry("a+b", "x", size=1)),
    ("- 1 /ü x", Entry("ü", "x", size=1)),
    ("- 1 /a#b x", Entry("a#b", "x", size=1)),
    ("- 1 /a?x=1&y=%20+z x", Entry("a", "x", "x=1&y=%20+z", 1)),
    ("- 1 /a?b?c x", Entry("a", "x", "b?c", 1)),
    ("- 1 /a? x", Entry("a", "x", size=1)),
    ("- 1 /export/?id=3 x", Entry("export/", "x", "id=3", 1)),
    ("- 1 /?id=3 x", Entry("", "x", "id=3", 1)),
    ("- 1 / x", Entry("", "x", size=1)),
    ("- 0 @directory empty", Entry("", "empty/", size=0)),
    ("- 0 @directory a/empty/", Entry("", "a/empty/", size=0)),
    ("- - @directory empty dir", Entry("", "empty dir/", size=0)),
]


@pytest.mark.parametrize(("line", "member"), GOOD, ids=[line for line, _ in GOOD])
def test_a_line_names_a_member(line, member):
    assert read_list(line.encode(), "", Settings()) == (member,)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n", "\r\n\n\r\n"])
@pytest.mark.parametrize("between", ["\n", "\r\n", "\n\n"])
def test_lines_end_in_either_way_and_empty_ones_mean_nothing(between, end):
    body = between.join(["- 1 /a a", "- 2 /b b"]) + end
    assert [member.name for member in read_list(body.encode(), "", Settings())] == ["a", "b"]


BAD = [
    ("-", "'crc32-or-dash size /location name'"),
    ("- 5 /a.txt", "'crc32-or-dash size /location name'"),
    ("-  5 /a a", "the size '' is not '-' or a number of bytes"),
    ("-\t5\t/a\ta", "'crc32-or-dash size /location name'"),
    (" - 5 /a a", "the checksum '' is not '-' or up to 8 hexadecimal digits"),
    ("123456789 5 /a a", "the checksum '123456789' is not '-' or up to 8 hexadecimal digits"),
    ("xyz 5 /a a", "the checksum 'xyz' is not '-' or up to 8 hexadecimal digits"),
    ("- -5 /a a", "the size '-5' is not '-' or a number of bytes"),
    ("- 5.0 /a a", "the size '5.0' is not '-' or a number of bytes"),
    ("- 0x5 /a a", "the size '0x5' is not '-' or a number of bytes"),
    ("- \u0665 /a a", "the size '\u0665' is not '-' or a number of bytes"),
    (
        "- 1000000000000000000 /a a",
        "the size '1000000000000000000' is not '-' or a number of bytes",
    ),
    ("- 5 a a", "the location 'a' does not start with a slash"),
    ("- 5 http://other.test/a a", "does not start with a slash"),
    ("- 5 @other a", "does not start with a slash"),
    ("- 5 ?x a", "does not start with a slash"),
    (
        "- 5 //other.test/a a",
        "the location '//other.test/a' contains an empty segment: write '/other.test/a'",
    ),
    ("- 5 /%2Fa a", "the location '/%2Fa' contains an encoded slash: write '/'"),
    ("- 5 /@scope%2fname a", "an encoded slash"),
    ("- 5 /a/..%2Fb a", "an encoded slash"),
    ("- 5 /../a a", "'..'"),
    ("- 5 /x/%2e%2e/a a", "'..'"),
    ("- 5 /x/%252e%252e/a a", "'..' when it is decoded once more"),
    ("- 5 /./a a", "'.'"),
    ("- 5 /a//b a", "an empty segment"),
    ("- 5 /a// a", "an empty segment"),
    ("- 5 /a%00 a", "a control character"),
    ("- 5 /a%5Cb a", "a backslash"),
    ("- 5 /C:/a a", "a drive letter"),
    ("- 5 /%ff a", "the location '/%ff' is not valid UTF-8"),
    ("- 5 /a?ü a", "is not percent-encoded"),
    ("- 5 /a?\x01 a", "is not percent-encoded"),
    ("- 5 /a ", "the name '' is empty"),
    ("- 5 /a /a", "the name '/a' starts with a slash"),
    ("- 5 /a ../a", "the name '../a'"),
    ("- 5 /a x/../a", "'..'"),
    ("- 5 /a a/", "an empty segment"),
    ("- 5 /a a\\b", "a backslash"),
    ("- 5 /a C:/a", "a drive letter"),
    ("- 5 /a a\x00b", "a control character"),
    ("- 5 /a a\rb", "a control character"),
    ("- 0 @directory ", "is empty"),
    ("- 0 @directory /", "is empty"),
    ("- 0 @directory ..", "'..'"),
    ("- 0 @directory a//", "an empty segment"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[repr(line) for line, _ in BAD])
def test_a_bad_line_is_quoted_by_its_number(line, reason):
    with pytest.raises(UpstreamFailed) as raised:
        read_list(f"- 1 /first first\n\n{line}\r\n- 1 /last last".encode(), "", Settings())
    assert raised.value.status == 502
    assert raised.value.detail.startswith("line 3 of the list of files")
    assert reason in raised.value.detail


def test_a_line_that_is_not_utf_8_is_quoted_by_its_number():
    with pytest.raises(UpstreamFailed, match="line 2 of the list of files is not valid UTF-8"):
        read_list(b"- 1 /a a\n- 1 /b \xff\n", "", Settings())


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n\r\n"])
def test_a_list_without_lines_is_a_fault(body):
    with pytest.raises(UpstreamFailed, match="is empty"):
        read_list(body, "", Settings())


@pytest.mark.parametrize(
    "lines",
    [
        "- 1 /a x\n- 1 /b x",
        "- 1 /a x\n- 1 /b x/y",
        "- 1 /a x\n- 0 @directory x",
        "- 0 @directory x\n- 0 @directory x/",
    ],
)
def test_names_that_stand_in_each_others_way_are_a_fault(lines):
    with pytest.raises(UpstreamFailed, match="the list of files: the member 'x"):
        read_list(lines.encode(), "", Settings())


def test_a_directory_may_hold_what_else_is_listed():
    body = b"- 1 /a x/y\n- 0 @directory x\n- 0 @directory x/z\n- 1 /a other"
    names = [member.name for member in read_list(body, "", Settings())]
    assert names == ["x/y", "x/", "x/z/", "other"]


@pytest.mark.parametrize(
    ("mount", "location", "path"),
    [
        ("/app", "/app/a", "a"),
        ("/app", "/a", "a"),
        ("/app", "/apples/a", "apples/a"),
        ("/app", "/app/app/a", "app/a"),
        ("/app", "/app/", ""),
        ("/a%20b/%C3%BC", "/a%20b/%C3%BC/x", "x"),
        ("/a%20b/%C3%BC", "/a%20b/%c3%bc/x", "x"),
        ("/a%20b/%C3%BC", "/%61%20b/ü/x", "x"),
        ("", "/app/a", "app/a"),
    ],
)
def test_a_location_counts_from_the_mount_point_where_it_is_below_it(mount, location, path):
    (member,) = read_list(f"- 1 {location} x".encode(), mount, Settings())
    assert member.path == path


@pytest.mark.parametrize("location", ["/app/../a", "/app//a", "/app/%2e%2e/a"])
def test_a_location_does_not_climb_out_of_the_mount_point(location):
    with pytest.raises(UpstreamFailed, match="line 1"):
        read_list(f"- 1 {location} x".encode(), "/app", Settings())


@given(st.binary(max_size=200))
def test_whatever_a_list_holds_it_is_read_or_is_a_fault_of_the_application(body):
    try:
        outcome = bool(read_list(body, "", Settings()))
    except UpstreamFailed as error:
        outcome = error.status == 502
    assert outcome
