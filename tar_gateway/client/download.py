"""A download from beginning to end: the plan, the choice, the work, and what is made of it."""

import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from tar_gateway.client.address import Address
from tar_gateway.client.asking import Found, ask_plain, ask_plan
from tar_gateway.client.choice import chosen
from tar_gateway.client.events import Listener, Notice
from tar_gateway.client.failures import Changed, DownloadError, WrongUse
from tar_gateway.client.making import Making, extract, keep, pour
from tar_gateway.client.options import Options, Result
from tar_gateway.client.plan import Plan
from tar_gateway.client.session import Access, Session
from tar_gateway.client.tree import disk_error
from tar_gateway.client.verify import check_is_verifiable, sums_member
from tar_gateway.http.paths import shown

_SUFFIX = re.compile(r"\.(?:tar|zip|tar\.gz|tar\.zst)\Z")


class Download:
    """A download of a bundle, or of one file of any server, that goes on where it stopped.

    ``run`` does it; after an error, an interruption or a kill, the same again goes on. The
    ``listener`` is told what happens.
    """

    def __init__(
        self,
        url: str,
        options: Options | None = None,
        *,
        access: Access | None = None,
        listener: Listener = lambda _: None,
    ) -> None:
        self._options = options or Options()
        self._access = access or Access()
        self._received = _Counted(listener)
        self._address, login = Address.of(url)
        if login is not None and self._access.user is None:
            user, _, password = login.partition(":")
            self._access = replace(self._access, user=user, password=password)
        if self._options.recursive and not self._address.is_bundle:
            self._address = self._address.as_directory()
        if self._options.verify and self._may_add and not self._address.has("checksums"):
            self._address = self._address.adding("checksums=sha256")

    def plan(self) -> Plan | None:
        """Return the plan of what would be downloaded; `None` where the server gives none."""
        with self._session() as session:
            return self._find(session).plan

    def chosen(self, plan: Plan) -> list[int]:
        """Return the members that would be taken, by their number."""
        return chosen(plan, self._options.include, self._options.exclude)

    def directory(self, plan: Plan) -> Path:
        """Return where members are extracted to."""
        return self._options.directory or Path(_SUFFIX.sub("", plan.filename))

    def run(self) -> Result:
        """Download. Raise `DownloadError`; what has arrived is kept then."""
        began = time.monotonic()
        with self._session() as session:
            found = self._find(session)
            try:
                where, members, skipped, verified = self._make(session, found)
            except OSError as error:
                raise disk_error(str(self._options.file or "the directory"), error) from error
            except Changed as error:
                if found.plan is None:
                    raise
                raise self._changed(error, found.plan) from error
        return Result(
            where,
            members,
            self._received.count,
            time.monotonic() - began,
            skipped,
            verified,
            found.plan.missing if found.plan else (),
        )

    @property
    def _may_add(self) -> bool:
        """Whether the URL may say more: a signature allows no other parameters."""
        return self._address.is_bundle and not self._address.is_signed

    @contextmanager
    def _session(self) -> Iterator[Session]:
        session = Session(
            self._address, self._access, timeout=self._options.timeout, jobs=self._options.jobs
        )
        with closing(session):
            yield session

    def _find(self, session: Session) -> Found:
        patience, listener = self._options.patience, self._received
        if self._address.is_bundle:
            found = ask_plan(session, self._address, patience, listener)
            if found is not None:
                return self._as_needed(session, found)
        elif self._address.path.endswith("/"):
            raise WrongUse("the URL is that of a directory: add -r to have everything below it")
        if self._options.directory is not None or self._options.include or self._options.exclude:
            raise WrongUse(
                "this server gives no plan of an archive, so that it can't be extracted while it "
                "is downloaded: keep it by -o FILE"
            )
        return ask_plain(session, self._address, patience, listener)

    def _as_needed(self, session: Session, found: Found) -> Found:
        """Return a tar's plan where the format that was asked for has no places for members."""
        plan, options = found.plan, self._options
        chooses = bool(options.include or options.exclude)
        if plan is None or plan.is_tar or not (options.is_extraction or chooses):
            return found
        if not self._may_add:
            raise WrongUse(
                f"this link is signed for a {plan.format}, of which members can't be taken one by "
                "one: keep it by -o FILE"
            )
        if not options.is_extraction:
            raise WrongUse(f"of a {plan.format} all is taken: choose with format=tar in the URL")
        self._received(Notice(f"asked for a tar in place of the {plan.format}, to extract it"))
        again = ask_plan(session, self._address.as_tar(), options.patience, self._received)
        if again is None or again.plan is None or not again.plan.is_tar:
            raise WrongUse(f"the server makes no tar of this {plan.format}: keep it by -o FILE")
        return again

    def _make(self, session: Session, found: Found) -> tuple[str, int, int, int]:
        """Return where it is, how many members, how many were there, how many are verified."""
        plan, options = found.plan, self._options
        taken = None
        if options.verify:
            check_is_verifiable(plan, is_extraction=options.is_extraction)
        if plan is not None and (options.include or options.exclude):
            taken = self.chosen(plan)
            if not taken:
                raise WrongUse(f"none of the {len(plan.members)} members is chosen")
            sums = sums_member(plan) if options.verify else None
            if sums is not None and sums not in taken:
                taken = sorted([*taken, sums])
        making = Making(
            session,
            found.version,
            plan,
            taken,
            self._address.digest(),
            options,
            self._received,
        )
        count = len(taken if taken is not None else making.members)
        if options.pipe is not None:
            pour(making, plan.filename if plan else str(self._address.file_name()))
            return "the pipe", count, 0, 0
        if plan is None or options.file is not None:
            path = options.file or Path(self._own_name())
            making = replace(making, options=replace(options, file=path))
            return str(path), count, 0, keep(making, path, path.name)
        path = self.directory(plan)
        skipped, verified = extract(making, path, is_new=options.directory is None)
        return str(path), count, skipped, verified

    def _own_name(self) -> str:
        name = self._address.file_name()
        if name is None:
            raise WrongUse("the URL names no file: say by -o FILE what it is to be called")
        return name

    def _changed(self, error: Changed, old: Plan) -> Changed:
        """Return the error with the members that are others by now, as the new plan tells."""
        try:
            new = self.plan()
        except DownloadError:
            new = None
        names = old.changes(new) if new is not None else []
        if not names:
            return error
        listed = ", ".join(map(shown, names[:10])) + (", ..." if len(names) > 10 else "")
        return Changed(f"{len(names)} members have changed meanwhile: {listed}", names)


class _Counted:
    """A listener that counts what has arrived, and tells another one."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.count = 0

    def __call__(self, event: object) -> None:
        self.count += getattr(event, "count", 0)
        self._listener(event)  # type: ignore[arg-type]
