"""Signatures: the same for every spelling of a request, and for no other request."""

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tar_gateway import sign_url
from tar_gateway.access.links import Browsing, check_link, hide_signature, without_signature
from tar_gateway.errors import Forbidden
from tar_gateway.settings.line_files import SigningKey

SECRET = "a secret for the tests"
KEYS = [SigningKey("k1", SECRET.encode()), SigningKey("k2", b"another secret of the tests")]
EXPIRES = 1_800_000_000
NOW = EXPIRES - 1.0
URL = "/reports/?bundle=a.pdf,b.pdf&filename=mine.tar"


def signed(url: str = URL, *, expires: int = EXPIRES, key_id: str = "k1") -> str:
    return sign_url(url, SECRET, expires=expires, key_id=key_id)


def check(url: str, now: float = NOW) -> None:
    """Check a request as it arrives: its path decoded once by the server, its query raw."""
    path, _, query = url.partition("?")
    check_link(unquote_to_bytes(path), query, KEYS, now)


def why_refused(url: str, now: float = NOW) -> str:
    with pytest.raises(Forbidden) as refused:
        check(url, now)
    assert refused.value.status == 403
    return refused.value.detail


CHANGED = "the link was changed"
UNSIGNED = "the link is not signed"


def test_a_signed_link_holds():
    check(signed())


def test_what_is_added_stands_behind_what_there_was():
    url, _, signature = signed().rpartition("&signature=")
    assert url == f"{URL}&expires={EXPIRES}&key_id=k1"
    assert len(signature) == 43
    assert signature.replace("-", "").replace("_", "").isalnum()


def hmac_of(lines: str) -> str:
    """Sign, with the first key, what stands behind the first line."""
    proof = hmac.digest(SECRET.encode(), f"tar-gateway-v1\n{lines}".encode(), "sha256")
    return urlsafe_b64encode(proof).decode().rstrip("=")


def test_a_signature_is_the_hmac_of_three_lines():
    lines = "/a%20b/~c/%26/\nbundle=a%20b,%2Cc&v=7&x%2Fy&expires=1800000000&key_id=k1"
    url = "/a%20b/%7Ec/&/?bundle=a+b,%2cc&v=7&x/y"
    assert signed(url) == f"{url}&expires=1800000000&key_id=k1&signature={hmac_of(lines)}"


@pytest.mark.parametrize(
    ("url", "start"),
    [
        ("/a.txt", "/a.txt?expires="),
        ("/a.txt?", "/a.txt?expires="),
        ("/?bundle=a", "/?bundle=a&expires="),
        ("/a?x=1?y", "/a?x=1?y&expires="),
        ("https://files.example/a/?bundle=b", "https://files.example/a/?bundle=b&expires="),
        ("http://files.example:8000?bundle=b", "http://files.example:8000?bundle=b&expires="),
    ],
)
def test_a_url_stays_as_it_was_given(url, start):
    assert signed(url).startswith(start)


@pytest.mark.parametrize(
    "url",
    [
        "https://files.example/reports/?bundle=a",
        "HTTP://user@[::1]:8000/reports/?bundle=a",
        "http://other.example/reports/?bundle=a",
    ],
)
def test_a_signature_is_of_the_path_and_query_at_whatever_host(url):
    assert signed(url).partition("?")[2] == signed("/reports/?bundle=a").partition("?")[2]


def test_a_url_without_a_path_is_the_root():
    _, _, query = signed("http://files.example?bundle=a").partition("?")
    check("/?" + query)


def test_a_key_may_be_bytes_or_text():
    assert sign_url(URL, SECRET.encode(), expires=EXPIRES, key_id="k1") == signed()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "reports/?bundle=a",
        "?bundle=a",
        "//files.example/reports/",
        "ftp://files.example/",
        "https:///reports/",
        "https:/reports/",
        "http://[::1/",
        "/reports/?bundle=a#part",
        "/reports/#?bundle=a",
        "/reports/?bundle=a b",
        "/reports/?bundle=ü",
        "/reports/\n?bundle=a",
        "/reports/?bundle=a\t",
    ],
)
def test_what_no_client_sends_as_it_stands_is_not_signed(url):
    with pytest.raises(ValueError, match="URL"):
        signed(url)


