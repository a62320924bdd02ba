"""Which headers go on beyond one connection, and how a file's name is written into one."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.http.headers import (
    HOP_BY_HOP,
    attachment,
    end_to_end,
    forbids_storing,
    is_replaced,
    sent_on,
    wrongly_named,
)
from tar_gateway.http.paths import device_in

KEPT = ("ETag", '"a"')


@pytest.mark.parametrize("name", [*sorted(HOP_BY_HOP), "Keep-Alive", "TE"])
def test_a_header_of_one_connection_does_not_go_on(name):
    assert list(end_to_end([(name, "x"), KEPT])) == [KEPT]


@pytest.mark.parametrize(
    "values",
    [["no-store"], ["private, No-Store"], ["max-age=0", "no-store"], ['private="a", no-store=1']],
)
def test_no_store_is_found_among_the_directives(values):
    assert forbids_storing(values)


@pytest.mark.parametrize(
    "values", [[], [""], ["no-cache"], ["x-no-store, no-store-x"], ['private="no-store, x"']]
)
def test_nothing_else_is_taken_for_no_store(values):
    assert not forbids_storing(values)


@pytest.mark.parametrize("listed", ["X-Hop", "x-hop", "close, X-HOP", " close ,\tx-hop , "])
def test_what_connection_names_does_not_go_on(listed):
    headers = [("X-Hop", "1"), ("coNNection", listed), KEPT, ("x-hop", "2")]
    assert list(end_to_end(headers)) == [KEPT]


def test_every_connection_header_is_heeded():
    headers = [("Connection", "X-A"), ("Connection", "X-B"), ("X-A", "1"), ("X-B", "2"), KEPT]
    assert list(end_to_end(headers)) == [KEPT]


@pytest.mark.parametrize(
    "name",
    ["X-Accel-Redirect", "x-accel-buffering", "X-ACCEL-Expires", "X-Sendfile", "X-REPROXY-URL"],
)
def test_orders_to_a_proxy_in_front_do_not_go_on(name):
    assert list(end_to_end([(name, "/secret"), KEPT])) == [KEPT]


@pytest.mark.parametrize(
    "pair",
    [
        ("", "x"),
        ("A B", "x"),
        ("A:", "x"),
        ("É", "x"),
        ("A\n", "x"),
        ("A", "x\r\nSet-Cookie: y"),
        ("A", "x\n"),
        ("A", "\0"),
        ("A", "\x7f"),
        ("A", "€"),
    ],
)
def test_a_header_that_is_none_does_not_go_on(pair):
    assert list(end_to_end([pair, KEPT])) == [KEPT]


def test_all_else_goes_on_in_order_as_it_stands():
    headers = [
        ("Set-Cookie", "a=1"),
        KEPT,
        ("Set-Cookie", "b=2"),
        ("x-a", "\xe9\t"),
    ]
    assert list(end_to_end(iter(headers))) == headers


@pytest.mark.parametrize("name", ["a.tar", "a b;c,d=e.tar", "it's.tar", "~!#$&()[]{}.tar"])
def test_a_plain_file_name_is_written_once(name):
    assert attachment(name) == f'attachment; filename="{name}"'


@pytest.mark.parametrize(
    ("name", "plain", "extended"),
    [
        ("é.tar", "e.tar", "%C3%A9.tar"),
        ("e\u0301.tar", "e.tar", "e%CC%81.tar"),
        ("日本.tar", "__.tar", "%E6%97%A5%E6%9C%AC.tar"),
        ('a"b.tar', "a_b.tar", "a%22b.tar"),
        ("a\\b.tar", "a_b.tar", "a%5Cb.tar"),
        ("50%.tar", "50_.tar", "50%25.tar"),
        ("%22.tar", "_22.tar", "%2522.tar"),
        ("é;b'c.tar", "e;b'c.tar", "%C3%A9%3Bb%27c.tar"),
        ("a\u2028b", "a_b", "a%E2%80%A8b"),
        ("\uff02", "_", "%EF%BC%82"),
        # Quotes, escapes and parameters that might end the value or begin another.
        ('"; filename="evil.exe', "_; filename=_evil.exe", "%22%3B%20filename%3D%22evil.exe"),
        ("a\";filename*=UTF-8''b", "a_;filename*=UTF-8''b", "a%22%3Bfilename%2A%3DUTF-8%27%27b"),
        ("%0d%0aX-A: b", "_0d_0aX-A: b", "%250d%250aX-A%3A%20b"),
        ("%2e%2e%2fb", "_2e_2e_2fb", "%252e%252e%252fb"),
        ('"', "_", "%22"),
        ("%", "_", "%25"),
        # What folds to a path, to dots, to quotes or to nothing.
        ("..\uff0fb", "_.._b", "..%EF%BC%8Fb"),
        ("\uff0e\uff0e", "_", "%EF%BC%8E%EF%BC%8E"),
        ("\u2025\u2044b", "_.._b", "%E2%80%A5%E2%81%84b"),
        ("\uff3cb", "_b", "%EF%BC%BCb"),
        ("\uff05b", "_b", "%EF%BC%85b"),
        ("\u0301", "_", "%CC%81"),
        ("\u200b.tar", "_.tar", "%E2%80%8B.tar"),
        # What folds to a hidden file, or to a device on Windows.
        ("\uff0ehtaccess", "_.htaccess", "%EF%BC%8Ehtaccess"),
        ("\xa0\uff0ea", "_ .a", "%C2%A0%EF%BC%8Ea"),
        ("\u0301.tar", "_.tar", "%CC%81.tar"),
        ("\uff23ON.tar", "_CON.tar", "%EF%BC%A3ON.tar"),
        ("lpt\u00b9.tar", "_lpt1.tar", "lpt%C2%B9.tar"),
        # Characters that hide or turn round what is behind them.
        ("a\u202etxt.exe", "a_txt.exe", "a%E2%80%AEtxt.exe"),
        ("\ufeffa", "_a", "%EF%BB%BFa"),
        ("a\u2029b", "a_b", "a%E2%80%A9b"),
        ("a\xa0b.tar", "a b.tar", "a%C2%A0b.tar"),
        ("ﬁle½.tar", "file1_2.tar", "%EF%AC%81le%C2%BD.tar"),
        ("🎉.tar", "_.tar", "%F0%9F%8E%89.tar"),
        ("é" * 127, "e" * 127, "%C3%A9" * 127),
    ],
)
def test_other_file_names_are_written_plainly_and_in_full(name, plain, extended):
    assert attachment(name) == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{extended}"


file_names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1
)


@given(file_names)
def test_a_file_name_can_be_read_back_from_the_header(name):
    written = re.fullmatch(
        r'attachment; filename="(?P<plain>[^"\\%]*)"'
        r"(; filename\*=UTF-8''(?P<full>[A-Za-z0-9%._~-]+))?",
        attachment(name),
    )
    assert written
    full = written["full"]
    assert (written["plain"] if full is None else unquote(full, errors="strict")) == name


@given(file_names)
def test_the_plain_form_is_no_path_whatever_the_name(name):
    plain = attachment(name).split('"')[1]
    assert not set(plain) & set("/\\")
    assert plain.strip(".")


@given(file_names)
def test_the_plain_form_is_no_hidden_file_and_no_device_whatever_the_name(name):
    plain = attachment(name).split('"')[1]
    assert not plain.lstrip().startswith(".")
    assert device_in(plain) is None


@given(file_names)
def test_the_header_is_printable_ascii_whatever_the_name(name):
    assert all(" " <= character <= "~" for character in attachment(name))


# --- requests that go on -----------------------------------------------------------------------

OVERRIDES = [
    *("Proxy", "X-Original-URL", "X-Original-URI", "X-Rewrite-URL", "X-HTTP-Method"),
    *("X-HTTP-Method-Override", "X-Method-Override", "X-Forwarded-Uri", "X-Forwarded-Method"),
    *("Script-Name", "Path-Info", "X-Override-URL", "X-Envoy-Original-Path"),
    *("X-Request-URI", "X-WAWS-Unencoded-URL", "X-Invoke-Query"),
]
SAID_BY_FRONTS = [
    *("Forwarded", "Remote-User", "Remote-Groups", "X-Remote-User", "X-Forwarded-For"),
    *("X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-SSL-Client-DN"),
    *("X-Middleware-Subrequest", "X-Real-IP", "X-Auth-Request-User", "True-Client-IP"),
    *("Client-Cert", "CF-Connecting-IP", "X-Client-Cert", "X-Script-Name"),
    *("OIDC-Claim-Sub", "SM-User", "SM-UserDN", "iv-user", "Shib-Session-ID", "AJP-Remote-User"),
    *("X-ARR-ClientCert", "X-Amzn-Mtls-Clientcert", "X-Tls-Client-Cert", "X-Consumer-Username"),
]
PLAIN = [("Accept", "*/*"), ("Authorization", "Basic eA=="), ("X-Request-ID", "1"), ("X-User", "7")]


def spellings(name):
    return [name, name.lower(), name.upper(), name.replace("-", "_")]


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("name", OVERRIDES)
def test_another_path_or_method_is_sent_to_no_server_whoever_says_it(name, trusted):
    headers = [*((each, "x") for each in spellings(name)), *PLAIN]
    assert list(sent_on(headers, trusted=trusted)) == PLAIN


@pytest.mark.parametrize("name", SAID_BY_FRONTS)
def test_only_a_trusted_proxy_says_who_the_client_is(name):
    said = [(each, "x") for each in spellings(name)]
    assert list(sent_on([*said, *PLAIN], trusted=False)) == PLAIN
    assert list(sent_on([*said, *PLAIN], trusted=True)) == [*said, *PLAIN]


@pytest.mark.parametrize("name", [*sorted(HOP_BY_HOP), "X-Accel-Redirect", "A B"])
def test_what_is_not_for_the_next_server_is_not_sent_on(name):
    assert list(sent_on([(name, "x"), *PLAIN], trusted=True)) == PLAIN


def test_a_connection_takes_no_other_header_of_a_request_away():
    headers = [("Connection", "close, Accept, X-Request-ID"), *PLAIN]
    assert list(sent_on(headers, trusted=True)) == PLAIN


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "Cookie", "Host", "Forwarded", "X-Forwarded-For", "X-Anything"),
        *("x_remote_user", "REMOTE-USER", "Proxy", "Api-Key", "api_key"),
    ],
)
def test_a_connection_must_not_name_what_others_rely_on(name):
    assert wrongly_named(f"close ,\t{name} ,TE", ["Api-Key"]) == name


@pytest.mark.parametrize(
    "connection",
    ["", "close", "keep-alive, Upgrade, HTTP2-Settings", "TE", ",,", "Accept-Language", "Api-Key"],
)
def test_a_connection_may_name_anything_else(connection):
    assert wrongly_named(connection, []) is None


# --- a response's orders -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "replaced"),
    [
        *((name, True) for name in ("X-Accel-Redirect", "X-Sendfile", "X-Sendfile2")),
        *((name, True) for name in ("X-Archive-Files", "X-LIGHTTPD-send-file", "X-Reproxy-File")),
        *((name, True) for name in ("X-LIGHTTPD-send-tempfile", "X-LiteSpeed-Location")),
        *((name, False) for name in ("X-Accel-Buffering", "X-Accel-Expires", "Surrogate-Control")),
        *((name, False) for name in ("X-LIGHTTPD-KBytes-per-second", "X-LiteSpeed-Cache-Control")),
    ],
)
def test_orders_to_a_front_never_go_on_and_some_leave_the_content_to_it(name, replaced):
    assert list(end_to_end([(name, "zip"), KEPT])) == [KEPT]
    assert is_replaced([KEPT[0].lower(), name.lower()]) is replaced


def test_a_list_of_files_goes_on_only_if_it_is_left_to_a_server_in_front():
    listed = [("X-Archive-Files", "zip"), ("X-Archive-Charset", "utf-8"), KEPT]
    assert list(end_to_end(listed)) == [KEPT]
    assert list(end_to_end(listed, lists=True)) == listed
