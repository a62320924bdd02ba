"""How answers are read and judged, over tables of responses: no socket is involved."""

from collections.abc import Sequence
from contextlib import suppress

import pytest

from tar_gateway.errors import MemberChanged, SourceError
from tar_gateway.http.validators import Validator
from tar_gateway.sources import Caller, Stat, UnknownSize
from tar_gateway.sources.members import HttpMembers
from tar_gateway.sources.wire.asking import Steps as Asking
from tar_gateway.sources.wire.asking import calling
from tar_gateway.sources.wire.response import Content, Headers, Response
from tests.support.fakes import STRONG, WEAK, Steps, broken, waited

DATE = "Sun, 13 Sep 2020 12:26:40 GMT"
LATER = "Sun, 13 Sep 2020 12:26:41 GMT"
MTIME = 1600000000
STRONG_DATE = Validator(DATE, strong=True)
WEAK_DATE = Validator(DATE, strong=False)

Row = tuple[int, dict[str, str], Sequence[bytes | Exception]] | Exception


class Table:
    """An exchange that answers HEAD, RANGE (a GET with one) and GET from a table."""

    def __init__(self, **rows: Row) -> None:
        self._rows = rows
        self.asked: list[str] = []
        self.paths: set[str] = set()
        self.headers: list[dict[str, str]] = []
        self.callers: list[Caller] = []
        self.contents: list[Steps] = []

    def __call__(
        self, method: str, path: str, headers: Headers, caller: Caller
    ) -> Asking[Response]:
        return calling(lambda: self._respond(method, path, headers, caller))

    def _respond(self, method: str, path: str, headers: Headers, caller: Caller) -> Response:
        sent = dict(headers)
        kind = "RANGE" if "Range" in sent else method
        self.asked.append(kind)
        self.paths.add(path)
        self.headers.append(sent)
        self.callers.append(caller)
        row = self._rows[kind]
        if isinstance(row, Exception):
            raise row
        status, received, steps = row
        content = Steps(*steps)
        self.contents.append(content)
        return Response(status, list(received.items()), content)

    @property
    def all_closed(self) -> bool:
        return all(content.closed for content in self.contents)


def row(status: int, *steps: bytes | Exception, **headers: str) -> Row:
    return status, {name.replace("_", "-"): text for name, text in headers.items()}, steps


def stat(table: Table) -> Stat | UnknownSize:
    return waited(HttpMembers(table).stat("a", Caller()))


def open_slice(table: Table, start: int, stop: int, of: Stat) -> Content:
    return waited(HttpMembers(table).open("a", start, stop, of, Caller()))


def read_all(content: Content, limit: int = 100) -> bytes:
    blocks = []
    while block := content.read(limit):
        blocks.append(block)
    return b"".join(blocks)


HEAD_FAILS = row(405)
PART = row(206, b"x", Content_Range="bytes 0-0/7", Content_Length="1", Last_Modified=DATE)
TEN = Stat(10, 0, STRONG)


