"""Errors for people: what is wrong, with which files, and what can be done about it."""

import pytest

from tar_gateway import Settings
from tar_gateway.errors import ContentTooLarge, MemberFault, MembersFailed, PreconditionFailed
from tar_gateway.web.browse import texts
from tar_gateway.web.browse.error_page import NO_WAYS, Ways, error_page, ways_on
from tar_gateway.web.browse.shell import PLAIN

GONE = MemberFault("a.txt", 404, "it does not exist", is_missing=True)
BROKEN = MemberFault("b.txt", 502, "it broke")


def ways(refusal, query="bundle=a.txt,b.txt", method="GET", **settings):
    environ = {"REQUEST_METHOD": method, "QUERY_STRING": query, "SCRIPT_NAME": "/app"}
    return ways_on(refusal, environ, Settings(**settings))


def shown(refusal, ways=NO_WAYS, request_id=None) -> str:
    return error_page(refusal, PLAIN, ways, request_id).decode()


def test_the_others_are_the_same_bundle_without_what_is_missing():
    assert ways(MembersFailed([GONE], total=2)).others == "?bundle=a.txt,b.txt&missing=report"


@pytest.mark.parametrize(
    ("faults", "total", "query", "method"),
    [
        ([GONE, BROKEN], 3, "bundle=a.txt", "GET"),
        ([GONE], 1, "bundle=a.txt", "GET"),
        ([GONE], 2, "bundle=a.txt&missing=fail", "GET"),
        ([GONE], 2, "bundle=a.txt&plan=json", "GET"),
        ([GONE], 2, "bundle", "POST"),
        ([GONE], 2, "list=7", "GET"),
    ],
)
def test_no_others_are_offered_where_there_are_none_or_it_was_decided(faults, total, query, method):
    assert ways(MembersFailed(faults, total=total), query, method).others is None


def test_a_signed_link_is_given_no_other_meaning(tmp_path):
    file = tmp_path / "keys"
    file.write_text("k1:a secret for the tests\n")
    assert ways(MembersFailed([GONE], total=2), signing_keys_file=file).others is None


def test_a_directory_that_has_changed_can_be_opened_again():
    refusal = PreconditionFailed("it has changed")
    refusal.directory = "a b/"
    assert ways(refusal).directory == "/app/a%20b/"
    assert 'href="/app/a%20b/"' in shown(refusal, ways(refusal))


def test_the_request_can_be_quoted():
    assert "<code>abc&amp;</code>" in shown(ContentTooLarge("it is large"), request_id="abc&")


def test_who_selected_too_much_is_told_how_to_ask_for_less():
    assert texts.LESS in shown(ContentTooLarge("it is large"), Ways(is_selected=True))
    assert texts.BACK in shown(ContentTooLarge("it is large"), Ways(is_selected=True))


def test_a_name_that_turns_others_around_is_visible():
    fault = MemberFault("a\u202eb<i>.txt", 404, "it does not exist")
    assert "<bdi>a<i>U+202E</i>b&lt;i&gt;.txt</bdi>" in shown(MembersFailed([fault]))
