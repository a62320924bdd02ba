"""What a user wants of a download, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tar_gateway.client.failures import WrongUse
from tar_gateway.client.patience import Patience


@dataclass(frozen=True, slots=True)
class Options:
    """What is made of an archive, and how.

    ``directory``: extract into it; ``file``: keep the archive; ``pipe``: a descriptor that it is
    written to. Without any, a new directory is made that is called as the archive. ``include`` and
    ``exclude`` are globs, as in a request. ``jobs`` are connections at the same time. Raise
    `WrongUse` for what makes no sense.
    """

    directory: Path | None = None
    file: Path | None = None
    pipe: int | None = None
    recursive: bool = False
    """Whether the URL is that of a directory, and all below it is meant."""
    jobs: int = 1
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    skip_existing: bool = False
    """Whether files are left as they are that have the member's size and date."""
    verify: bool = False
    timeout: float = 60.0
    """Seconds without a byte after which a connection counts as broken."""
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        if [self.directory, self.file, self.pipe].count(None) < 2:
            raise WrongUse("give one of a directory, a file and a pipe")
        if self.pipe is not None and self.jobs > 1:
            raise WrongUse("a pipe takes one byte after the other: it goes with one job only")
        if self.pipe is not None and self.verify:
            raise WrongUse("what went into a pipe can't be verified: give a directory or a file")
        if self.skip_existing and not self.is_extraction:
            raise WrongUse("existing files can be skipped only where files are extracted")
        if self.jobs < 1:
            raise WrongUse("there has to be one job at least")

    @property
    def is_extraction(self) -> bool:
        """Whether members become files of a directory."""
        return self.file is None and self.pipe is None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a download.

    ``where`` it is; ``members`` that were taken and are there now; ``received`` bytes, by this run;
    ``skipped`` members that were there; ``verified`` ones that have their checksum; ``missing``
    names that the archive leaves out.
    """

    where: str
    members: int
    received: int
    seconds: float
    skipped: int = 0
    verified: int = 0
    missing: Sequence[str] = ()