@pytest.mark.parametrize(
    ("head", "ranged", "get", "asked", "size"),
    [
        pytest.param(row(200, Content_Length="7"), None, None, "HEAD", 7, id="by HEAD"),
        pytest.param(HEAD_FAILS, PART, None, "HEAD RANGE", 7, id="HEAD is not allowed"),
        pytest.param(row(200, Content_Length="0"), PART, None, "HEAD RANGE", 7, id="HEAD says 0"),
        pytest.param(row(200), PART, None, "HEAD RANGE", 7, id="HEAD says nothing"),
        pytest.param(
            row(200, Content_Length="7", Transfer_Encoding="chunked"),
            PART,
            None,
            "HEAD RANGE",
            7,
            id="HEAD's length is overridden by chunks",
        ),
        pytest.param(
            row(200, Content_Length="5", Content_Encoding="gzip"),
            PART,
            None,
            "HEAD RANGE",
            7,
            id="HEAD speaks of an encoding",
        ),
        pytest.param(
            row(200, Content_Length="0"),
            row(416, Content_Range="bytes */0"),
            None,
            "HEAD RANGE",
            0,
            id="empty by 416",
        ),
        pytest.param(
            HEAD_FAILS,
            row(416, Content_Range="bytes */0"),
            row(200, Content_Length="0"),
            "HEAD RANGE GET",
            0,
            id="empty by 416, of an untold date",
        ),
        pytest.param(
            HEAD_FAILS, row(200, b"data", Content_Length="4"), None, "HEAD RANGE", 4, id="no ranges"
        ),
        pytest.param(
            HEAD_FAILS, row(200, Content_Length="0"), None, "HEAD RANGE", 0, id="empty by GET"
        ),
        pytest.param(
            HEAD_FAILS,
            row(206, b"x", Content_Range="bytes 0-0/*"),
            row(200, Content_Length="9"),
            "HEAD RANGE GET",
            9,
            id="a range of an untold whole",
        ),
        pytest.param(
            HEAD_FAILS,
            row(206, b"xy", Content_Range="bytes 0-1/7"),
            row(200, Content_Length="9"),
            "HEAD RANGE GET",
            9,
            id="another range than asked for",
        ),
        pytest.param(
            HEAD_FAILS,
            row(206, b"x", Content_Range="bytes 1-1/7"),
            row(200, Content_Length="9"),
            "HEAD RANGE GET",
            9,
            id="another byte than asked for",
        ),
        pytest.param(
            HEAD_FAILS,
            row(206, b"x", Content_Range="bytes 0-0/7", Content_Encoding="gzip"),
            row(200, Content_Length="9"),
            "HEAD RANGE GET",
            9,
            id="a range of an encoding",
        ),
        pytest.param(
            HEAD_FAILS,
            row(206, b"--boundary", Content_Type="multipart/byteranges"),
            row(200, Content_Length="9"),
            "HEAD RANGE GET",
            9,
            id="several ranges",
        ),
        pytest.param(
            HEAD_FAILS,
            row(416, Content_Range="bytes */7"),
            row(200, Content_Length="9"),
            "HEAD RANGE GET",
            9,
            id="416 for a file that is not empty",
        ),
        pytest.param(
            HEAD_FAILS, row(416), row(200, Content_Length="9"), "HEAD RANGE GET", 9, id="bare 416"
        ),
    ],
)
def test_the_size_is_told_by_the_first_answer_that_knows_it(
    head: Row, ranged: Row, get: Row, asked: str, size: int
):
    table = Table(HEAD=head, RANGE=ranged, GET=get)
    told = stat(table)
    assert isinstance(told, Stat)
    assert told.size == size
    assert table.asked == asked.split()
    assert table.all_closed


def test_every_question_asks_for_the_plain_file_on_the_callers_authority():
    table = Table(HEAD=HEAD_FAILS, RANGE=row(416), GET=row(200, Content_Length="1"))
    caller = Caller((("Authorization", "secret"),))
    waited(HttpMembers(table).stat("a", caller))
    assert [headers["Accept-Encoding"] for headers in table.headers] == ["identity"] * 3
    assert table.callers == [caller] * 3
    assert table.paths == {"a"}


def test_one_byte_is_asked_for_where_head_does_not_tell():
    table = Table(HEAD=HEAD_FAILS, RANGE=PART)
    stat(table)
    assert table.headers[1]["Range"] == "bytes=0-0"


def test_a_size_that_nobody_tells_leaves_the_content_open():
    table = Table(HEAD=row(200), RANGE=row(200, b"da", b"ta", Last_Modified=DATE))
    told = stat(table)
    assert isinstance(told, UnknownSize)
    assert told.mtime == MTIME
    assert not table.contents[-1].closed
    assert read_all(told.content) == b"data"


@pytest.mark.parametrize(
    ("headers", "mtime", "validator"),
    [
        ({}, 0, None),
        ({"ETag": '"1"', "Last-Modified": DATE}, MTIME, STRONG),
        ({"ETag": 'W/"1"'}, 0, WEAK),
        ({"Last-Modified": DATE, "Date": LATER}, MTIME, STRONG_DATE),
        ({"Last-Modified": DATE, "Date": DATE}, MTIME, WEAK_DATE),
        ({"ETag": "unquoted", "Last-Modified": "yesterday"}, 0, None),
    ],
)
@pytest.mark.parametrize("kind", ["HEAD", "RANGE", "GET"])
def test_date_and_validator_come_from_the_answer_that_told_the_size(
    kind: str, headers: dict[str, str], mtime: int, validator: Validator | None
):
    table = Table(
        HEAD=(200, {"Content-Length": "7", **headers}, ()) if kind == "HEAD" else HEAD_FAILS,
        RANGE=(206, {"Content-Range": "bytes 0-0/7", **headers}, (b"x",))
        if kind == "RANGE"
        else row(416),
        GET=(200, {"Content-Length": "7", **headers}, ()),
    )
    assert stat(table) == Stat(7, mtime, validator)
    mute = kind == "RANGE" and "Last-Modified" not in headers  # it may be left out there
    assert table.asked[-1] == ("GET" if mute else kind)


