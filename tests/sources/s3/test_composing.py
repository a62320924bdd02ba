"""What may be signed: one key, a range, conditions, and lists below the prefix; nothing else."""

import re
from contextlib import suppress
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.errors import BadRequest, PreconditionFailed, SourceError
from tar_gateway.http.paths import url_path
from tar_gateway.sources.s3.composing import Scope, Wish

HERE = Scope("bucket", "pre/fix/", "http://127.0.0.1:9000")

# Sub-resources and parameters by which a GET means something else than an object's content.
SUBRESOURCES = [
    *("acl", "policy", "policyStatus", "versionId=1", "versions", "versioning", "uploads"),
    *("uploadId=1&partNumber=1", "partNumber=1", "torrent", "tagging", "retention", "legal-hold"),
    *("attributes", "restore", "select&select-type=2", "location", "logging", "lifecycle", "cors"),
    *("website", "notification", "replication", "encryption", "object-lock", "accelerate"),
    *("requestPayment", "inventory", "analytics", "metrics", "publicAccessBlock", "delete"),
    *("list-type=2&prefix=other/", "prefix=", "delimiter=", "continuation-token=x"),
    *("response-content-type=text/html", "response-content-disposition=x", "x-id=GetObject"),
    *("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0", "AWSAccessKeyId=a&Signature=b", ""),
]


@pytest.mark.parametrize("query", SUBRESOURCES)
@pytest.mark.parametrize("path", ["a.txt", "", "d/"])
def test_a_query_is_refused_whatever_it_says(path, query):
    for compose in (HERE.key, HERE.prefix_of):
        with pytest.raises(BadRequest, match="no query"):
            compose(f"{path}?{query}")


@pytest.mark.parametrize(
    "path",
    [
        *("..", "../x", "a/../../x", "a/..", ".", "./a", "a/.", "a//b", "/a", "//", "/"),
        *("%2e%2e/x", "a%2fb", "a%2Fb", "..%2fx", "%00", "a%0ab", "%ff", "%c0%ae%c0%ae/x"),
        *("%252e%252e/x", "a%5cb", "..%3b/x", "C%3A/x", "d//"),
    ],
)
def test_a_name_that_is_no_path_below_the_prefix_is_never_a_key(path):
    for compose in (HERE.key, HERE.prefix_of):
        with pytest.raises(BadRequest):
            compose(path)


@pytest.mark.parametrize("path", ["", "d/", "d/e/"])
def test_the_empty_key_and_one_with_a_slash_at_its_end_are_directories(path):
    with pytest.raises(SourceError) as told:
        HERE.key(path)
    assert told.value.status == 404
    assert HERE.prefix_of(path) == "pre/fix/" + path


def test_what_no_key_can_be_is_not_asked_for():
    with pytest.raises(SourceError) as told:
        HERE.key("x" * 1017)
    assert told.value.status == 404
    assert HERE.key("x" * 1016)


NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\%"), min_size=1),
    min_size=1,
).map("/".join)


@given(NAMES)
def test_each_spelling_of_a_name_is_the_one_key_and_the_one_request(name):
    spellings = {url_path(name), quote(name), quote(name, safe="/!$&'()*,:=@+;")}
    try:
        keys = {HERE.key(each) for each in spellings}
    except (BadRequest, SourceError):
        return
    assert keys == {"pre/fix/" + name}
    target = HERE.object_target(keys.pop())
    assert re.fullmatch(r"(?:[A-Za-z0-9/._~-]|%[0-9A-F]{2})+", target)
    assert unquote(target) == f"/bucket/pre/fix/{name}"


@given(st.text(max_size=60))
def test_whatever_is_asked_for_lies_below_the_prefix_or_nowhere(path):
    for compose in (HERE.key, HERE.prefix_of):
        with suppress(BadRequest, SourceError):
            assert compose(quote(path, safe="/%?")).startswith("pre/fix/")


@given(st.text(max_size=20), st.booleans(), st.none() | st.text(min_size=1))
def test_a_list_asks_for_what_it_was_told_and_for_nothing_else(below, deep, token):
    prefix = "pre/fix/" + below.encode("utf-8", "ignore").decode()
    token = token and token.encode("utf-8", "ignore").decode()
    parts = urlsplit(HERE.list_target(prefix, deep=deep, token=token))
    assert parts.path == "/bucket"
    query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
    asked = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
    asked |= {} if deep else {"delimiter": "/"}
    asked |= {} if token is None else {"continuation-token": token}
    assert query == asked
    assert parts.query.split("&") == sorted(parts.query.split("&"))


