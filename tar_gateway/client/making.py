"""The three things that are made of an archive: a directory, a file, and what a pipe takes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from tar_gateway.archive.tar import trailer_size
from tar_gateway.client.events import Listener, Planned
from tar_gateway.client.failures import Changed, DiskError, WrongUse
from tar_gateway.client.ledger import Ledger
from tar_gateway.client.options import Options
from tar_gateway.client.plan import Plan, check_side_by_side
from tar_gateway.client.session import Session
from tar_gateway.client.sinks import Archive, Directory, Pipe, Target
from tar_gateway.client.spans import Span, Spans
from tar_gateway.client.state import Identity, State, directory_name, of_other_versions
from tar_gateway.client.stream import Version
from tar_gateway.client.tree import Tree, on_disk
from tar_gateway.client.verify import blocks, check_zip, verify
from tar_gateway.client.work import Piece, Work, cut, runs_of
from tar_gateway.http.paths import shown


@dataclass(frozen=True, slots=True)
class Making:
    """What is wanted, of what: ``taken`` are the members' numbers, `None` for the whole archive.

    ``source`` is a digest of where it is from.
    """

    session: Session
    version: Version
    plan: Plan | None
    taken: list[int] | None
    source: str
    options: Options
    listener: Listener

    def fetch(
        self, target: Target, ledger: Ledger, runs: Sequence[Span], state: State | None
    ) -> None:
        """Fetch what is missing of runs; what has arrived is noted whatever happens."""

        def save(*, now: bool = False) -> None:
            if state is not None and self.version.is_resumable:
                state.write(ledger.spans, target.tail, now=now)

        there = ledger.spans()
        missing = [span for run in runs for span in there.missing(*run)]
        jobs = self.options.jobs if self.version.is_resumable else 1
        pieces: list[Piece] = [*cut(missing, self.plan, jobs)]
        if self.version.size is None:
            pieces = [(0, None)]
        save(now=True)
        work = Work(
            self.session,
            self.version,
            self.plan,
            ledger,
            target,
            patience=self.options.patience,
            listener=self.listener,
            save=save,
        )
        try:
            work.run(pieces, jobs)
        finally:
            save(now=True)

    def announce(self, filename: str, runs: Sequence[Span], there: Spans, skipped: int = 0) -> None:
        """Say what is to be done."""
        size = None if self.version.size is None else sum(stop - start for start, stop in runs)
        present = sum(b - a for run in runs for a, b in there.within(*run))
        count = len(self.taken if self.taken is not None else self.members)
        self.listener(Planned(filename, count, size, present, skipped))

    @property
    def members(self) -> Sequence[object]:
        """The members of the whole archive."""
        return self.plan.members if self.plan is not None else ()

    @property
    def identity(self) -> Identity:
        """What a state of this is of: of another choice of members it would be another one."""
        choice = "" if self.taken is None else sha256(repr(self.taken).encode()).hexdigest()
        kind = "directory" if self.options.is_extraction else f"file {choice}"
        return Identity(self.source, str(self.version.validator), kind, self.version.size)

    def runs(self) -> list[Span]:
        """Return the runs of the archive that are wanted."""
        if self.taken is None or self.plan is None:
            return [(0, self.version.size or 0)] if self.version.size else []
        return runs_of(self.plan, self.taken)


def extract(making: Making, path: Path, *, is_new: bool) -> tuple[int, int]:
    """Make files of members, below a directory that ``is_new`` unless we began it.

    Return how many were there already, and how many have their checksum.
    """
    plan = making.plan
    assert plan is not None
    with ExitStack() as stack:
        if is_new and path.exists() and not making.options.skip_existing:
            with closing(Tree(path)) as tree:
                _check_ours(tree, making)
        tree = stack.enter_context(closing(Tree(path)))
        state = stack.enter_context(closing(_state(making, tree)))
        if tree.folds(state.name):
            check_side_by_side([m.name for m in plan.members], strict=True)
        target = Directory(tree, state, plan)
        there = _there(making, state, target)
        taken = making.taken if making.taken is not None else list(range(len(plan.members)))
        kept = [i for i in taken if not _is_there(making, tree, i)]
        runs = runs_of(plan, kept)
        if making.taken is None and len(kept) == len(taken):
            runs = making.runs()
        ledger = Ledger(plan, there)
        _put_what_is_complete(target, ledger, kept)
        there = ledger.spans()
        making.announce(plan.filename, runs, there, len(taken) - len(kept))
        wanted = sum(plan.members[i].size for i in kept if not ledger.is_complete(i))
        _check_room(tree.free(), wanted - _of_parts(plan, there, kept, ledger), str(path))
        making.fetch(target, ledger, runs, state)
        verified = 0
        if making.options.verify:
            read = partial(_read_member, tree, plan)
            verified = verify(plan, taken, read, making.listener)
        state.remove()
        return len(taken) - len(kept), verified


def keep(making: Making, path: Path, filename: str) -> int:
    """Make a file of the archive; return how many members have their checksum."""
    if path.exists() and not path.is_file():
        raise WrongUse(f"{path} is no regular file: write to a pipe by '-o -'")
    with ExitStack() as stack:
        tree = stack.enter_context(closing(Tree(path.parent)))
        state = stack.enter_context(closing(_state(making, tree)))
        runs = making.runs()
        target = Archive(state, runs or [(0, 0)], str(path))
        stack.callback(os.close, target.fd)
        there = _there(making, state, target)
        ledger = Ledger(making.plan, there)
        making.announce(filename, runs, there)
        if making.version.size is not None:
            wanted = sum(stop - start for start, stop in runs) - len(there)
            _check_room(tree.free(), wanted, str(path))
        else:
            with on_disk(str(path)):
                os.ftruncate(target.fd, 0)
        making.fetch(target, ledger, runs, state)
        with on_disk(str(path)):
            if making.taken is not None:
                end = target.place(runs[-1][1]) if runs else 0
                os.ftruncate(target.fd, end + trailer_size(end))
            elif making.version.size is not None:
                os.ftruncate(target.fd, making.version.size)
        verified = _checked(making, target)
        with on_disk(str(path)):
            tree.put(path.name, state.fd, "0")
        state.remove()
        return verified


def pour(making: Making, filename: str) -> None:
    """Write the archive into a pipe."""
    assert making.options.pipe is not None
    pipe = Pipe(making.options.pipe)
    runs = making.runs()
    making.announce(filename, runs, Spans())
    making.fetch(pipe, Ledger(making.plan, Spans()), runs, None)
    if making.taken is not None:
        pipe.write(memoryview(bytes(trailer_size(sum(stop - start for start, stop in runs)))))


def _state(making: Making, tree: Tree) -> State:
    """Open the state. Raise `Changed` where an earlier run has left that of another version."""
    where = str(tree.path)
    for old in of_other_versions(tree.fd, where, making.identity):
        with closing(old):
            if not making.options.skip_existing:
                raise _changed_since(making, old)
            old.remove()
    return State(tree.fd, where, making.identity)


def _changed_since(making: Making, old: State) -> Changed:
    text = f"it has changed since {old.shown} was begun: remove that directory to begin anew"
    if making.options.is_extraction:
        text += ", or add --skip-existing to fetch what is not there yet"
    known, names = old.members(), []
    if making.plan is not None and known:
        pairs = zip(making.plan.members, making.plan.digests(), strict=True)
        names = [member.name for member, digest in pairs if digest not in known]
    if names:
        listed = ", ".join(map(shown, names[:10])) + (", ..." if len(names) > 10 else "")
        text += f"; changed or new: {listed}"
    return Changed(text, names)


def _there(making: Making, state: State, target: Target) -> Spans:
    """Return what an earlier run has left that can be gone on with; all else is removed."""
    there = state.read(target.tail) if making.version.is_resumable else Spans()
    if not there and isinstance(target, Directory):
        state.forget()
    if making.plan is not None and making.version.is_resumable and not there:
        state.note_members(making.plan.digests())
    return there


def _is_there(making: Making, tree: Tree, index: int) -> bool:
    if not making.options.skip_existing or making.plan is None:
        return False
    member = making.plan.members[index]
    if member.is_directory:
        return tree.has_directory(member.name)
    return member.mtime > 0 and tree.has(member.name, member.size, member.mtime)


def _put_what_is_complete(target: Directory, ledger: Ledger, taken: Sequence[int]) -> None:
    """Put members into their places whose last byte had arrived just before the end of a run.

    What was noted and is not there any more is forgotten, and fetched again. So is a member that
    was put into its place just after its beginning had been noted: its part is gone.
    """
    lost = []
    parts = set(os.listdir(target.state.fd))
    with closing(target.worker()) as worker:
        for index in taken:
            if not ledger.is_complete(index):
                continue
            member = target.plan.members[index]
            if member.is_directory or str(index) in parts:
                worker.finish(index)
            elif not target.tree.has(member.name, member.size, member.mtime):
                lost.append(member.span)
    there = ledger.spans()
    for index in ledger.begun():
        member = target.plan.members[index]
        assert member.data_offset is not None
        last = max(stop for _, stop in there.within(*member.span)) - member.data_offset
        if target.state.part_size(index) < min(last, member.size):
            lost.append(member.span)
    ledger.forget(lost)


def _of_parts(plan: Plan, there: Spans, taken: Sequence[int], ledger: Ledger) -> int:
    """Return the bytes of members that are not complete, and take room already."""
    return sum(
        stop - start
        for i in taken
        if not ledger.is_complete(i)
        for start, stop in there.within(*plan.members[i].span)
    )


def _check_room(free: int, wanted: int, path: str) -> None:
    if wanted > free:
        raise DiskError(f"{path} has room for {free} bytes, and {wanted} are to come")


def _check_ours(tree: Tree, making: Making) -> None:
    """Refuse a directory that holds something, but for a download of this that goes on."""
    names = os.listdir(tree.fd)
    own = directory_name(making.identity)
    is_begun = own in names or any(_has_another_version(tree, making))
    if names and not is_begun:
        raise DiskError(
            f"{tree.path} exists already: name a directory by -d, or add --skip-existing to fetch "
            "what is not there yet"
        )


def _has_another_version(tree: Tree, making: Making) -> Iterator[bool]:
    for old in of_other_versions(tree.fd, str(tree.path), making.identity):
        old.close()
        yield True


def _checked(making: Making, target: Archive) -> int:
    """Check a file that is complete, as far as that was not done when the bytes arrived."""
    plan = making.plan
    if plan is None:
        return 0
    if plan.format == "zip":
        check_zip(target.fd, plan, contents=making.options.verify)
        return len(plan.members) if making.options.verify else 0
    if not making.options.verify:
        return 0
    taken = making.taken if making.taken is not None else range(len(plan.members))

    def read(index: int) -> Iterator[bytes]:
        member = plan.members[index]
        assert member.data_offset is not None
        return blocks(target.fd, target.place(member.data_offset), member.size)

    return verify(plan, taken, read, making.listener)


@contextmanager
def _opened(tree: Tree, name: str) -> Iterator[int]:
    with on_disk(shown(name)):
        fd = tree.read(name)
        try:
            yield fd
        finally:
            os.close(fd)


def _read_member(tree: Tree, plan: Plan, index: int) -> Iterator[bytes]:
    with _opened(tree, plan.members[index].name) as fd:
        yield from blocks(fd)