@pytest.mark.parametrize("text", ["-5", "+5", "5, 5", "1e3", "", "5 5", "\u0665", "9" * 20, "0x5"])
@pytest.mark.parametrize("kind", ["HEAD", "GET"])
def test_a_length_that_is_none_is_refused(kind: str, text: str):
    head = row(200, Content_Length=text) if kind == "HEAD" else HEAD_FAILS
    table = Table(HEAD=head, RANGE=row(200, Content_Length=text))
    with pytest.raises(SourceError, match="not a length") as caught:
        stat(table)
    assert (caught.value.status, caught.value.transient) == (502, False)
    assert table.all_closed


@pytest.mark.parametrize(
    ("status", "told", "transient"),
    [
        (401, 401, False),
        (403, 403, False),
        (404, 404, False),
        (410, 404, False),
        (301, 502, False),
        (302, 502, False),
        (304, 502, False),
        (400, 502, False),
        (418, 502, False),
        (499, 502, False),
        (500, 502, True),
        (502, 502, True),
        (503, 502, True),
        (504, 504, True),
        (501, 502, False),
        (599, 502, False),
    ],
)
def test_a_status_is_told_as_what_a_client_can_make_of_it(status: int, told: int, transient: bool):
    table = Table(HEAD=row(status), RANGE=row(status, b"sorry"), GET=row(status, b"sorry"))
    with pytest.raises(SourceError) as caught:
        stat(table)
    with pytest.raises(SourceError) as while_open:
        open_slice(table, 0, 10, TEN)
    for error in (caught.value, while_open.value):
        assert (error.status, error.transient) == (told, transient)
    assert table.all_closed


class Rules:
    """An exchange that answers each path to HEAD and GET with a status; members have a size."""

    def __init__(self, **paths: tuple[int, int]) -> None:
        self.paths = {"there": (200, 206), **paths}
        self.redirected = False
        self.asked: list[str] = []

    def __call__(
        self, method: str, path: str, headers: Headers, caller: Caller
    ) -> Asking[Response]:
        return calling(lambda: self._respond(method, path, headers, caller))

    def _respond(self, method: str, path: str, headers: Headers, caller: Caller) -> Response:
        self.asked.append(f"{method} {path}")
        status = self.paths[path][method == "GET"]
        told = {200: ("Content-Length", "7"), 206: ("Content-Range", "bytes 0-0/7")}
        received = [told[status]] if status in told else []
        return Response(status, received, Steps(b"x"), redirected=self.redirected)


def refusals(members: HttpMembers, rules: Rules, *paths: str) -> list[str]:
    """Ask for these as one plan does, and return what was asked."""
    rules.asked.clear()
    caller = Caller()
    for path in paths:
        with suppress(SourceError):
            waited(members.stat(path, caller))
    return rules.asked


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_of_head_is_believed_once_the_first_one_of_a_plan_was_checked(status: int):
    rules = Rules(a=(status, status), b=(status, status))
    members = HttpMembers(rules)
    both = ["HEAD a", "GET a", "HEAD b", "GET b"]
    assert refusals(members, rules, "a", "b") == both  # no HEAD was answered yet
    assert refusals(members, rules, "there") == ["HEAD there"]
    for _ in range(2):
        assert refusals(members, rules, "a", "b", "a") == ["HEAD a", "GET a", "HEAD b", "HEAD a"]


def test_a_refusal_that_is_believed_says_what_the_first_one_said():
    members = HttpMembers(Rules(a=(404, 404), b=(403, 403)))
    caller = Caller()
    waited(members.stat("there", caller))
    for path, status in (("a", 404), ("b", 403), ("a", 404)):
        with pytest.raises(SourceError) as caught:
            waited(members.stat(path, caller))
        assert caught.value.status == status


@pytest.mark.parametrize("contradicted", [(404, 206), (403, 404), (401, 200)])
def test_a_server_whose_head_a_get_has_contradicted_is_not_believed(contradicted: tuple[int, int]):
    rules = Rules(a=(404, 404), b=contradicted)
    members = HttpMembers(rules)
    refusals(members, rules, "there", "b")
    for _ in range(2):
        assert refusals(members, rules, "a", "a") == ["HEAD a", "GET a", "HEAD a", "GET a"]


