"""A form in parts says what the same form says in a query's encoding, or is refused."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3 import encode_multipart_formdata
from webtest import TestApp

from tar_gateway.errors import BadRequest, ContentTooLarge, Refusal
from tar_gateway.settings import Settings
from tar_gateway.web.query import OTHER_PARAMETERS, Query, read_form, read_form_data
from tests.support.files_upstream import FilesUpstream, gateway_to
from tests.support.wrapped import unpacked

B = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
TYPE = f"multipart/form-data; boundary={B}"


def part(name: str, value: str | bytes, *headers: str) -> bytes:
    """Write a part as browsers do (HTML, "multipart/form-data encoding algorithm")."""
    name = name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    lines = [f'Content-Disposition: form-data; name="{name}"', *headers]
    content = value if isinstance(value, bytes) else value.encode()
    return (
        f"--{B}\r\n".encode()
        + "".join(f"{each}\r\n" for each in lines).encode()
        + b"\r\n"
        + content
    )


def form_data(*parts: bytes) -> bytes:
    return b"".join(each + b"\r\n" for each in parts) + f"--{B}--\r\n".encode()


def read(body: bytes, content_type: str = TYPE, **settings) -> Query:
    return read_form_data(body, content_type, Settings(**settings))


def members_of(body: bytes, content_type: str = TYPE) -> tuple[str, ...] | None:
    """Give what a form names, or `None` where it is refused, in words that can be shown."""
    try:
        return read(body, content_type).members
    except BadRequest as refused:
        assert refused.detail.isprintable()  # noqa: PT017 - it is fine that it is read
        return None


def refusal(body: bytes, content_type: str = TYPE) -> str:
    with pytest.raises(BadRequest) as refused:
        read(body, content_type)
    return refused.value.detail


# --- what is read ---------------------------------------------------------------------------------

CHARACTERS = st.characters(exclude_categories=["Cs"])
NAMES = st.text(CHARACTERS, min_size=1, max_size=20)
FIELDS = st.sampled_from(["bundle", "bundle[]", "filename", "folder", "include", "x", "é"])


@given(st.lists(st.tuples(FIELDS, st.text(CHARACTERS, max_size=20)), max_size=8))
def test_any_fields_say_what_they_say_in_the_other_encoding(fields):
    def outcome(read, *arguments):
        try:
            return read(*arguments)
        except Refusal as refused:
            return refused.detail

    body = form_data(*(part(name, value) for name, value in fields))
    settings = Settings()
    encoded = urlencode(fields).encode()
    assert outcome(read_form_data, body, TYPE, settings) == outcome(read_form, encoded, settings)


@given(st.lists(NAMES, max_size=5))
def test_what_a_client_library_writes_is_what_is_read(names):
    # Its type gives every part a length of nothing else than fields.
    body, content_type = encode_multipart_formdata([("bundle", name) for name in names])
    assert read(body, content_type).members == tuple(names)


def test_a_comma_a_plus_and_an_escape_are_part_of_a_name():
    names = ("a,b", "a+b", "a%20b", "é", "a&b=c", "a\\b")
    assert read(form_data(*(part("bundle", name) for name in names))).members == names


def test_a_form_without_fields_names_nothing():
    assert read(form_data()) == Query(())


@pytest.mark.parametrize(
    "content_type",
    [
        f'multipart/form-data; boundary="{B}"',
        f"Multipart/Form-Data;Boundary={B}",
        f"multipart/form-data; charset=UTF-8; boundary={B}",
        f"multipart/form-data; boundary={B}; charset=utf-8",
    ],
)
def test_a_boundary_is_found_as_clients_write_it(content_type):
    assert read(form_data(part("bundle", "a")), content_type).members == ("a",)


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Type: text/plain",),
        ("Content-Type: text/plain; charset=UTF-8", "Content-Transfer-Encoding: 8bit"),
        ('Content-Type: text/plain; charset="utf-8"', "Content-Length: 1"),
        ("X-Own: 1",),
    ],
)
def test_headers_that_change_nothing_may_stand_in_a_part(headers):
    assert read(form_data(part("bundle", "a", *headers))).members == ("a",)


def test_what_stands_before_and_behind_the_parts_is_no_part():
    body = form_data(part("bundle", "a"))
    around = b"preamble\r\n" + body + b"\r\n" + body.replace(b"\r\n\r\na", b"\r\n\r\nb")
    assert read(around).members == ("a",)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="bundle"; filename="a.txt"',
        'form-data; name="bundle"; filename=""',
        "form-data; name=\"bundle\"; filename*=UTF-8''a.txt",
        'form-data; name="bundle";\tfilename="a.txt"',
        'form-data; name="bundle"; FileName = a.txt',
        'form-data; filename="a.txt"; name="bundle"',
    ],
)
def test_a_file_is_refused_by_name(disposition):
    body = form_data(part("bundle", "a").replace(b'form-data; name="bundle"', disposition.encode()))
    assert refusal(body) == (
        "the form's field 'bundle' is a file: send the paths of files, not their content"
    )


@pytest.mark.parametrize(
    "content_type",
    [
        *("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary"),
        *('multipart/form-data; boundary=""', f'multipart/form-data; boundary="{B}'),
        f"multipart/form-data; boundary={B}; boundary={B}",
        f'multipart/form-data; x="; boundary=other"; boundary={B}; boundary=other',
        f"multipart/form-data; boundary*=utf-8''{B}",
        f"multipart/form-data, multipart/form-data; boundary={B}",
        f"multipart/form-data; boundary={B} x",
        f"multipart/form-data; boundary={B}é",
        f"multipart/form-data; boundary={'b' * 71}",
        "multipart/form-data; boundary=\r\n",
        "multipart/form-data; boundary=a b",
    ],
)
def test_a_boundary_that_is_not_one_clear_text_is_refused(content_type):
    assert "has no clear boundary" in refusal(form_data(part("bundle", "a")), content_type)


UTF_16 = "Content-Type: text/plain; charset=utf-16"
ONE = part("bundle", "a")
MALFORMED = {
    "nothing": b"",
    "no end": ONE + b"\r\n",
    "another boundary": form_data(ONE).replace(B.encode(), b"other"),
    "bare line feeds": form_data(ONE).replace(b"\r\n", b"\n"),
    "a text behind a boundary": form_data(ONE).replace(b"gW\r\nC", b"gWx\r\nC"),
    "a boundary in a line": b"x--" + form_data(ONE)[2:],
    "no disposition": form_data(ONE.replace(b"Content-Disposition", b"X")),
    "another disposition": form_data(ONE.replace(b"form-data;", b"attachment;")),
    "no name": form_data(ONE.replace(b'; name="bundle"', b"")),
    "two names": form_data(ONE.replace(b'"bundle"', b'"x"; name="bundle"')),
    "a name without its quote": form_data(ONE.replace(b'"bundle"', b'"bundle')),
    "two dispositions": form_data(part("bundle", "a", "Content-Disposition: form-data; name=x")),
    "a folded header": form_data(ONE.replace(b"; name", b";\r\n name")),
    "no colon": form_data(ONE.replace(b":", b"")),
    "a header of a kilobyte": form_data(part("b" * 1024, "a")),
    "nine headers": form_data(part("bundle", "a", *(f"X-{n}: 1" for n in range(8)))),
    "a name in another encoding": form_data(ONE.replace(b"bundle", b"b\xfc")),
    "a field in another encoding": form_data(part("bundle", "a", UTF_16)),
    "base64": form_data(part("bundle", "YQ==", "Content-Transfer-Encoding: base64")),
    "a length that is none": form_data(part("bundle", "a", "Content-Length: -1")),
    "another length": form_data(part("bundle", "a", "Content-Length: 2")),
    "a value in another encoding": form_data(part("bundle", b"\xff")),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_form_is_refused_in_words(kind):
    detail = refusal(MALFORMED[kind])
    assert detail.startswith("the ")
    assert "Error" not in detail
    assert "\\x" not in detail


def test_a_form_that_was_cut_off_anywhere_is_refused():
    body = form_data(part("bundle", "a"), part("bundle", "b"))
    whole = len(body) - len(b"\r\n")
    for end in range(whole):
        refusal(body[:end])
    assert read(body[:whole]).members == ("a", "b")


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 40))
def test_any_damage_is_read_or_refused(junk, place, removed):
    body = form_data(part("bundle", "a"), part("filename", "x"))
    members_of(body[:place] + junk + body[place + removed :])


@given(st.text(max_size=60))
def test_any_content_type_has_a_clear_boundary_or_is_refused(text):
    for content_type in (text, "multipart/form-data;" + text, TYPE + text):
        assert members_of(form_data(part("bundle", "a")), content_type) in {("a",), None}


def test_no_more_fields_are_read_than_a_list_may_have():
    several = [part("bundle", str(number)) for number in range(2)]
    others = [part("x", "1")] * (OTHER_PARAMETERS - 1)
    assert read(form_data(several[0], *others), max_members=1).members == ("0",)
    for parts in (several, [several[0], *others, *others[:2]]):
        with pytest.raises(ContentTooLarge, match="more than 1 members are named"):
            read(form_data(*parts), max_members=1)


# --- at a gateway ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app() -> Iterator[TestApp]:
    files = {"a.txt": b"alpha", "b,c.txt": b"beta"}
    with FilesUpstream(dict(files)) as upstream, gateway_to(upstream) as running:
        yield running


def test_a_form_of_a_script_is_answered_with_its_archive(app):
    body = form_data(part("bundle", "a.txt"), part("bundle", "b,c.txt"), part("filename", "mine"))
    response = app.request("/?bundle", method="POST", body=body, content_type=TYPE)
    assert unpacked(response.body) == {"a.txt": b"alpha", "b,c.txt": b"beta"}
    assert response.headers["Content-Disposition"] == 'attachment; filename="mine.tar"'


def test_a_file_in_a_form_is_a_400_that_says_so(app):
    upload = [("bundle", "a.txt", b"content")]
    response = app.post("/?bundle", upload_files=upload, status=400)
    assert response.json["detail"].startswith("the form's field 'bundle' is a file")


def test_another_type_is_told_which_ones_there_are(app):
    response = app.post("/?bundle", b"bundle=a.txt", content_type="text/plain", status=415)
    assert response.json["detail"] == (
        "a list of members is sent as application/json, multipart/form-data "
        "or application/x-www-form-urlencoded"
    )
