"""Faults of an upstream, and an oracle: a response that looks complete is right in every byte.

``python -m tests.faults --trials N --seed S`` runs random ones and prints what came of them;
with ``--replicas`` there are two upstreams, that don't always agree, and with ``--bucket`` one that
is asked as a store.
"""

import argparse
import logging
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import count
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults

from tar_gateway import S3, Gateway, Replicas, Settings, Upstream
from tar_gateway.archive.format import Literal, Member
from tar_gateway.archive.layout import Layout
from tar_gateway.errors import BrokenOff
from tar_gateway.http.validators import Validator, read_date
from tar_gateway.sources.wire.response import Response
from tests.support.scripted import Script, Scripted, Wire
from tests.support.stores import Keys

SETTINGS = Settings(retries=2, retry_pause=0, read_timeout=0.5, plan_timeout=30)
SIZES = (0, 1, 511, 512, 513, 10_240, 40_000, 65_537, 200_001)
OLD, NEW = "Sun, 13 Sep 2020 12:26:40 GMT", "Sun, 13 Sep 2020 12:27:40 GMT"
LATER = "Sun, 13 Sep 2020 13:00:00 GMT"

MORE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"

Head = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Reply:
    """What a good server would send; a fault is what becomes of it on the way."""

    status: str
    head: Head
    body: bytes
    told: int | None  # the Content-Length, `None` for none

    def without(self, *names: str) -> Head:
        return tuple((name, value) for name, value in self.head if name not in names)

    def send(self, wire: Wire, stop: int | None = None) -> None:
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in self.head)]
        if self.told is not None:
            lines.append(f"Content-Length: {self.told}")
        body = b"" if wire.request.method == "HEAD" else self.body[:stop]
        wire.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        if self.told is None:
            wire.close()