def test_a_get_that_fails_says_nothing_of_what_head_refused():
    rules = Rules(a=(404, 503), b=(404, 404))
    members = HttpMembers(rules)
    asked = refusals(members, rules, "there", "a", "b", "b")
    assert asked == ["HEAD there", "HEAD a", "GET a", "HEAD b", "GET b", "HEAD b"]


@pytest.mark.parametrize("status", [400, 405, 501, 503])
def test_other_answers_to_head_are_always_checked(status: int):
    rules = Rules(a=(404, 404), b=(status, 404))
    members = HttpMembers(rules)
    asked = refusals(members, rules, "there", "a", "b", "b")
    assert asked[3:] == ["HEAD b", "GET b", "HEAD b", "GET b"]


def test_what_a_redirect_leads_to_is_not_the_servers_own_word():
    rules = Rules(a=(403, 403))
    members = HttpMembers(rules)
    rules.redirected = True
    both = ["HEAD a", "GET a"]
    assert refusals(members, rules, "there", "a", "a")[1:] == both * 2
    rules.redirected = False
    assert refusals(members, rules, "a", "a") == both * 2  # no HEAD of its own was answered
    refusals(members, rules, "there")
    assert refusals(members, rules, "a", "a") == [*both, "HEAD a"]


def test_a_challenge_is_kept_for_the_client():
    denied = row(401, WWW_Authenticate='Basic realm="files"')
    with pytest.raises(SourceError) as caught:
        stat(Table(HEAD=denied, RANGE=denied))
    assert caught.value.challenge == 'Basic realm="files"'


def test_what_is_encoded_all_the_same_is_not_the_file():
    zipped = row(200, b"zipped", Content_Length="6", Content_Encoding="gzip")
    table = Table(HEAD=HEAD_FAILS, RANGE=zipped, GET=zipped)
    with pytest.raises(SourceError, match="encoded"):
        stat(table)
    with pytest.raises(SourceError, match="encoded"):
        open_slice(table, 0, 6, Stat(6, 0, STRONG))
    assert table.all_closed


def test_a_coding_that_the_files_name_states_is_the_files_own():
    tgz = {"Content-Length": "10", "Content-Encoding": "gzip", "ETag": '"1"'}
    table = Table(HEAD=(200, tgz, ()), GET=(200, tgz, (b"0123456789",)))
    for path in ("logs/a.tar.gz", "a.gz?version=2"):
        assert waited(HttpMembers(table).stat(path, Caller())) == TEN
        assert (
            read_all(waited(HttpMembers(table).open(path, 0, 10, TEN, Caller()))) == b"0123456789"
        )


@pytest.mark.parametrize("named", ['inline; filename="a.tgz"', "attachment; filename*=UTF-8''a.gz"])
def test_the_files_name_may_be_told_by_the_response(named: str):
    headers = {"Content_Encoding": "gzip", "Content_Disposition": named}
    table = Table(HEAD=row(200, Content_Length="7", **headers))
    assert stat(table) == Stat(7, 0, None)


def test_a_refused_coding_is_named_with_what_would_be_right():
    zipped = row(200, b"zipped", Content_Length="6", Content_Encoding="X-GZip")
    with pytest.raises(SourceError, match=r"encoded as gzip.*must not compress.*identity"):
        stat(Table(HEAD=zipped, RANGE=zipped))


def test_an_error_that_comes_encoded_is_told_as_what_it_is():
    table = Table(GET=row(404, b"zipped", Content_Encoding="gzip"))
    with pytest.raises(SourceError, match="does not exist"):
        open_slice(table, 0, 10, TEN)


@pytest.mark.parametrize("word", ["Identity", "None", "aws-chunked", "utf-8", ""])
def test_a_word_that_is_no_coding_says_nothing(word: str):
    table = Table(HEAD=row(200, Content_Length="7", Content_Encoding=word))
    assert stat(table) == Stat(7, 0, None)


EMPTY = row(200, Content_Length="0", ETag='"1"')


