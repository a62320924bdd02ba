"""A request goes on to other servers with what they may believe, and by way of this gateway."""

import pytest

from tar_gateway import Settings
from tar_gateway.access.credentials import Hop, caller_of, passed_headers, trace_of
from tar_gateway.errors import BadRequest, LoopDetected
from tar_gateway.sources import Caller
from tests.support.files_upstream import FilesUpstream, gateway_to

FRONT = "10.0.0.1"
SAID = {"HTTP_X_REMOTE_USER": "admin", "HTTP_X_FORWARDED_FOR": "192.0.2.1"}
HOP = Hop.before("a source", Settings(trusted_proxies=FRONT))


def sent(environ, hop=HOP):
    return dict(passed_headers(Caller(environ=environ), hop, conditions=True))


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (FRONT, {"X-Remote-User": "admin", "X-Forwarded-For": f"192.0.2.1, {FRONT}"}),
        ("192.0.2.9", {"X-Forwarded-For": "192.0.2.9"}),
        ("2001:db8::9", {"X-Forwarded-For": "2001:db8::9"}),
        ("not an address", {}),
        ("", {}),
    ],
)
def test_who_the_client_is_comes_from_a_trusted_peer_or_is_the_peer(peer, expected):
    headers = sent({**SAID, "REMOTE_ADDR": peer})
    assert {name: value for name, value in headers.items() if name != "Via"} == expected


def test_what_a_trusted_unix_socket_says_is_sent_on_as_it_is():
    hop = Hop.before(None, Settings(trusted_proxies="unix"))
    headers = sent({**SAID, "REMOTE_ADDR": ""}, hop)
    assert headers.items() >= {"X-Remote-User": "admin", "X-Forwarded-For": "192.0.2.1"}.items()


@pytest.mark.parametrize(("peer", "expected"), [(FRONT, "admin"), ("192.0.2.9", None)])
def test_members_are_asked_for_with_a_fronts_word_only_if_it_is_trusted(peer, expected):
    environ = {**SAID, "REMOTE_ADDR": peer, "HTTP_X_REWRITE_URL": "/x"}
    caller = caller_of(environ, ["X-Remote-User", "X-Rewrite-URL"], HOP)
    assert dict(caller.headers).get("X-Remote-User") == expected
    assert "X-Rewrite-URL" not in dict(caller.headers)


@pytest.mark.parametrize(
    ("protocol", "via", "expected"),
    [
        ("HTTP/1.1", None, f"1.1 {HOP.pseudonym}"),
        ("HTTP/1.0", None, f"1.0 {HOP.pseudonym}"),
        ("HTTP/1.1", "1.1 front", f"1.1 front, 1.1 {HOP.pseudonym}"),
    ],
)
def test_every_request_that_goes_on_says_that_it_came_by_here(protocol, via, expected):
    environ = {"SERVER_PROTOCOL": protocol, **({} if via is None else {"HTTP_VIA": via})}
    assert sent(environ)["Via"] == expected
    assert dict(caller_of(environ, ["Via"], HOP).headers) == {"Via": expected}


@pytest.mark.parametrize(
    "via", ["1.1 {}", "1.1 a, 1.0  {} (x)", "HTTP/2 {},1.1 b", "1.1 a\t,1.1\t{}"]
)
def test_a_request_that_was_here_before_is_a_loop(via):
    with pytest.raises(LoopDetected):
        HOP.check({"HTTP_VIA": via.format(HOP.pseudonym)})


@pytest.mark.parametrize("via", ["", "1.1 a", ",", "1.1", "1.1 {}-2", "{}", "1.1 a ({})"])
def test_a_request_that_was_elsewhere_is_none(via):
    HOP.check({"HTTP_VIA": via.format(HOP.pseudonym)})


def test_gateways_before_the_same_upstream_have_one_name_and_others_another():
    again = Hop.before("a source", Settings(retries=0))
    assert again.pseudonym == HOP.pseudonym != Hop.before("another", Settings()).pseudonym


@pytest.mark.parametrize("forwarded", ["Api-Key", "api_key"])
def test_a_connection_that_would_remove_a_forwarded_header_is_refused(forwarded):
    hop = Hop.before(None, Settings(forward_headers=[forwarded]))
    with pytest.raises(BadRequest, match="Connection names 'Api-Key'"):
        hop.check({"HTTP_CONNECTION": "close, Api-Key"})


@pytest.mark.parametrize("url", ["/a", "/?bundle=a"])
def test_an_upstream_that_leads_back_is_noticed(url):
    with FilesUpstream({"a": b"alpha"}) as upstream, gateway_to(upstream) as app:
        app.get(url, status=200)
        via = upstream.requests[-1].headers["via"]
        response = app.get(url, headers={"Via": via}, status=508)
    assert "before" in response.json["detail"]


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({}, {}),
        ({"HTTP_TRACEPARENT": PARENT}, {"traceparent": PARENT}),
        (
            {"HTTP_TRACEPARENT": PARENT, "HTTP_TRACESTATE": "a=1"},
            {"traceparent": PARENT, "tracestate": "a=1"},
        ),
        ({"HTTP_TRACESTATE": "a=1"}, {}),
        ({"HTTP_TRACEPARENT": "ff" + PARENT[2:]}, {}),
        ({"HTTP_TRACEPARENT": PARENT + "-more"}, {}),
        ({"HTTP_TRACEPARENT": PARENT.upper()}, {}),
        ({"HTTP_TRACEPARENT": PARENT, "HTTP_TRACESTATE": "a" * 513}, {"traceparent": PARENT}),
        ({"HTTP_TRACEPARENT": PARENT, "HTTP_TRACESTATE": "\xe4=1"}, {"traceparent": PARENT}),
    ],
)
def test_a_trace_goes_along_where_it_is_well_formed(sent, expected):
    assert dict(trace_of(sent, "")) == expected


def test_a_request_has_one_id_whatever_headers_are_forwarded():
    environ = {"HTTP_X_REQUEST_ID": "<b>", "HTTP_COOKIE": "a"}
    caller = caller_of(environ, ["X-Request-ID", "Cookie"], HOP, "made")
    assert dict(caller.headers).keys() == {"Cookie", "Via"}
    assert caller.trace == (("X-Request-ID", "made"),)
    passed = passed_headers(caller, HOP, conditions=True)
    assert [value for name, value in passed if name.lower() == "x-request-id"] == ["made"]
