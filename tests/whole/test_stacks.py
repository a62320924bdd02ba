"""Bundles of applications of every framework, under every server, each run as its users do.

By default every framework and every server takes part; ``ALL_STACKS=1`` runs all pairs.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from itertools import cycle
from urllib.parse import quote

import pytest

from tests.stacks import files
from tests.stacks.checks import (
    BROKEN,
    FRAMEWORKS,
    LEFT,
    NAMES,
    Framework,
    Stack,
    bundle_of,
    is_bundled,
    is_compressed,
    is_posted,
    is_seen_as_broken,
    is_seen_without_length,
    is_sliced,
    seconds_until_cut_off,
    seconds_until_noticed,
    seconds_until_noticed_in_silence,
    stack,
)
from tests.stacks.servers import SERVERS, Server

NOTICED = 5  # seconds after which a client that left must have been noticed

if os.environ.get("ALL_STACKS"):
    PAIRS = [(framework, server) for framework in FRAMEWORKS for server in SERVERS]
else:
    # What a server promises shows with the bare function, where no framework is between.
    others = [name for name in FRAMEWORKS if name != "bare"]
    PAIRS = [("bare", server) for server in SERVERS]
    PAIRS += zip(others, cycle(SERVERS), strict=False)


@pytest.fixture(scope="module", params=PAIRS, ids=" on ".join)
def site(request, tmp_path_factory) -> Iterator[Stack]:
    framework, server = FRAMEWORKS[request.param[0]], SERVERS[request.param[1]]
    yield from served(framework, server, tmp_path_factory)


def served(framework: Framework, server: Server, tmp_path_factory) -> Iterator[Stack]:
    missing = framework.missing() + server.missing()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with stack(framework, server, tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.mark.parametrize("name", files.FILES)
def test_a_plain_file_is_the_applications_own_answer(name: str, site: Stack):
    answer = site.get("/files/" + quote(name))
    assert (answer.status, answer.body) == (200, files.FILES[name])


def test_what_the_application_does_not_have_is_its_own_answer(site: Stack):
    assert site.get("/files/none.txt").status == 404


def test_a_bundle_is_whole(site: Stack):
    assert is_bundled(site)


def test_a_list_that_is_sent_gives_the_same_bundle(site: Stack):
    assert is_posted(site)


def test_parts_of_a_bundle_are_those_of_the_whole(site: Stack):
    assert is_sliced(site)


def test_a_bundles_length_is_told_without_its_bytes(site: Stack):
    told = site.ask("HEAD", bundle_of(*NAMES), {})
    assert told.status == 200
    assert int(told.headers["Content-Length"]) == len(site.get(bundle_of(*NAMES)).body)
    assert told.body == b""


def test_a_connection_serves_on_after_a_bundle(site: Stack):
    lengths = []
    with closing(HTTPConnection("127.0.0.1", site.port, timeout=20)) as connection:
        for _ in range(3):
            connection.request("GET", site.framework.mount + bundle_of("small.txt"))
            lengths.append(len(connection.getresponse().read()))
            if not site.server.lasting:
                connection.close()  # the client opens another
    assert lengths == [10_240] * 3


def test_a_caller_who_may_not_have_a_member_may_not_have_it_bundled(site: Stack):
    answer = site.get("/?bundle=files/small.txt&bundle=private/secret.txt")
    assert answer.status == site.framework.denied
    assert b"private/secret.txt" in answer.body
    assert b"small.txt" not in answer.body
    assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401)


def test_a_caller_who_is_logged_in_may_have_it_bundled(site: Stack):
    answer = site.get("/?bundle=files/small.txt&bundle=private/secret.txt", **site.credentials())
    members = {"files/small.txt": files.SMALL, "private/secret.txt": files.SECRET}
    assert answer.members() == members


def test_callers_at_the_same_time_get_what_is_theirs(site: Stack):
    target = "/?bundle=private/secret.txt&bundle=files/made.txt"
    callers = [site.credentials(), {}] * 8
    with ThreadPoolExecutor(len(callers)) as threads:
        answers = list(threads.map(lambda headers: site.get(target, **headers).status, callers))
    assert answers == [200, site.framework.denied] * 8


def test_a_member_that_does_not_exist_is_named(site: Stack):
    answer = site.get(bundle_of("small.txt", "none.txt"))
    assert answer.status == 404
    assert b"files/none.txt" in answer.body


def test_files_that_the_application_lists_come_as_an_archive(site: Stack):
    listed = {
        "docs/small.txt": files.SMALL,
        "docs/middle.bin": files.MIDDLE,
        "empty": None,
    }
    assert site.get("/list").members() == listed


def test_a_view_gives_an_archive_of_its_own(site: Stack):
    answer = site.get("/tar/whole")
    assert answer.headers["Content-Type"] == "application/x-tar"
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert answer.members() == {"data": files.SMALL}


def test_compressed_archives_are_sent_where_a_break_is_seen_and_nowhere_else(site: Stack):
    if site.framework.name == "bare":
        assert is_compressed(site) == is_seen_without_length(site)
    else:  # the server's matter, and no framework's
        is_compressed(site)


@pytest.mark.parametrize("target", BROKEN.values(), ids=BROKEN)
def test_what_breaks_in_the_middle_is_seen_as_broken(target: str, site: Stack):
    assert is_seen_as_broken(site, target)
    assert is_bundled(site)


@pytest.mark.parametrize("name", LEFT.values(), ids=LEFT)
def test_a_client_that_leaves_is_noticed_and_the_stream_is_closed_once(name: str, site: Stack):
    assert seconds_until_noticed(site, name) < NOTICED
    assert is_bundled(site)
    assert site.notes.held(name) == 0


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_a_client_that_leaves_in_an_upstreams_silence_is_noticed_under_gunicorn(worker, tmp_path):
    server = SERVERS[f"gunicorn {worker}"]
    assert seconds_until_noticed_in_silence(server, tmp_path, NOTICED) is not None


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_a_client_that_reads_nothing_is_cut_off_under_gunicorn(worker, tmp_path):
    with stack(FRAMEWORKS["bare"], SERVERS[f"gunicorn {worker}"], tmp_path) as running:
        assert seconds_until_cut_off(running, NOTICED) is not None


@pytest.fixture(scope="module", params=["gunicorn sync", "gunicorn gthread"])
def flask_site(request, tmp_path_factory) -> Iterator[Stack]:
    yield from served(FRAMEWORKS["flask"], SERVERS[request.param], tmp_path_factory)


def test_members_that_need_their_request_while_they_are_made_have_it(flask_site: Stack):
    answer = flask_site.get("/context/?bundle=a&bundle=b&bundle=c", **flask_site.credentials())
    assert answer.members() == {
        name: "".join(f"{n} /context/{name} {files.USER}\n" for n in range(3)).encode()
        for name in "abc"
    }