@pytest.mark.parametrize("head", [EMPTY, HEAD_FAILS], ids=["HEAD says 0", "HEAD fails"])
@pytest.mark.parametrize(
    "ranged",
    [
        row(400, b"bad"),
        row(403, b"no"),
        row(412),
        row(500, b"oh"),
        row(502),
        row(206, Content_Range="bytes 0-0/0", Content_Length="1"),
        row(206, Content_Range="bytes 0--1/0"),
        row(206, broken(), Content_Range="bytes 0-0/7"),
        row(416, Content_Range="bytes */7"),
        broken(),
        SourceError("it took too long", status=504, transient=True),
    ],
)
@pytest.mark.parametrize(
    ("get", "size"),
    [
        (EMPTY, 0),
        (row(204, ETag='"1"'), 0),
        (row(200, b"data", Content_Length="4", ETag='"1"'), 4),
    ],
)
def test_whatever_goes_wrong_with_the_ranged_question_a_plain_get_decides(
    head: Row, ranged: Row, get: Row, size: int
):
    table = Table(HEAD=head, RANGE=ranged, GET=get)
    assert stat(table) == Stat(size, 0, STRONG)
    assert table.asked == ["HEAD", "RANGE", "GET"]
    assert table.all_closed


@pytest.mark.parametrize(
    "ranged",
    [
        row(206, AssertionError(), Content_Range="bytes 0-0/0", Content_Length="1"),
        row(416, AssertionError(), Content_Range="bytes */7", Content_Length="9999999"),
        row(412, AssertionError(), Content_Length="9999999"),
    ],
)
def test_content_that_may_never_come_is_not_waited_for(ranged: Row):
    assert stat(Table(HEAD=EMPTY, RANGE=ranged, GET=EMPTY)) == Stat(0, 0, STRONG)


def test_no_content_to_a_get_is_an_empty_file():
    assert stat(Table(HEAD=row(204), RANGE=row(204, ETag='"1"'))) == Stat(0, 0, STRONG)


@pytest.mark.parametrize(
    "ranged",
    [
        row(429, Retry_After="7"),
        row(503, Retry_After="7"),
        SourceError("it is unreachable", transient=True, unreachable=True),
    ],
)
def test_a_server_that_is_busy_or_away_is_not_asked_in_another_way(ranged: Row):
    table = Table(HEAD=HEAD_FAILS, RANGE=ranged)
    with pytest.raises(SourceError) as caught:
        stat(table)
    assert caught.value.transient
    assert table.all_closed


def test_what_a_206_leaves_out_is_told_by_head():
    table = Table(
        HEAD=row(200, ETag='"1"', Last_Modified=DATE),
        RANGE=row(206, b"x", Content_Range="bytes 0-0/7"),
    )
    assert stat(table) == Stat(7, MTIME, STRONG)


def test_a_broken_exchange_is_told_and_leaves_nothing_open():
    table = Table(HEAD=HEAD_FAILS, RANGE=row(200, Content_Length="7"), GET=broken())
    with pytest.raises(SourceError, match="it broke"):
        open_slice(table, 0, 10, TEN)
    table = Table(HEAD=HEAD_FAILS, RANGE=broken(), GET=broken())
    with pytest.raises(SourceError, match="it broke"):
        stat(table)
    assert table.all_closed


# --- opening ---------------------------------------------------------------------------------


def part(start: int, stop: int, *steps: bytes | Exception, size: str = "10", **more: str) -> Row:
    headers = {"ETag": '"1"', "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    headers["Content-Length"] = str(stop - start)
    return 206, headers | {name.replace("_", "-"): text for name, text in more.items()}, steps


WHOLE = row(200, b"01234", b"56789", Content_Length="10", ETag='"1"')


@pytest.mark.parametrize(
    ("validator", "condition"),
    [
        (STRONG, {"If-Match": '"1"'}),
        (STRONG_DATE, {"If-Unmodified-Since": DATE}),
        (WEAK, {}),
        (WEAK_DATE, {}),
        (None, {}),
    ],
)
def test_the_whole_is_asked_for_on_condition_of_a_strong_validator(
    validator: Validator | None, condition: dict[str, str]
):
    text = validator.text if validator else ""
    named = {"ETag": text} if validator and validator.is_etag else {"Last-Modified": text}
    dates = {"Date": LATER} if validator and validator.strong else {}
    table = Table(GET=(200, {"Content-Length": "10", **named, **dates}, (b"0123456789",)))
    content = open_slice(table, 0, 10, Stat(10, 0, validator))
    assert read_all(content) == b"0123456789"
    assert table.headers == [{"Accept-Encoding": "identity", **condition}]


@pytest.mark.parametrize(("start", "stop"), [(0, 9), (1, 10), (3, 4)])
def test_a_part_is_asked_for_by_range_on_condition(start: int, stop: int):
    table = Table(RANGE=part(start, stop, b"0123456789"[start:stop]))
    assert read_all(open_slice(table, start, stop, TEN)) == b"0123456789"[start:stop]
    assert table.headers[0]["Range"] == f"bytes={start}-{stop - 1}"
    assert table.headers[0]["If-Match"] == '"1"'


@pytest.mark.parametrize("validator", [None, WEAK, WEAK_DATE])
def test_a_part_is_never_asked_for_without_a_strong_validator(validator: Validator | None):
    table = Table()
    with pytest.raises(SourceError, match="nothing proves"):
        open_slice(table, 1, 10, Stat(10, 0, validator))
    assert table.asked == []


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (4, 10), (5, 6), (9, 10)])
def test_a_part_is_cut_out_where_the_server_gives_the_whole(start: int, stop: int):
    table = Table(RANGE=WHOLE)
    content = open_slice(table, start, stop, TEN)
    assert read_all(content, 3) == b"0123456789"[start:stop]
    content.close()
    assert table.all_closed


