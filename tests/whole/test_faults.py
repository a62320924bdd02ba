"""Every fault at every edge: what looks complete is right, and what can be mended is."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, product

import pytest

from tar_gateway import BundleMiddleware, Gateway, Upstream
from tests.faults import FAULTS, PASSING, SETTINGS, WRONG, AsBucket, Planned, Trial, Version
from tests.support.in_memory import MemoryServer, MemoryUpstream
from tests.support.scripted import Scripted
from tests.support.stores import Keys

SIZE = 70_000  # more than a socket's first segments and a read's buffer
OFFSETS = (0, 1, 511, 512, 513, SIZE // 2, SIZE - 1)
FIRST = Version(b"first" * 100, "strong etag")
PROVABLE = (
    "strong etag",
    "strong date",
    "strong date beside a weak etag",
    "strong date by arrival",
)
SLOW = {"stalls", "drips"}
# What is wrong on the wire, and an end that comes too early, may be accidents: it is asked again.
ON_THE_WIRE = ("garbage", "two framings", "says more")
# Ranges that are none, or not only what was asked for, of a file that is the same.
BEARABLE = ("ignores Range", "holds more", "mute range")
BREAKING = sorted(set(WRONG) - {"shorter without length", *BEARABLE, *ON_THE_WIRE})

number = count()


@pytest.fixture(scope="module", params=["steps", "sockets", "bucket"])
def upstream(request: pytest.FixtureRequest) -> Iterator[tuple[Scripted, Gateway]]:
    """Give what is set what it answers, and what asks it: without a socket, and then for real."""
    if request.param == "sockets":
        yield request.getfixturevalue("over_sockets")
    elif request.param == "bucket":
        yield request.getfixturevalue("as_bucket")
    else:
        server = MemoryServer()
        yield server, BundleMiddleware(nothing_else, MemoryUpstream(server), SETTINGS)


def nothing_else(environ, start_response):
    raise AssertionError("only bundles are asked for")


@pytest.fixture(scope="module")
def over_sockets() -> Iterator[tuple[Scripted, Gateway]]:
    with Scripted() as scripted:
        gateway = Gateway(Upstream(scripted.url, SETTINGS), SETTINGS)
        yield scripted, gateway
        gateway.close()
        # A connection that was lost on some path would still be open.
        assert scripted.wait_for(lambda scripted: scripted.open == 0)


@pytest.fixture(scope="module")
def as_bucket() -> Iterator[tuple[AsBucket, Gateway]]:
    with pytest.MonkeyPatch.context() as patch, Scripted() as scripted:
        for name, value in Keys("key", "secret").environment.items():
            patch.setenv(name, value)
        server = AsBucket(scripted)
        gateway = server.gateway()
        yield server, gateway
        gateway.close()
        assert scripted.wait_for(lambda scripted: scripted.open == 0)


def outcome(upstream, proof: str, *faults: Planned, alone: bool = False, **how) -> str:
    """Download a member with faults, after another unless ``alone``."""
    scripted, gateway = upstream
    faulty = Version(bytes(range(250)) * (SIZE // 250), proof)
    members = [faulty] if alone else [FIRST, faulty]
    trial = Trial(
        scripted, f"t{next(number)}", members, faulty=len(members) - 1, faults=faults, **how
    )
    return trial.run(gateway)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("kind", [kind for kind in PASSING if kind not in SLOW])
@pytest.mark.parametrize("proof", PROVABLE)
def test_one_passing_fault_in_a_provable_file_is_not_noticed(upstream, proof, kind, offset):
    assert outcome(upstream, proof, Planned(kind, 1, offset)) == "right"


@pytest.mark.parametrize("kind", [kind for kind in PASSING if kind in SLOW])
def test_one_slow_fault_in_a_provable_file_is_not_noticed(over_sockets, kind):
    def found(case: tuple[str, int]) -> str:
        proof, offset = case
        return outcome(over_sockets, proof, Planned(kind, 1, offset))

    cases = list(product(PROVABLE, OFFSETS))
    with ThreadPoolExecutor(len(cases)) as at_once:  # all they do is wait
        outcomes = dict(zip(cases, at_once.map(found, cases), strict=True))
    assert outcomes == dict.fromkeys(cases, "right")


@pytest.mark.parametrize("kind", [kind for kind in PASSING if kind not in SLOW])
@pytest.mark.parametrize("proof", ["strong etag", "weak etag", "weak date", "nothing"])
def test_one_passing_fault_while_sizes_are_asked_is_not_noticed(upstream, proof, kind):
    assert outcome(upstream, proof, Planned(kind, 0, 0)) == "right"


@pytest.mark.parametrize("offset", [1, 513, SIZE - 1])
@pytest.mark.parametrize("proof", ["weak etag", "weak date", "nothing"])
def test_a_file_that_proves_nothing_is_not_resumed_in_its_middle(upstream, proof, offset):
    assert outcome(upstream, proof, Planned("closes", 1, offset)) == "broken"


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("proof", ["strong etag", "weak date", "nothing"])
def test_a_wrong_answer_never_makes_a_wrong_archive(upstream, proof, kind, offset):
    assert outcome(upstream, proof, Planned(kind, 1, offset)) != "CORRUPT"


@pytest.mark.parametrize("request_number", [0, 1])
@pytest.mark.parametrize("kind", ON_THE_WIRE)
def test_an_answer_that_is_wrong_on_the_wire_is_not_noticed(upstream, kind, request_number):
    assert outcome(upstream, "strong etag", Planned(kind, request_number, 0)) == "right"


def broken_by(upstream, kind: str) -> str:
    """Tell what comes of a wrong answer: to a store an object's coding is a note beside it."""
    is_note = kind == "encoded" and isinstance(upstream[0], AsBucket)
    return "right" if is_note else "broken"


