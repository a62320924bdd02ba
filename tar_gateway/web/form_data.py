"""A ``multipart/form-data`` body without files (RFC 7578), as scripts send ``FormData``.

Pure: bytes in, pairs of texts out, as a form in the other encoding gives them. Where a part ends
is decided by `multipart`, in its strict mode; what a part may say, here.
"""

import re
from collections.abc import Iterator
from urllib.parse import quote

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from tar_gateway.errors import BadRequest
from tar_gateway.http.paths import shown

# Bytes of one header of a part, which holds the name of a field, and headers of a part.
_LONGEST_HEADER = 1024
_MOST_HEADERS = 8

_PARAMETER = r';[ \t]*([\w-]+)=(?:"([^"\\]*)"|([^\s;"]+))[ \t]*'
_CONTENT_TYPE = re.compile(rf"multipart/form-data[ \t]*(?:{_PARAMETER})*", re.ASCII | re.IGNORECASE)

# More than RFC 2046 5.1.1 allows, as some libraries write a dollar, but no spaces.
_BOUNDARY = re.compile(r"[!#-:<-\[\]-~]{1,70}")

# A field's, and no file's: with anything else in it, two readers might find two names.
_DISPOSITION = re.compile(r'form-data; ?name=(?:"(?:[^"\\]|\\.)*"|[\w.\[\]-]+)', re.IGNORECASE)
_FILE = re.compile(r";[ \t]*filename", re.IGNORECASE)

_CHARSETS = {"", "utf-8", "utf8", "us-ascii"}
_AS_IT_IS = {"", "7bit", "8bit", "binary"}


def boundary_of(content_type: str) -> bytes:
    """Return what separates the parts. Raise `BadRequest` where that is not one clear text.

    Of two of them a server in front might have read the other one.
    """
    parameters = re.findall(_PARAMETER, content_type, re.ASCII)
    found: list[str] = [
        quoted or plain for name, quoted, plain in parameters if name.lower() == "boundary"
    ]
    clear = _CONTENT_TYPE.fullmatch(content_type.strip()) and len(found) == 1
    if not (clear and _BOUNDARY.fullmatch(found[0])):
        raise BadRequest(f"the form's Content-Type, {shown(content_type)}, has no clear boundary")
    return found[0].encode("ascii")


def count_parts(body: bytes, boundary: bytes) -> int:
    """Return how many parts a body has at the most, without reading them."""
    return max(0, body.count(b"--" + boundary) - 1)


def read_parts(body: bytes, boundary: bytes) -> Iterator[tuple[str, str]]:
    """Yield the fields: names, and values as a URL-encoded form writes them.

    Raise `BadRequest` for what is malformed or cut off, for a field in another encoding than UTF-8,
    and for a file, whose content would be ignored.
    """
    parser = PushMultipartParser(
        boundary, max_header_size=_LONGEST_HEADER, max_header_count=_MOST_HEADERS, strict=True
    )
    name, blocks = "", list[bytes]()
    try:
        with parser:
            for event in parser.parse(body):
                if event is None:
                    yield name, quote(b"".join(blocks))
                elif isinstance(event, MultipartSegment):
                    name, blocks = _name_of(event), []
                else:
                    blocks.append(event)
    except MultipartError as error:
        raise BadRequest(f"the form is not understood: {error.args[0]}") from error


def _name_of(part: MultipartSegment) -> str:
    name, headers = part.name or "", dict(part.headerlist)
    disposition = headers["Content-Disposition"].strip()
    is_plain = _DISPOSITION.fullmatch(disposition) is not None
    if not is_plain and _FILE.search(disposition):
        raise BadRequest(
            f"the form's field {shown(name)} is a file: send the paths of files, not their content"
        )
    coding = headers.get("Content-Transfer-Encoding", "").strip().lower()
    charset = (part.charset or "").lower()
    is_repeated = len(headers) < len(part.headerlist)
    if is_repeated or not is_plain or coding not in _AS_IT_IS or charset not in _CHARSETS:
        raise BadRequest(
            f"the form's field {shown(name)} has headers that are not understood: "
            "send names and values in UTF-8, as they are"
        )
    return name