def test_the_whole_of_an_untold_length_is_taken_when_it_is_as_long_as_promised():
    table = Table(GET=row(200, b"0123456789", ETag='"1"', Transfer_Encoding="chunked"))
    assert read_all(open_slice(table, 0, 10, TEN)) == b"0123456789"


def test_a_range_of_an_untold_whole_is_taken():
    table = Table(RANGE=part(2, 4, b"23", size="*"))
    assert read_all(open_slice(table, 2, 4, TEN)) == b"23"


@pytest.mark.parametrize(("first", "end"), [(2, 5), (1, 4), (0, 9), (2, 10), (0, 10)])
def test_a_part_is_cut_out_of_a_range_that_holds_more(first: int, end: int):
    table = Table(RANGE=part(first, end, b"0123456789"[first:end]))
    content = open_slice(table, 2, 4, TEN)
    assert read_all(content, 1) == b"23"
    content.close()
    assert table.all_closed


DATED = Stat(10, MTIME, STRONG_DATE)


@pytest.mark.parametrize(
    ("of", "left_out"), [(TEN, {"Last_Modified": DATE}), (DATED, {"ETag": "unquoted"}), (DATED, {})]
)
def test_the_whole_is_asked_for_where_a_range_does_not_say_its_version(
    of: Stat, left_out: dict[str, str]
):
    whole = row(200, b"0123456789", ETag='"1"', Last_Modified=DATE, Date=LATER)
    table = Table(RANGE=row(206, b"23", Content_Range="bytes 2-3/10", **left_out), GET=whole)
    assert read_all(open_slice(table, 2, 4, of)) == b"23"
    assert table.asked == ["RANGE", "GET"]
    assert [set(headers) - {"Range"} for headers in table.headers[1:]] == [
        set(table.headers[0]) - {"Range"}
    ]
    assert table.contents[0].closed


def test_the_whole_that_is_asked_for_then_has_to_be_the_same():
    table = Table(RANGE=row(206, Content_Range="bytes 2-3/10"), GET=row(200, ETag='"2"'))
    with pytest.raises(MemberChanged):
        open_slice(table, 2, 4, TEN)
    assert table.all_closed


CHANGED = [
    pytest.param(0, 10, row(204, ETag='"1"'), id="it is empty now"),
    pytest.param(2, 4, part(2, 11, size="*"), id="a range beyond the end"),
    pytest.param(0, 10, row(412), id="the condition failed"),
    pytest.param(2, 4, row(412), id="the range's condition failed"),
    pytest.param(2, 4, row(416, Content_Range="bytes */1"), id="there is no such range"),
    pytest.param(0, 10, row(200, Content_Length="10", ETag='"2"'), id="another validator"),
    pytest.param(0, 10, row(200, Content_Length="10"), id="no validator"),
    pytest.param(0, 10, row(200, Content_Length="10", ETag='W/"1"'), id="a weaker validator"),
    pytest.param(0, 10, row(200, Content_Length="11", ETag='"1"'), id="longer"),
    pytest.param(0, 10, row(200, Content_Length="9", ETag='"1"'), id="shorter"),
    pytest.param(2, 4, row(200, Content_Length="9", ETag='"1"'), id="the whole is shorter"),
    pytest.param(2, 4, part(2, 4, size="11"), id="a range of a longer whole"),
    pytest.param(2, 4, part(2, 4, ETag='"2"'), id="a range of another version"),
]