@dataclass(frozen=True)
class Version:
    """One version of a file, and what a server says in proof of it."""

    data: bytes
    proof: str
    number: int = 0

    @property
    def head(self) -> Head:
        date = (OLD, NEW)[self.number]
        tag = (("ETag", f'W/"{self.number}"'),)
        return {
            "strong etag": (("ETag", f'"{self.number}"'), ("Last-Modified", date)),
            "strong date": (("Last-Modified", date), ("Date", LATER)),
            "strong date beside a weak etag": (*tag, ("Last-Modified", date), ("Date", LATER)),
            "strong date by arrival": (("Last-Modified", date),),
            "weak etag": (*tag, ("Last-Modified", date), ("Date", date)),
            "weak date": (("Last-Modified", date), ("Date", date)),
            "nothing": (),
        }[self.proof]

    @property
    def strong(self) -> bool:
        return self.proof.startswith("strong")

    @property
    def validator(self) -> Validator | None:
        return Response(200, self.head, BytesIO()).validator()

    @property
    def mtime(self) -> int:
        return read_date(dict(self.head).get("Last-Modified")) or 0

    def reply(self, wire: Wire, *, heeding: bool = True) -> Reply:
        """Answer as a good server does, or without heeding conditions and ranges."""
        told, get = dict(self.head), wire.request.get
        if heeding:
            other = get("If-Match") not in {None, told.get("ETag")}
            since = read_date(get("If-Unmodified-Since"))
            if other or (since is not None and self.mtime > since):
                return Reply("412 Precondition Failed", (), b"", 0)
        asked = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", get("Range") or "")
        if not asked or not heeding or wire.request.method == "HEAD":
            return Reply("200 OK", self.head, self.data, len(self.data))
        size = len(self.data)
        start, stop = int(asked[1]), min(int(asked[2]) + 1, size)
        if start >= stop:
            head = (*self.head, ("Content-Range", f"bytes */{size}"))
            return Reply("416 Range Not Satisfiable", head, b"", 0)
        head = (*self.head, ("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
        return Reply("206 Partial Content", head, self.data[start:stop], stop - start)


class AsBucket:
    """What a scripted server answers as a store: its paths lie in a bucket."""

    def __init__(self, scripted: Scripted) -> None:
        self._scripted = scripted

    def on(self, path: str, *scripts: Script) -> None:
        self._scripted.on(f"/bucket{path}", *scripts)

    def gateway(self) -> Gateway:
        """Make a gateway in front of the bucket."""
        settings = replace(SETTINGS, s3_public=True)
        source = S3("s3://bucket/", settings, endpoint=self._scripted.url.rstrip("/"))
        return Gateway(source, settings)


# --- faults: what is sent instead of a reply; `offset` counts in the reply's body ---------------

Fault = Callable[[Wire, Reply, int, "Trial"], None]


def nothing(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
    wire.close()


def closes(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
    reply.send(wire, offset)
    wire.close()


def resets(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
    reply.send(wire, offset)
    wire.reset()


def stalls(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
    reply.send(wire, offset)
    wire.connection.recv(1)  # until the other side has had enough
    wire.close()


def drips(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
    reply.send(wire, offset)
    for position in range(offset, len(reply.body)):
        time.sleep(0.02)
        wire.send(reply.body[position : position + 1])
    wire.close()


def errs(status: str, *head: tuple[str, str]) -> Fault:
    def fault(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
        Reply(status, head, b"sorry", 5).send(wire)

    return fault


def alters(change: Callable[[Reply], Reply]) -> Fault:
    def fault(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
        change(reply).send(wire)

    return fault


def changes(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
    """Be another version from now on, as an honest server is."""
    trial.current = trial.after
    trial.after.reply(wire).send(wire)


def changes_heedlessly(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
    """Be another version from now on, and heed no condition."""
    trial.current = trial.after
    trial.after.reply(wire, heeding=False).send(wire)


def ignores_range(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
    trial.current.reply(wire, heeding=False).send(wire)


def _shifted(reply: Reply) -> Reply:
    head = reply.without("Content-Range")
    return replace(reply, status="206 OK", head=(*head, ("Content-Range", "bytes 1-9/99")))


def holds_more(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
    """Send all of the file as the range that was asked for."""
    if reply.status.startswith("206"):
        data = trial.current.data
        head = (
            *reply.without("Content-Range"),
            ("Content-Range", f"bytes 0-{len(data) - 1}/{len(data)}"),
        )
        reply = replace(reply, head=head, body=data, told=len(data))
    reply.send(wire)


def _mute(reply: Reply) -> Reply:
    """Leave out what tells the version, where RFC 9110 lets a server do so."""
    partial = reply.status.startswith("206")
    return replace(reply, head=reply.without("ETag", "Last-Modified")) if partial else reply


def garbage(wire: Wire, reply: Reply, offset: int, trial: "Trial") -> None:
    wire.send(b"\x00\xffHTTP what\r\n: nothing\r\n\r\n" + reply.body)
    wire.close()


def _told(value: str) -> Fault:
    return alters(lambda r: replace(r, head=(*r.head, ("Content-Length", value)), told=None))


PASSING: dict[str, Fault] = {
    "nothing": nothing,
    "closes": closes,
    "resets": resets,
    "stalls": stalls,
    "drips": drips,
    "500": errs("500 Internal Server Error"),
    "502": errs("502 Bad Gateway"),
    "503": errs("503 Service Unavailable", ("Retry-After", "0")),
    "504": errs("504 Gateway Timeout"),
}
WRONG: dict[str, Fault] = {
    "longer": alters(lambda r: replace(r, body=r.body + b"longer", told=len(r.body) + 6)),
    "shorter": alters(lambda r: replace(r, body=r.body[:-1], told=max(0, len(r.body) - 1))),
    # By another count than those above: two faults must not agree on another file.
    "longer without length": alters(lambda r: replace(r, body=r.body + b"and more", told=None)),
    "shorter without length": alters(lambda r: replace(r, body=r.body[:-2], told=None)),
    "changes": changes,
    "changes heedlessly": changes_heedlessly,
    "ignores Range": ignores_range,
    "holds more": holds_more,
    "mute range": alters(_mute),
    "another range": alters(_shifted),
    "no Content-Range": alters(
        lambda r: replace(r, status="206 OK", head=r.without("Content-Range"))
    ),
    "encoded": alters(lambda r: replace(r, head=(*r.head, ("Content-Encoding", "gzip")))),
    "redirects": errs("302 Found", ("Location", "/login")),
    "login page": errs("200 OK", ("Content-Type", "text/html")),
    "404": errs("404 Not Found"),
    "403": errs("403 Forbidden"),
    "negative length": _told("-5"),
    "two lengths": alters(lambda r: replace(r, head=(*r.head, ("Content-Length", "7")))),
    "two framings": alters(lambda r: replace(r, head=(*r.head, ("Transfer-Encoding", "chunked")))),
    # Another response that nobody has asked for, right behind the one that is right.
    "says more": alters(
        lambda r: replace(r, body=r.body + MORE if r.body else b"", told=len(r.body))
    ),
    "garbage": garbage,
}
FAULTS = PASSING | WRONG


@dataclass
class Planned:
    """A fault set for a path's request with this number, counted from 0 (which asks by HEAD)."""

    kind: str
    request: int
    offset: int


# What a second upstream has of the faulty member: all that happens to it there as well, another
# version, or nothing.
SECONDS = ("the same", "another", "nothing")


class Trial:
    """One bundle from an upstream with faults set for one of its members.

    With a ``second`` upstream faults happen at whichever is asked.
    """

    def __init__(
        self,
        scripted: Scripted | AsBucket,
        prefix: str,
        members: Sequence[Version],
        *,
        faulty: int = 0,
        faults: Sequence[Planned] = (),
        ranged: tuple[int, int] | None = None,
        second: tuple[Scripted, str] | None = None,
    ) -> None:
        self.members = members
        self.faulty = faulty
        self.faults = faults
        self.ranged = ranged
        self.second = "the same"
        self.current = members[faulty]
        size = len(self.current.data)
        self.after = Version(random.Random(size).randbytes(size), self.current.proof, 1)
        self._prefix = prefix
        self._numbers = count()
        for index, version in enumerate(members):
            good = lambda wire, version=version: version.reply(wire).send(wire)  # noqa: E731
            scripted.on(f"/{prefix}/{index}", self._answer if index == faulty else good)
            if second is not None:
                server, self.second = second
                server.on(f"/{prefix}/{index}", self._answer_second if index == faulty else good)

    def _answer_second(self, wire: Wire) -> None:
        match self.second:
            case "the same":
                self._answer(wire)
            case "another":
                self.after.reply(wire).send(wire)
            case "nothing":
                Reply("404 Not Found", (), b"", 0).send(wire)

    def _answer(self, wire: Wire) -> None:
        number = next(self._numbers)
        reply = self.current.reply(wire)
        for fault in self.faults:
            if fault.request == number:
                FAULTS[fault.kind](wire, reply, fault.offset, self)
                return
        reply.send(wire)

    def right_answers(self) -> list[bytes]:
        """Give the archives of either version, and of one's bytes under the other's date.

        Those are right only where nothing proves the file's version: whole and of the right
        size it is all that can be asked for.
        """
        old, new = self.members[self.faulty], self.after
        pairs = [(old, old), (new, new)]
        if not old.strong and old.proof != "weak etag":
            pairs += [(old, new), (new, old)]
        return [self._archive(stat, data) for stat, data in pairs]

    def _archive(self, stat: Version, data: Version) -> bytes:
        stats, datas = list(self.members), list(self.members)
        stats[self.faulty], datas[self.faulty] = stat, data
        layout = _layout(stats)
        return b"".join(
            segment.data
            if isinstance(segment, Literal)
            else datas[segment.index].data[segment.start : segment.stop]
            for segment in layout.slice(0, layout.size)
        )

    def run(self, gateway: Gateway) -> str:
        """Download; tells ``right``, ``broken``, ``refused`` or ``CORRUPT``."""
        query = urlencode([("bundle", str(index)) for index in range(len(self.members))])
        environ = {"PATH_INFO": f"/{self._prefix}/", "QUERY_STRING": query}
        setup_testing_defaults(environ)
        if self.ranged:
            environ["HTTP_RANGE"] = f"bytes={self.ranged[0]}-{self.ranged[1]}"
            # A client that goes on with a download says of which archive.
            environ["HTTP_IF_RANGE"] = _layout(self.members).etag.text
        said = {}

        def start_response(status, headers, exc_info=None):
            said.update(status=int(status[:3]), headers=dict(headers))

        body = gateway(environ, start_response)
        try:
            received = b"".join(body)
        except BrokenOff:
            return "broken"
        finally:
            if hasattr(body, "close"):
                body.close()
        if said["status"] not in {200, 206}:
            return "refused"
        wanted = self.right_answers()
        if said["status"] == 206:
            wanted = [archive[self.ranged[0] : self.ranged[1] + 1] for archive in wanted]
        whole = len(received) == int(said["headers"]["Content-Length"])
        return "right" if whole and received in wanted else "CORRUPT"


def _layout(versions: Sequence[Version]) -> Layout:
    return Layout(
        [
            Member(str(index), len(version.data), version.mtime, validator=version.validator)
            for index, version in enumerate(versions)
        ]
    )


def must_recover(trial: Trial) -> bool:
    """Tell whether a client must not notice: one passing fault, and the file is provable."""
    version = trial.members[trial.faulty]
    (fault, *more) = trial.faults
    if trial.second == "nothing" or more or fault.kind not in PASSING:
        return False
    # An upstream's first request asks by HEAD, unless another one was asked for that.
    by_head = fault.request == 0 and trial.second == "the same"
    untouched = by_head or fault.kind in {"nothing", "500", "502", "503", "504"}
    return version.strong or untouched


def random_trial(
    scripted: Scripted | AsBucket, number: int, seed: int, second: Scripted | None = None
) -> Trial:
    """Make the trial with this number of a run with this seed."""
    choose = random.Random(f"{seed}/{number}")
    dates = ["strong date", "strong date beside a weak etag", "strong date by arrival"]
    proofs = ["strong etag"] * 4 + dates + ["weak etag", "weak date", "nothing"]
    members = [
        Version(choose.randbytes(choose.choice(SIZES)), choose.choice(proofs))
        for _ in range(choose.randint(1, 4))
    ]
    faulty = choose.randrange(len(members))
    size = len(members[faulty].data)
    # Those that need a timeout to be noticed are as rare as they are slow.
    kinds = [kind for kind in FAULTS for _ in range(1 if kind in {"stalls", "drips"} else 12)]
    requests = choose.choice([(0,), (1,), (1,), (1,), (2,), (0, 1), (1, 2), (1, 2, 3)])
    if not size:
        requests = requests[:1]  # two lies about an empty file leave nobody who tells the truth
    faults: list[Planned] = []
    for request in requests:
        # The same lie told twice is a file that nobody can tell from a true one.
        others = [kind for kind in kinds if kind not in {fault.kind for fault in faults}]
        faults.append(Planned(choose.choice(others), request, _offset(choose, size)))
    ranged = None
    if choose.random() < 0.3:
        total = _layout(members).size
        start = choose.randrange(total)
        ranged = (start, choose.randrange(start, total))
    other = (second, choose.choice(SECONDS)) if second is not None else None
    return Trial(
        scripted,
        f"{seed}-{number}",
        members,
        faulty=faulty,
        faults=faults,
        ranged=ranged,
        second=other,
    )


def _offset(choose: random.Random, size: int) -> int:
    edges = [0, 1, 511, 512, 513, size // 2, size - 1, size]
    return min(size, max(0, choose.choice([*edges, choose.randint(0, size)])))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--replicas", action="store_true", help="two upstreams instead of one")
    parser.add_argument("--bucket", action="store_true", help="the upstream is a bucket")
    options = parser.parse_args(arguments)
    logging.disable()  # every trial has something to say
    outcomes: Counter[str] = Counter()
    recoverable = 0
    lost, corrupt = [], []
    with Scripted() as scripted, Scripted() as second:
        upstreams = [Upstream(server.url, SETTINGS) for server in (scripted, second)]
        gateway = Gateway(Replicas(upstreams) if options.replicas else upstreams[0], SETTINGS)
        server: Scripted | AsBucket = scripted
        if options.bucket:
            os.environ.update(Keys("key", "secret").environment)
            server = AsBucket(scripted)
            gateway = server.gateway()

        def run(number: int) -> tuple[int, Trial, str]:
            other = second if options.replicas else None
            trial = random_trial(server, number, options.seed, other)
            return number, trial, trial.run(gateway)

        with ThreadPoolExecutor(options.threads) as pool:
            for number, trial, outcome in pool.map(run, range(options.trials)):
                outcomes[outcome] += 1
                if outcome == "CORRUPT":
                    corrupt.append((number, trial.faults))
                if must_recover(trial):
                    recoverable += 1
                    if outcome != "right":
                        lost.append((number, outcome, trial.faults))
        gateway.close()
    for number, *what in [*corrupt, *lost]:
        print(f"trial {number}: {what}")
    print(
        f"seed {options.seed}, {options.trials} trials: {dict(outcomes)}; "
        f"silent corruptions: {len(corrupt)}; "
        f"single recoverable faults: {recoverable}, noticed by the client: {len(lost)}"
    )
    return 1 if corrupt or len(lost) > recoverable / 1000 else 0


if __name__ == "__main__":
    sys.exit(main())