@pytest.mark.parametrize("name", ["signature", "expires", "key_id", "%73ignature", "key%5fid"])
@pytest.mark.parametrize("value", ["", "=1"])
def test_a_link_is_signed_once(name, value):
    with pytest.raises(ValueError, match="signed already"):
        signed(f"{URL}&{name}{value}")


@pytest.mark.parametrize("expires", [0, -1, True, 1.5, 1e9, "1800000000", None, 1_800_000_000_000])
def test_a_link_expires_at_a_unix_time_in_whole_seconds(expires):
    with pytest.raises(ValueError, match="expires"):
        signed(expires=expires)


@pytest.mark.parametrize(
    ("key", "key_id"),
    [
        (SECRET, ""),
        (SECRET, "k 1"),
        (SECRET, "k&1"),
        (SECRET, "k1\n"),
        ("", "k1"),
        ("fifteen letters", "k1"),
        (SECRET + "\n", "k1"),
        (f"{SECRET}\n{SECRET}", "k1"),
        ("ü" * 16, "k1"),
        (b"\xff" * 32, "k1"),
    ],
)
def test_a_key_that_could_not_stand_in_the_gateways_file_signs_nothing(key, key_id):
    with pytest.raises(ValueError, match="a key's") as refused:
        sign_url(URL, key, expires=EXPIRES, key_id=key_id)
    assert "secret for" not in str(refused.value)


# --- what is refused, and what is said of it ----------------------------------------------------

LINK = signed()
SIGNATURE = LINK.rpartition("=")[2]


@pytest.mark.parametrize("name", ["signature", "expires", "key_id"])
def test_a_link_without_one_of_its_own_parameters_is_not_signed(name):
    base, _, query = LINK.partition("?")
    left = [part for part in query.split("&") if not part.startswith(name)]
    assert why_refused(f"{base}?{'&'.join(left)}").startswith(UNSIGNED)


@pytest.mark.parametrize("url", ["/", "/reports/", URL])
def test_a_plain_url_is_not_signed(url):
    assert why_refused(url).startswith(UNSIGNED)


@pytest.mark.parametrize(
    "again", ["signature=x", "expires", "key_id=k1", "%65xpires=1", "key%5Fid"]
)
def test_a_links_own_parameter_given_twice_is_refused(again):
    base, _, query = LINK.partition("?")
    assert "more than once" in why_refused(f"{LINK}&{again}")
    assert "more than once" in why_refused(f"{base}?{again}&{query}")


@pytest.mark.parametrize("key_id", ["k3", "", "K1", "k1%00", "%FF", "k1,k2"])
def test_a_key_that_is_not_in_the_file_is_not_known(key_id):
    url = LINK.replace("key_id=k1", f"key_id={key_id}")
    assert why_refused(url) == "the link is signed with a key that is not known"


CHANGES = {
    "another path": ("/reports/", "/report/"),
    "a deeper path": ("/reports/", "/reports/2026/"),
    "no slash at the path's end": ("/reports/", "/reports"),
    "a path in other letters": ("/reports/", "/Reports/"),
    "another member": ("a.pdf", "c.pdf"),
    "a member more": ("b.pdf", "b.pdf,c.pdf"),
    "a member less": (",b.pdf", ""),
    "members in another order": ("a.pdf,b.pdf", "b.pdf,a.pdf"),
    "a comma that is part of a name": ("a.pdf,b.pdf", "a.pdf%2Cb.pdf"),
    "members one by one": ("a.pdf,b.pdf", "a.pdf&bundle=b.pdf"),
    "another file name": ("mine.tar", "yours.tar"),
    "no file name": ("&filename=mine.tar", ""),
    "a parameter that is called otherwise": ("filename", "filenam"),
    "a parameter more": ("filename=", "x=1&filename="),
    "a parameter more, without a value": ("&filename=", "&x&filename="),
    "a parameter more, without a name": ("&filename=", "&=&filename="),
    "a parameter more, behind a semicolon": ("mine.tar", "mine.tar;x=1"),
    "an equals sign that divides": ("filename=mine.tar", "filename=mine=.tar"),
    "a divider that is part of a value": ("&filename=", "%26filename="),
    "a line more": ("&filename=", "%0A&filename="),
    "another time": (f"expires={EXPIRES}", f"expires={EXPIRES + 1}"),
    "a time written otherwise": (f"expires={EXPIRES}", f"expires=0{EXPIRES}"),
    "another key": ("key_id=k1", "key_id=k2"),
    "another signature": (SIGNATURE, "A" * len(SIGNATURE)),
    "half a signature": (SIGNATURE, SIGNATURE[:20]),
    "a padded signature": (SIGNATURE, SIGNATURE + "="),
    "no signature": (SIGNATURE, ""),
    "bytes for a signature": (SIGNATURE, "%FF%00"),
    "its parameters in another order": (
        f"expires={EXPIRES}&key_id=k1",
        f"key_id=k1&expires={EXPIRES}",
    ),
}