@pytest.mark.parametrize("kind", BREAKING)
def test_a_wrong_answer_after_the_first_byte_breaks_the_archive_off(upstream, kind):
    assert outcome(upstream, "strong etag", Planned(kind, 1, 0)) == broken_by(upstream, kind)


@pytest.mark.parametrize("kind", BREAKING)
@pytest.mark.parametrize("offset", [1, SIZE // 2])
def test_a_wrong_answer_to_a_resumed_fetch_breaks_the_archive_off(upstream, kind, offset):
    faults = [Planned("closes", 1, offset), Planned(kind, 2, 0)]
    assert outcome(upstream, "strong etag", *faults) == broken_by(upstream, kind)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("proof", PROVABLE)
@pytest.mark.parametrize("kind", BEARABLE)
def test_more_than_the_range_is_skipped_through(upstream, kind, proof, offset):
    faults = [Planned("closes", 1, offset), Planned(kind, 2, 0)]
    assert outcome(upstream, proof, *faults) == "right"


@pytest.mark.parametrize("kind", ["changes", "longer", "shorter"])
def test_a_change_before_the_first_byte_is_planned_again(upstream, kind):
    assert outcome(upstream, "strong etag", Planned(kind, 1, 0), alone=True) == "right"


def test_faults_are_mended_as_often_as_each_attempt_brings_something(upstream):
    faults = [Planned("closes", request, 10_000) for request in range(1, 7)]
    assert outcome(upstream, "strong etag", *faults) == "right"


def test_attempts_that_bring_nothing_are_limited(upstream):
    faults = [Planned("nothing", request, 0) for request in range(1, 4)]
    assert outcome(upstream, "strong etag", *faults) == "broken"


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind not in SLOW])
def test_a_fault_under_a_range_never_makes_a_wrong_slice(upstream, kind):
    planned = Planned(kind, 1, 100)
    assert outcome(upstream, "strong etag", planned, ranged=(700, 60_000)) != "CORRUPT"


@pytest.mark.parametrize(
    "upstreams", [[], ["--replicas"], ["--bucket"]], ids=["one", "two", "a bucket"]
)
def test_random_trials_find_no_corruption_and_lose_nothing(upstreams):
    command = [sys.executable, "-m", "tests.faults", "--trials", "500", "--seed", "11", *upstreams]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "500 trials" in done.stdout
    assert "silent corruptions: 0" in done.stdout
    assert done.stdout.endswith("noticed by the client: 0\n")