@pytest.mark.parametrize(
    ("scope", "region", "origin", "target"),
    [
        (Scope("b-1", ""), "eu-west-1", "https://b-1.s3.eu-west-1.amazonaws.com/", "/k"),
        (Scope("b.1", ""), "eu-west-1", "https://s3.eu-west-1.amazonaws.com/", "/b.1/k"),
        (Scope("bkt", ""), "cn-north-1", "https://bkt.s3.cn-north-1.amazonaws.com.cn/", "/k"),
        (Scope("bkt", "", "http://[::1]:9000"), "x", "http://[::1]:9000/", "/bkt/k"),
        (Scope("bkt", "", "https://{bucket}.s.example"), "x", "https://bkt.s.example/", "/k"),
    ],
)
def test_the_bucket_is_in_the_host_where_that_can_be(scope, region, origin, target):
    assert scope.origin(region) == origin
    assert scope.object_target("k") == target
    assert scope.list_target("").startswith(target.removesuffix("/k") or "/")


# --- what a plain request may ask for -------------------------------------------------------------


def wished(method: str = "GET", **headers: str) -> dict[str, str]:
    wish = Wish.of(method, [(name.replace("_", "-"), value) for name, value in headers.items()])
    return dict([*wish.conditions, *wish.range, *wish.if_range])


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("bytes=0-9", "bytes=0-9"),
        ("bytes=00-09", "bytes=0-9"),
        ("bytes= 5- ", "bytes=5-"),
        ("bytes=-5", "bytes=-5"),
        *((text, None) for text in ("bytes=9-0", "bytes=0-1,3-4", "items=0-1", "bytes=-", "x")),
        *((text, None) for text in ("bytes=0-9\r\nX-Amz-Acl: a", "bytes=99999999999999999999-")),
    ],
)
def test_a_range_is_read_and_written_anew(given, sent):
    assert wished(Range=given).get("Range") == sent
    assert "Range" not in wished("HEAD", Range=given)


def test_only_a_range_and_conditions_go_along():
    date = "Tue, 14 Nov 2023 22:13:20 GMT"
    asked = {"If_None_Match": 'W/"a", "b"', "If_Modified_Since": date, "If_Match": '"a"'}
    others = {
        **{"Authorization": "x", "Cookie": "x", "Host": "x", "X_Amz_Acl": "public-read"},
        **{"X_Amz_Security_Token": "x", "X_Amz_Date": "x", "X_Amz_Copy_Source": "other/key"},
        **{"X_Amz_Expected_Bucket_Owner": "x", "X_Amz_Request_Payer": "requester"},
        **{"X_Amz_Server_Side_Encryption_Customer_Key": "x", "Via": "x", "Referer": "x"},
        **{"Accept": "x", "Content_Type": "x", "Expect": "x", "Te": "x", "Connection": "Range"},
        **{"X_HTTP_Method_Override": "DELETE", "Transfer_Encoding": "x", "Origin": "x"},
    }
    assert wished(**asked, **others) == {
        "If-None-Match": '"a", "b"',
        "If-Modified-Since": date,
        "If-Match": '"a"',
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"If_None_Match": '"a'},
        {"If_None_Match": '"a"\r\nX-Amz-Acl: public-read'},
        {"If_Modified_Since": "yesterday"},
        {"If_Unmodified_Since": "Tue, 14 Nov 2023 22:13:20 GMT\r\nX: y"},
        {"If_Range": '"a"'},
    ],
)
def test_a_condition_that_is_none_is_left_out(headers):
    assert wished(**headers) == {}


@pytest.mark.parametrize("text", ['W/"a"', "x", '"a', ""])
def test_a_version_that_no_file_can_have_is_a_precondition_that_failed(text):
    with pytest.raises(PreconditionFailed):
        wished(If_Match=text)


def test_a_range_of_one_version_becomes_a_condition_that_stores_know():
    wish = Wish.of("GET", [("Range", "bytes=1-"), ("If-Range", '"a"')])
    assert (wish.range, wish.if_range) == ([("Range", "bytes=1-")], [("If-Match", '"a"')])


@pytest.mark.parametrize(
    "headers",
    [
        [("If-Range", 'W/"a"')],
        [("If-Range", "Tue, 14 Nov 2023 22:13:20 GMT")],
        [("If-Range", '"a"'), ("If-Match", '"a"')],
    ],
)
def test_a_range_that_nothing_proves_to_be_of_one_version_is_the_whole(headers):
    wish = Wish.of("GET", [("Range", "bytes=1-"), *headers])
    assert (wish.range, wish.if_range) == ((), ())