@pytest.mark.parametrize(("start", "stop", "answer"), CHANGED)
def test_a_changed_member_is_told_as_such(start: int, stop: int, answer: Row):
    table = Table(RANGE=answer, GET=answer)
    with pytest.raises(MemberChanged):
        open_slice(table, start, stop, TEN)
    assert table.all_closed


WRONG = [
    pytest.param(0, 10, row(416), id="416 for the whole"),
    pytest.param(0, 10, part(0, 10), id="206 for the whole"),
    pytest.param(2, 4, part(2, 3), id="a shorter range"),
    pytest.param(2, 4, part(3, 6), id="a later range"),
    pytest.param(2, 4, part(0, 2), id="an earlier range"),
    pytest.param(2, 4, row(206, ETag='"1"'), id="206 without a range"),
    pytest.param(2, 4, part(2, 4, Content_Length="3"), id="a length that is not the range's"),
    pytest.param(2, 4, part(2, 4, Content_Encoding="br"), id="an encoding"),
    pytest.param(0, 10, row(200, ETag='"1"', Content_Length="ten"), id="no length"),
]


@pytest.mark.parametrize(("start", "stop", "answer"), WRONG)
def test_an_answer_that_is_not_what_was_asked_for_is_refused(start: int, stop: int, answer: Row):
    table = Table(RANGE=answer, GET=answer)
    with pytest.raises(SourceError) as caught:
        open_slice(table, start, stop, TEN)
    assert not isinstance(caught.value, MemberChanged)
    assert (caught.value.status, caught.value.transient) == (502, False)
    assert table.all_closed


def test_a_weak_date_may_change_from_answer_to_answer():
    table = Table(GET=row(200, b"0123456789", Last_Modified=LATER, Date=LATER))
    content = open_slice(table, 0, 10, Stat(10, 0, WEAK_DATE))
    assert read_all(content) == b"0123456789"


def test_what_was_promised_is_compared_although_the_date_is_strong_by_now():
    table = Table(GET=row(200, b"0123456789", ETag='W/"1"', Last_Modified=DATE, Date=LATER))
    assert read_all(open_slice(table, 0, 10, Stat(10, 0, WEAK))) == b"0123456789"


@pytest.mark.parametrize("tag", ['W/"2"', '"1"'])
def test_a_weak_etag_may_not_change_beside_a_strong_date(tag: str):
    told = row(200, Content_Length="10", ETag='W/"1"', Last_Modified=DATE, Date=LATER)
    found = stat(Table(HEAD=told))
    assert isinstance(found, Stat)
    assert found.validator == STRONG_DATE
    table = Table(GET=row(200, ETag=tag, Last_Modified=DATE, Date=LATER))
    with pytest.raises(MemberChanged):
        open_slice(table, 0, 10, found)


@pytest.mark.parametrize("told", [{"ETag": 'W/"1"'}, {}], ids=["a weak tag", "no tag"])
def test_a_part_is_asked_for_on_condition_of_the_date_beside_a_weak_etag(told: dict[str, str]):
    found = stat(Table(HEAD=row(200, Content_Length="10", Last_Modified=DATE, **told)))
    assert isinstance(found, Stat)
    table = Table(RANGE=part(2, 4, b"23", ETag='W/"1"', Last_Modified=DATE))
    assert read_all(open_slice(table, 2, 4, found)) == b"23"
    assert table.headers[0]["If-Unmodified-Since"] == DATE


def test_a_weak_etag_may_not_change():
    table = Table(GET=row(200, Content_Length="10", ETag='W/"2"'))
    with pytest.raises(MemberChanged):
        open_slice(table, 0, 10, Stat(10, 0, WEAK))


def test_a_content_that_ends_too_early_raises_a_passing_fault():
    content = open_slice(Table(GET=row(200, b"01234", ETag='"1"')), 0, 10, TEN)
    assert content.read(100) == b"01234"
    with pytest.raises(SourceError, match="too early") as caught:
        content.read(100)
    assert caught.value.transient


