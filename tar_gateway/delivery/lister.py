"""One directory listed, on the caller's authority and as often as a passing fault is tried again.

What is asked for a bundle's directories and for the page of one is the same question.
"""

from tar_gateway.errors import SourceError
from tar_gateway.http.paths import url_path
from tar_gateway.sources import Caller, Listing, ListingSource, Permit, Source, UnknownSize
from tar_gateway.sources.stepwise import StepwiseSource
from tar_gateway.sources.wire.asking import Steps
from tar_gateway.sources.wire.retry import Retry


class Lister:
    """Lists directories of ``source`` that ``permit`` lets the caller have."""

    def __init__(self, source: Source, retry: Retry, permit: Permit | None) -> None:
        self._source = source
        self._retry = retry
        self._permit = permit

    def steps(
        self, directory: str, caller: Caller, deadline: float, *, deep: bool, told: Listing | None
    ) -> Steps[Listing]:
        """Return the steps of a listing until ``deadline``, a `time.monotonic` moment.

        ``directory`` is a path with its slash, empty for the base. With ``deep`` all below it is
        wanted. What a listing above has ``told`` is not asked for, but judged. Raise `SourceError`.
        """
        source, permit, path = self._source, self._permit, url_path(directory)
        if not isinstance(source, ListingSource):
            raise SourceError("directories are not listed here: name the files in it", status=404)

        def ask() -> Steps[Listing]:
            if permit is not None:
                yield from permit(path, caller)
            return told or (yield from source.list_steps(path, caller, deep=deep))

        return (
            yield from self._retry.call(
                ask, caller.cancellation, tally=caller.tally, deadline=deadline
            )
        )

    def check_no_file(self, path: str, caller: Caller) -> Steps[None]:
        """Raise `SourceError` where what was not found as a directory is a file."""
        if not isinstance(self._source, StepwiseSource):
            return
        try:
            if self._permit is not None:
                yield from self._permit(url_path(path), caller)
            stat = yield from self._source.stat_steps(url_path(path), caller)
        except SourceError:
            return
        if isinstance(stat, UnknownSize):
            stat.content.close()
        raise SourceError("it is a file: ask for it without the slash at its end", status=404)
