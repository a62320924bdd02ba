"""Everything that can go wrong, with the status a client sees.

One tree. None of it is an ``OSError`` or a ``StopIteration``: servers take those for the
client's doing and answer with silence. This file knows of no server, no library and no IO.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self


class TarGatewayError(Exception):
    """The root of the tree."""


class SettingsError(TarGatewayError):
    """A setting is missing or wrong; the text says which, why, and what would be right."""


class WrongSetting(SettingsError):
    """The value of a setting is wrong; ``value`` is what may be shown of it."""

    def __init__(self, name: str, value: str, reason: str) -> None:
        super().__init__(f"{name} is {value}: {reason}")
        self.name, self.value, self.reason = name, value, reason


# --- at any time: there is no one left to answer ---------------------------------------------


class Cancelled(TarGatewayError):
    """The client has left, or the download was closed: that says nothing of a source."""

    def __init__(self) -> None:
        super().__init__("no one waits for the response any more")


# --- before the first byte: the request can still be answered with a status -----------------


class Refusal(TarGatewayError):
    """A request that is answered with an error.

    ``status`` is the HTTP status, ``detail`` a sentence for the client (never another
    exception's text), ``headers`` are added to the response. ``reason`` and ``cause`` are for the
    log: what is wrong, of the ``member`` at fault where there is one, and what was behind it.
    """

    status = HTTPStatus.BAD_REQUEST
    member: str | None = None
    cause: str | None = None

    def __init__(self, detail: str, *, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.detail = self.reason = detail
        self.headers = tuple(headers)


class BadRequest(Refusal):
    """The request makes no sense as it stands."""


class Forbidden(Refusal):
    """The request came in a way that is not allowed: by an invalid link, or for a page's frame."""

    status = HTTPStatus.FORBIDDEN


class NotFound(Refusal):
    """There is nothing at this path."""

    status = HTTPStatus.NOT_FOUND


class MethodNotAllowed(Refusal):
    """The method has no meaning here; ``allowed`` are those that have one."""

    status = HTTPStatus.METHOD_NOT_ALLOWED

    def __init__(self, allowed: Sequence[str]) -> None:
        listed = ", ".join(allowed)
        super().__init__(f"only {listed} are understood here", headers=[("Allow", listed)])


class NotAcceptable(Refusal):
    """The response can be made, but not so that this client would see that it was cut off."""

    status = HTTPStatus.NOT_ACCEPTABLE


class RequestTimeout(Refusal):
    """The request did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT


class PreconditionFailed(Refusal):
    """What the request was made conditional on no longer holds, such as a directory's listing."""

    status = HTTPStatus.PRECONDITION_FAILED
    directory: str | None = None


class RangeNotSatisfiable(Refusal):
    """A range of a response of ``size`` bytes that holds none of them."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE

    def __init__(self, size: int) -> None:
        headers = [("Content-Range", f"bytes */{size}")]
        super().__init__(f"the range holds none of the {size} bytes", headers=headers)


class ContentTooLarge(Refusal):
    """The request, or what it asks for, exceeds a limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class UriTooLong(Refusal):
    """A query beyond its limit; the same list can be sent by POST."""

    status = HTTPStatus.REQUEST_URI_TOO_LONG


class UnsupportedMediaType(Refusal):
    """A body of a type that is not understood."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class ExpectationFailed(Refusal):
    """The request expects of the server what it doesn't do."""

    status = HTTPStatus.EXPECTATION_FAILED


class HeaderTooLarge(Refusal):
    """The request's line and headers are longer than a request needs."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class TooManyRequests(Refusal):
    """One client has as much under way as one may have."""

    status = HTTPStatus.TOO_MANY_REQUESTS


class LoopDetected(Refusal):
    """The request has passed through this gateway before: its upstream leads back to it."""

    status = HTTPStatus.LOOP_DETECTED


class Busy(Refusal):
    """All clients together have as much under way as is possible, or the end is near."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class MemberFault:
    """What is wrong with one member: ``path`` below the source's base, HTTP ``status``, ``reason``.

    ``challenge`` is the upstream's ``WWW-Authenticate``, where it sent one, and ``cause`` what only
    the operator is told. ``login`` is the URL at which a browser may log in to have the member.
    ``name`` is its name in the archive. ``is_missing``: it is not there, or not for this caller.
    """

    path: str
    status: int
    reason: str
    challenge: str | None = None
    cause: str | None = None
    login: str | None = None
    name: str = ""
    is_missing: bool = False


MOST_FAULTS = 100
"""How many members at fault an error names. After so many, nothing more is asked."""


class MembersFailed(Refusal):
    """Of ``total`` members ``count`` failed; ``faults`` are at most `MOST_FAULTS` of these."""

    # A client that has logged in may find that a member is missing after all.
    precedence = (401, 403, 502, 504, 404)

    def __init__(
        self, faults: Sequence[MemberFault], *, total: int = 1, status: int | None = None
    ) -> None:
        self.count, self.total = len(faults), total
        if self.count > MOST_FAULTS:
            faults = sorted(faults, key=self._rank)[:MOST_FAULTS]
        self.faults = tuple(faults)
        first = min(faults, key=self._rank)
        status = status or first.status
        # One challenge is enough, although each member may have come with another nonce.
        challenges = (fault.challenge for fault in faults if fault.status == 401)
        challenge = next(filter(None, challenges), None) if status == 401 else None
        # After a 401, or so many faults, nothing more was asked.
        decided = self.count < total and (status == 401 or self.count >= MOST_FAULTS)
        some = f"{'at least ' if decided else ''}{self.count} of {total} files"
        one = "file" if first.path.rstrip("/") == first.path != "" else "directory"
        super().__init__(
            f"{f'the {one}' if total == 1 else some} could not be retrieved",
            headers=[("WWW-Authenticate", challenge)] if challenge else (),
        )
        self.status = HTTPStatus(status)
        self.member, self.reason, self.cause = first.path, first.reason, first.cause
        asking = (fault for fault in self.faults if fault.login) if status == 403 else ()
        self.login = next(iter(asking), None)
        """The first member that a login would help to, where nothing else comes first."""

    def _rank(self, fault: MemberFault) -> int:
        return self.precedence.index(fault.status)


class MembersChanged(MembersFailed):
    """Members have changed since they were asked about; asking anew may help."""


class UpstreamFailed(Refusal):
    """A plain file can't be passed on: the upstream's response was wrong, late or missing.

    Or the authority does not let the caller have it, or can't be asked.
    """

    def __init__(self, detail: str, *, status: int) -> None:
        super().__init__(detail)
        self.status = HTTPStatus(status)

    @classmethod
    def of(cls, error: "SourceError", *, reading: str = "") -> Self:
        """Return the refusal for what a source could not do; ``reading`` names what was read."""
        detail = f"{reading}: {error.reason}" if reading else error.reason
        refusal = cls(detail, status=error.status)
        refusal.cause = error.cause
        if error.challenge:
            refusal.headers = (("WWW-Authenticate", error.challenge),)
        return refusal


class InternalError(Refusal):
    """A defect of ours; what it was stands in the log, never in the response."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self, detail: str = "the gateway has a defect, and its log says more") -> None:
        super().__init__(detail)


class UnsupportedTransferCoding(Refusal):
    """A body whose ``Transfer-Encoding`` the server can't undo."""

    status = HTTPStatus.NOT_IMPLEMENTED


# --- what a source finds; the planner and the body decide what becomes of it -----------------


class SourceError(TarGatewayError):
    """A source could not do what it was asked.

    ``reason`` and ``status`` (401, 403, 404, 502 or 504) are for the client, ``cause`` is for logs.
    ``transient``: asking again may help, after ``retry_after`` seconds, or at once where another
    server is there to ask (``elsewhere``). ``unreachable``: there was no connection; ``given_up``:
    nor for a while; ``refused``: the server takes no more requests for now. Where it is not
    ``of_server`` but of this request, or this machine, it says nothing of the server.
    ``of_service``: the service's own credentials were refused, and not the caller's.
    ``challenge`` and ``login`` are as in `MemberFault`.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int = 502,
        transient: bool = False,
        retry_after: float = 0,
        elsewhere: bool = False,
        unreachable: bool = False,
        of_server: bool = True,
        refused: bool = False,
        of_service: bool = False,
        challenge: str | None = None,
        cause: str | None = None,
        login: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.of_server = of_server
        # A source of somebody's own may know others; all a client can use are these.
        self.status = status if status in MembersFailed.precedence else 502
        self.transient = transient
        self.retry_after = retry_after
        self.elsewhere = elsewhere
        self.unreachable = unreachable
        self.refused = refused
        self.of_service = of_service
        self.given_up = False
        self.challenge = challenge
        self.cause = cause
        self.login = login

    def but(self, **changed: bool) -> Self:
        """Return the same error, of the same class, with other values of some attributes."""
        error = type(self).__new__(type(self), *self.args)
        vars(error).update(vars(self), **changed)
        return error

    @property
    def is_away(self) -> bool:
        """Whether it says that the server is away or takes no more requests, and nothing else."""
        return self.unreachable or self.given_up or self.refused

    @property
    def for_operator(self) -> str:
        """The reason with its cause: for a log or a terminal, never for a response."""
        return f"{self.reason}: {self.cause}" if self.cause else self.reason


class MemberChanged(SourceError):
    """The member is no longer the one the plan was made of."""


class TooSlow(SourceError):
    """What must be read whole did not come by its deadline, or comes too slowly."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, status=504)


# --- after the first byte: nothing is left but to break the connection ------------------------


class BrokenOff(TarGatewayError):
    """The response can't be completed, and the server has to cut the connection.

    ``fault`` says why, ``member`` is the path of the one at fault, and ``called`` what that is.
    The client sees the broken connection only; the text, ``reason`` and ``cause`` are for the log.
    """

    def __init__(
        self, fault: str | SourceError, member: str | None = None, *, called: str = "member"
    ) -> None:
        error = SourceError(fault) if isinstance(fault, str) else fault
        text = error.for_operator
        super().__init__(text if member is None else f"the {called} {member!r} failed: {text}")
        self.member = member
        self.reason, self.cause = error.reason, error.cause