@pytest.mark.parametrize(("was", "becomes"), CHANGES.values(), ids=CHANGES)
def test_a_link_that_was_changed_is_refused(was, becomes):
    assert LINK.count(was) == 1
    assert why_refused(LINK.replace(was, becomes)).startswith(CHANGED)


@pytest.mark.parametrize("divider", ["=", ",", ";", "&"])
def test_what_may_divide_is_not_what_is_part_of_a_value(divider):
    one, other = f"/a?b=c{divider}d=e", f"/a?b=c%{ord(divider):02X}d=e"
    for written, sent in [(one, other), (other, one)]:
        own = signed(written).partition("expires=")[2]
        assert why_refused(f"{sent}&expires={own}").startswith(CHANGED)


def test_every_letter_of_a_signature_counts():
    # Of the last one two bits are no part of the HMAC, and base64 would overlook them.
    for place, letter in enumerate(SIGNATURE):
        other = SIGNATURE[:place] + chr(ord(letter) ^ 1) + SIGNATURE[place + 1 :]
        assert why_refused(LINK.replace(SIGNATURE, other)).startswith(CHANGED)


SPELLINGS = {
    "a tilde": ("/%7Ereports/?bundle=~a", "/~reports/?bundle=%7ea"),
    "a space": ("/a%20b/?bundle=a+b", "/a%20b/?bundle=a%20b"),
    "hexadecimal digits": ("/%C3%BC/?bundle=%C3%BC", "/%c3%bc/?bundle=%c3%bC"),
    "letters": ("/reports/?bundle=a", "/r%65ports/?%62undle=%61"),
    "a quote, as browsers escape it": ("/a?b=it's", "/a?b=it%27s"),
    "a slash": ("/a?bundle=2026/a", "/a?bundle=2026%2Fa"),
    "a stray percent sign": ("/100%25?x=100%25", "/100%?x=100%"),
    "empty parameters": ("/a?&b&&c=&", "/a?b&c="),
}