def test_a_whole_that_ends_before_the_part_raises_and_is_closed():
    table = Table(RANGE=row(200, b"01", ETag='"1"'))
    with pytest.raises(SourceError, match="too early"):
        open_slice(table, 5, 6, TEN)
    assert table.all_closed


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        (0, row(200, b"0123456789", b"more", ETag='"1"')),
        (4, row(200, b"0123456789", b"more", ETag='"1"')),
        (4, part(4, 10, b"456789", b"more")),
    ],
)
def test_a_content_that_goes_on_after_its_end_has_changed(start: int, answer: Row):
    content = open_slice(Table(RANGE=answer, GET=answer), start, 10, TEN)
    blocks = [content.read(10 - start)]
    with pytest.raises(MemberChanged, match="longer"):
        content.read(1)
    assert blocks == [b"0123456789"[start:]]


def test_a_content_never_gives_more_than_its_slice():
    content = open_slice(Table(RANGE=WHOLE), 0, 7, TEN)
    assert [content.read(100), content.read(100), content.read(100)] == [b"01234", b"56", b""]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("0", 0.0), ("-1", 0.0), ("1.5", 0.0), (DATE, 0.0), ("9" * 10, 0.0), ("", 0.0)],
)
def test_an_upstreams_wish_to_be_asked_later_is_kept(text: str, seconds: float):
    busy = row(503, Retry_After=text)
    with pytest.raises(SourceError) as caught:
        stat(Table(HEAD=busy, RANGE=busy))
    assert caught.value.retry_after == seconds


# --- what GET says otherwise than HEAD -----------------------------------------------------------

HEAD_SAYS_10 = row(200, Content_Length="10", ETag='"1"')
TWENTY = row(200, b"0123456789" * 2, Content_Length="20", ETag='"1"')


def read_in_vain(members: HttpMembers) -> None:
    with pytest.raises(SourceError):
        read_all(waited(members.open("a", 0, 10, TEN, Caller())))


@pytest.mark.parametrize(
    "get",
    [
        row(403),
        row(404),
        row(412),
        row(500),
        TWENTY,
        row(200, b"0123456789" * 2, ETag='"1"', Transfer_Encoding="chunked"),
        row(200, b"01234", ETag='"1"', Transfer_Encoding="chunked"),
        row(200, Content_Length="10", ETag='"1"', Content_Encoding="gzip"),
    ],
)
def test_a_file_of_which_get_breaks_heads_word_is_asked_about_by_get_alone(get: Row):
    table = Table(HEAD=HEAD_SAYS_10, GET=get)
    members = HttpMembers(table, memory=10)
    read_in_vain(members)
    table.asked.clear()
    with suppress(SourceError):
        waited(members.stat("a", Caller()))
    assert table.asked == ["GET"]
    assert waited(members.stat("b", Caller())) == TEN


def test_what_get_said_is_what_the_next_plan_is_made_of():
    table = Table(HEAD=HEAD_SAYS_10, GET=TWENTY)
    members = HttpMembers(table, memory=10)
    with pytest.raises(MemberChanged, match=r"of 20 bytes by now, not 10.*to HEAD than to GET"):
        waited(members.open("a", 0, 10, TEN, Caller()))
    twenty = waited(members.stat("a", Caller()))
    assert twenty == Stat(20, 0, STRONG)
    assert read_all(waited(members.open("a", 0, 20, twenty, Caller()))) == b"0123456789" * 2


@pytest.mark.parametrize(
    "get", [row(200, b"01234", ETag='"1"'), row(200, Content_Length="0", ETag='"1"'), row(204)]
)
def test_a_get_that_may_be_cut_off_or_has_no_bytes_does_not_outweigh_head(get: Row):
    table = Table(HEAD=HEAD_SAYS_10, GET=get)
    members = HttpMembers(table, memory=10)
    read_in_vain(members)
    assert waited(members.stat("a", Caller())) == TEN
    assert table.contents[1].closed


@pytest.mark.parametrize("get", [row(503), row(429), row(502), broken()])
def test_a_server_that_fails_breaks_no_word_of_head(get: Row):
    table = Table(HEAD=HEAD_SAYS_10, GET=get)
    members = HttpMembers(table, memory=10)
    read_in_vain(members)
    assert waited(members.stat("a", Caller())) == TEN


def test_head_is_believed_again_after_a_while():
    table = Table(HEAD=HEAD_SAYS_10, GET=TWENTY)
    members = HttpMembers(table, memory=0)
    read_in_vain(members)
    assert waited(members.stat("a", Caller())) == TEN
