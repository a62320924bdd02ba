"""The service's own headers for the upstream, from a file of lines ``Name: value``.

The values are secrets, so no error quotes anything of a line.
"""

from pathlib import Path

from tar_gateway.errors import SettingsError
from tar_gateway.http.headers import OF_ONE_REQUEST, TOKEN, VALUE


def read_service_headers(path: Path) -> tuple[tuple[str, str], ...]:
    """Read a headers file; empty lines and those that begin with ``#`` say nothing.

    Raises `SettingsError` for a file that can't be read or is wrong, with the line's number.
    """
    try:
        text = path.read_bytes().decode("latin-1")  # as a header's bytes are sent
    except OSError as error:
        raise SettingsError(f"it can't be read: {error.strerror}") from error
    headers: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip(" \t\r")
        if not stripped or stripped.startswith("#"):
            continue
        name, colon, value = stripped.partition(":")
        value = value.strip(" \t")
        if not colon:
            raise SettingsError(f"line {number} is not 'Name: value'")
        if not TOKEN.fullmatch(name):
            raise SettingsError(f"line {number} does not begin with the name of a header")
        if name.lower() in OF_ONE_REQUEST:
            raise SettingsError(
                f"the header on line {number} belongs to one connection or to the gateway"
            )
        if name.lower() in headers:
            raise SettingsError(f"the header on line {number} was given before")
        if not value or not VALUE.fullmatch(value):
            raise SettingsError(f"the value on line {number} is empty or holds a control character")
        headers[name.lower()] = (name, value)
    return tuple(headers.values())