@pytest.mark.parametrize(("one", "other"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_link_may_be_spelled_otherwise(one, other):
    for written, sent in [(one, other), (other, one)]:
        own = signed(written).partition("expires=")[2]
        check(f"{sent}&expires={own}")


def test_its_own_parameters_may_be_spelled_otherwise_and_stand_anywhere():
    spelled = "".join(f"%{ord(letter):02x}" for letter in SIGNATURE)
    own = f"&signature={SIGNATURE}"
    check(LINK.replace(own, "").replace("?", f"?%73ignature={spelled}&"))


VERSIONS = ["v", "v=", "v=tar-0123", "%76=x", "v=1&v=2", "v=1;x=2"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_may_be_added_behind_the_signature(version):
    check(f"{LINK}&{version}")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_that_was_signed_is_part_of_the_link(version):
    base, _, query = LINK.partition("?")
    assert why_refused(f"{base}?{version}&{query}").startswith(CHANGED)
    link = signed(f"{URL}&{version}")
    check(link)
    check(f"{link}&v=another")
    for other in ("", f"&{version}0"):
        assert why_refused(link.replace(f"&{version}", other)).startswith(CHANGED)
    moved = link.replace(f"&{version}", "") + f"&{version}"
    assert why_refused(moved).startswith(CHANGED)


@pytest.mark.parametrize("name", ["V", "vv", "v%00", "%2576"])
def test_nothing_else_may_be_added(name):
    assert why_refused(f"{LINK}&{name}=1").startswith(CHANGED)


def test_a_link_holds_until_the_second_it_expires():
    check(LINK, EXPIRES - 0.001)
    assert why_refused(LINK, float(EXPIRES)) == "the link has expired"


def test_whether_a_link_expired_is_told_to_those_only_who_have_a_signed_one():
    assert why_refused(LINK.replace("a.pdf", "c.pdf"), EXPIRES + 1.0).startswith(CHANGED)


@pytest.mark.parametrize("expires", ["", "x", "1e9", "-1", "0", "18000000001234", "%D9%A1"])
def test_a_signature_of_what_is_no_time_does_not_hold_for_ever(expires):
    query = f"expires={expires}&key_id=k1"
    signature = hmac_of(f"/a\n{query}")
    url = f"/a?{query}&signature={signature}"
    assert why_refused(url) == "the link does not say when it expires"


# --- what reaches the upstream of a plain request -----------------------------------------------


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (LINK.partition("?")[2], "bundle=a.pdf,b.pdf&filename=mine.tar"),
        ("expires=1&key_id=k&signature=s", ""),
        ("%65xpires=1&a=%2c+b&&signature&v=7;x=1", "a=%2c+b&"),
        ("v=7&a=b&signature=s&v=8", "v=7&a=b"),
        ("signatures=1&V=2&x=v&y=expires=1", "signatures=1&V=2&x=v&y=expires=1"),
        ("signature;x=1&v;x=1", "signature;x=1&v;x=1"),
    ],
)
def test_what_is_left_of_a_query_is_what_was_signed(query, left):
    assert without_signature(query) == left


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (f"a=b&&signature={SIGNATURE}&v=1", "a=b&&signature=...&v=1"),
        (f"%73ign%61ture={SIGNATURE}&signature", "signature=...&signature=..."),
        ("signatures=1&x=signature=1", "signatures=1&x=signature=1"),
        # Copied out of a page's source, escaped twice, or put into the path.
        (f"a=b&amp;signature={SIGNATURE}&v=1", "a=b&amp;signature=...&v=1"),
        (f"a=b&signature%3D{SIGNATURE}", "a=b&signature%3D..."),
        (f"a=b%26signature%253d{SIGNATURE}", "a=b%26signature%253d..."),
        (f"a=b;Signature+={SIGNATURE}", "a=b;Signature+=..."),
        (f"/a?key_id=k1&signature={SIGNATURE}", "/a?key_id=k1&signature=..."),
        ("", ""),
    ],
)
def test_a_signature_is_hidden_however_it_is_spelled(query, shown):
    assert hide_signature(query) == shown


# --- any request at all -------------------------------------------------------------------------

DIVIDERS = "=,;"
ESCAPED = "&=,;+%#"  # when they stand for themselves in a value


@dataclass(frozen=True, slots=True)
class Literal:
    """A divider as it stands, which is no part of a name or value."""

    text: str


# A parameter is a row of bytes and literal dividers; few, so that they come to be alike.
ITEMS = st.one_of(
    st.sampled_from(b"av=,;&+% %0A/\n~\xc3"),
    st.integers(0, 255),
    st.sampled_from(DIVIDERS).map(Literal),
)
PARAMETERS = st.lists(ITEMS, min_size=1, max_size=5).map(tuple)
PATHS = st.lists(st.sampled_from(b"ab/%.~? \n\xc3\xbc") | st.integers(0, 255), max_size=6)
REQUESTS = st.tuples(PATHS.map(bytes), st.lists(PARAMETERS, max_size=4).map(tuple))


def name_of(parameter: tuple) -> bytes:
    name = []
    for item in parameter:
        if item == Literal("="):
            break
        name.append(item.text.encode() if isinstance(item, Literal) else bytes([item]))
    return b"".join(name)


def is_ordinary(parameter: tuple) -> bool:
    return name_of(parameter) not in {b"signature", b"expires", b"key_id"}


def spell_byte(draw, byte: int, safe: str) -> str:
    ways = [f"%{byte:02X}", f"%{byte:02x}"]
    if chr(byte) in safe:
        ways.append(chr(byte))
    return draw(st.sampled_from(ways))


PATH_SAFE = "abAv0/~.-_!$&'()*+,;=:@"
QUERY_SAFE = "abAv0/~.-_!$'()*:@?"


def spell(draw, request: tuple) -> str:
    """Write a request as a client, a library or a proxy may."""
    path, parameters = request
    parts = []
    for parameter in parameters:
        part = ""
        for item in parameter:
            if isinstance(item, Literal):
                part += item.text
            elif item == ord(" ") and draw(st.booleans()):
                part += "+"
            else:
                part += spell_byte(draw, item, QUERY_SAFE)
        parts.append(part)
    written = "".join(spell_byte(draw, byte, PATH_SAFE) for byte in path)
    return f"/x{written}?{'&'.join(parts)}"


