"""The one tree of errors: what servers must not take it for, and which fault comes first."""

import importlib
import pkgutil
from http import HTTPStatus
from itertools import permutations

import pytest

import tar_gateway
from tar_gateway.errors import (
    BrokenOff,
    Cancelled,
    InternalError,
    MemberChanged,
    MemberFault,
    MembersChanged,
    MembersFailed,
    MethodNotAllowed,
    RangeNotSatisfiable,
    Refusal,
    SettingsError,
    SourceError,
    TarGatewayError,
    UpstreamFailed,
)

PRECEDENCE = (401, 403, 502, 504, 404)

# These set the application or the server up as soon as they are imported.
NOT_IMPORTED = {"tar_gateway.wsgi", "tar_gateway.gunicorn_conf", "tar_gateway.cli.__main__"}


def tree():
    """Collect every error of the package, wherever it is defined."""
    for module in pkgutil.walk_packages(tar_gateway.__path__, "tar_gateway."):
        if module.name not in NOT_IMPORTED:
            importlib.import_module(module.name)
    found, waiting = set(), [TarGatewayError]
    while waiting:
        error = waiting.pop()
        found.add(error)
        waiting.extend(error.__subclasses__())
    return found


def fault(status, *, challenge=None):
    return MemberFault(f"{status}.txt", status, "for a reason", challenge)


def test_no_error_of_ours_is_one_that_servers_take_for_the_clients_doing():
    errors = tree()
    assert {Refusal, SourceError, BrokenOff, SettingsError} < errors
    taken = (OSError, StopIteration, StopAsyncIteration, GeneratorExit, SystemExit)
    assert [error for error in errors if issubclass(error, taken)] == []


def test_a_request_that_nobody_waits_for_is_no_fault_of_a_source_or_of_itself():
    assert Cancelled.__bases__ == (TarGatewayError,)


def test_every_refusal_has_a_status_of_an_error():
    refusals = [error for error in tree() if issubclass(error, Refusal)]
    assert all(400 <= error.status < 600 for error in refusals)


def test_a_refusal_tells_its_detail_and_headers():
    refusal = Refusal("no", headers=[("Retry-After", "1")])
    assert (str(refusal), refusal.detail, refusal.headers) == ("no", "no", (("Retry-After", "1"),))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_mixed_faults_the_first_by_precedence_is_the_status(count):
    for statuses in permutations(PRECEDENCE, count):
        refusal = MembersFailed([fault(status) for status in statuses])
        expected = next(status for status in PRECEDENCE if status in statuses)
        assert refusal.status is HTTPStatus(expected)


def test_faults_are_kept_in_order_and_counted():
    faults = [fault(404), fault(401)]
    assert MembersFailed(faults).faults == tuple(faults)
    assert MembersFailed([fault(404)] * 2, total=3).detail == "2 of 3 files could not be retrieved"
    assert MembersFailed(faults[:1]).detail == "the file could not be retrieved"
    login = MembersFailed([fault(401)], total=9)  # after which nothing more is asked
    assert login.detail == "at least 1 of 9 files could not be retrieved"


def test_of_many_faults_a_hundred_are_kept_the_decisive_one_among_them_and_all_are_counted():
    refusal = MembersFailed([*[fault(404)] * 5000, fault(403)])
    assert (refusal.count, len(refusal.faults), refusal.status) == (5001, 100, 403)
    assert fault(403) in refusal.faults


def test_a_401_passes_on_the_first_challenge_only():
    faults = [
        fault(401, challenge="Basic"),
        fault(404, challenge="Never"),
        fault(401),
        fault(401, challenge="Bearer"),
        fault(401, challenge="Basic"),
    ]
    assert MembersFailed(faults).headers == (("WWW-Authenticate", "Basic"),)


@pytest.mark.parametrize("status", [403, 502, 504, 404])
def test_only_a_401_challenges(status):
    assert MembersFailed([fault(status, challenge="Basic")]).headers == ()


def test_changed_members_are_failed_members():
    changed = MembersChanged([fault(502)])
    assert isinstance(changed, MembersFailed)
    assert changed.status == 502


def test_a_method_that_is_not_allowed_is_told_which_are():
    refusal = MethodNotAllowed(("GET", "HEAD"))
    assert (refusal.status, refusal.headers) == (405, (("Allow", "GET, HEAD"),))
    assert refusal.detail == "only GET, HEAD are understood here"


def test_a_range_outside_is_told_the_size():
    refusal = RangeNotSatisfiable(10240)
    assert (refusal.status, refusal.headers) == (416, (("Content-Range", "bytes */10240"),))


def test_a_plain_file_that_cannot_be_passed_on_has_the_upstreams_fault():
    refusal = UpstreamFailed("too slow", status=504)
    assert (refusal.status, refusal.detail) == (504, "too slow")


def test_a_defect_is_ours_and_says_nothing_of_itself():
    refusal = InternalError()
    assert refusal.status == 500
    assert refusal.detail == "the gateway has a defect, and its log says more"


def test_what_a_source_finds_is_final_and_a_502_unless_it_says_otherwise():
    plain = SourceError("broken")
    assert (plain.reason, plain.status, plain.transient, plain.challenge) == (
        "broken",
        502,
        False,
        None,
    )
    told = MemberChanged("moved", status=401, transient=True, challenge="Basic", retry_after=2)
    assert (str(told), told.status, told.transient, told.challenge) == ("moved", 401, True, "Basic")
    assert (plain.retry_after, told.retry_after) == (0, 2)