def with_own(url: str, link: str) -> str:
    """Give a URL the parameters that belong to another's signature."""
    return f"{url}&expires={link.partition('&expires=')[2] or link.partition('?expires=')[2]}"


@given(request=REQUESTS, data=st.data())
def test_any_request_signed_in_one_spelling_holds_in_any_other(request, data):
    assume(all(map(is_ordinary, request[1])))
    link = signed(spell(data.draw, request))
    check(link)
    check(with_own(spell(data.draw, request), link))


@given(request=REQUESTS, other=REQUESTS, data=st.data())
def test_no_signature_is_of_two_requests(request, other, data):
    assume(request != other)
    assume(all(map(is_ordinary, request[1] + other[1])))
    link = signed(spell(data.draw, request))
    assert why_refused(with_own(spell(data.draw, other), link)).startswith(CHANGED)


@st.composite
def changed(draw, request: tuple) -> tuple:
    """Change one thing of a request."""
    path, parameters = request
    rows = [list(parameter) for parameter in parameters]
    kinds = ["insert a parameter", "change the path"]
    kinds += ["drop a parameter", "change a parameter", "move a parameter"] if rows else []
    kind = draw(st.sampled_from(kinds))
    place = draw(st.integers(0, max(len(rows) - 1, 0)))
    match kind:
        case "change the path":
            cut = draw(st.integers(0, len(path)))
            path = path[:cut] + draw(st.binary(min_size=1, max_size=1)) + path[cut + 1 :]
        case "insert a parameter":
            rows.insert(place, list(draw(PARAMETERS)))
        case "drop a parameter":
            del rows[place]
        case "move a parameter":
            rows.append(rows.pop(place))
        case "change a parameter":
            row = rows[place]
            cut = draw(st.integers(0, len(row)))
            row[cut : cut + draw(st.integers(0, 1))] = draw(st.lists(ITEMS, max_size=1))
            assume(row)
    return path, tuple(map(tuple, rows))


@given(request=REQUESTS, data=st.data())
def test_a_request_of_which_one_thing_was_changed_is_refused(request, data):
    other = data.draw(changed(request))
    assume(other != request)
    assume(all(map(is_ordinary, request[1] + other[1])))
    link = signed(spell(data.draw, request))
    assert why_refused(with_own(spell(data.draw, other), link)).startswith(CHANGED)


@given(query=st.text(st.characters(max_codepoint=127)), path=st.binary())
def test_nothing_that_nobody_signed_is_anything_but_refused(query, path):
    with pytest.raises(Forbidden):
        check_link(path, query, KEYS, NOW)
    own = f"expires={EXPIRES}&key_id=k1&signature={SIGNATURE}"
    with pytest.raises(Forbidden):
        check_link(path, f"{query}&{own}", KEYS, NOW)


# --- the right to browse ------------------------------------------------------------------------


@given(st.lists(st.text("ab c,;=%&/.é", min_size=1, max_size=6), min_size=1, max_size=3))
def test_a_right_signs_what_lies_below_its_directory_and_nothing_else(names):
    right = Browsing(b"/d e/", SigningKey("k1", b"a secret for the tests"), 2_000_000_000)
    reference = "./" + "/".join(quote(name, safe="") for name in names)
    try:
        link = right.sign(reference)
    except ValueError:
        assert {"..", "."} & set("/".join(names).split("/"))
        return
    path, _, query = link.partition("?")
    assert path == reference
    whole = b"/d e/" + unquote_to_bytes(reference.removeprefix("./"))
    check_link(whole, query, [right.key], now=1_000_000_000)
    with pytest.raises(Forbidden):
        check_link(b"/other/" + whole, query, [right.key], now=1_000_000_000)


@pytest.mark.parametrize(
    "reference", ["./../a", "./%2e%2e/a", "./b/..", "../", "./b/../../a?browse"]
)
def test_a_right_signs_nothing_that_climbs(reference):
    right = Browsing(b"/d/", SigningKey("k1", b"a secret for the tests"), 2_000_000_000)
    with pytest.raises(ValueError, match="leads out of the directory"):
        right.sign(reference)
