"""What a ``Content-Encoding`` says of a file that was asked for as it is.

Asked for ``identity``, many servers still name a coding: that of a file which is stored so. Pure.
"""

from collections.abc import Iterable

# The codings there are (IANA's HTTP Content Coding Registry, and what servers derive from a file's
# name), each with the ends of names that state it. Any other word is no coding: a charset, the
# value ``None`` of a program, the ``aws-chunked`` of an upload.
_SUFFIXES: dict[str, tuple[str, ...]] = {
    "aes128gcm": (),
    "br": (".br",),
    "bzip2": (".bz2", ".bz", ".tbz2", ".tbz", ".tb2"),
    "compress": (".z", ".taz", ".tz"),
    "dcb": (),
    "dcz": (),
    "deflate": (".deflate", ".zz"),
    "exi": (".exi",),
    "gzip": (".gz", ".gzip", ".tgz", ".taz", ".svgz", ".emz", ".wmz", ".vgz", ".adz", ".cpgz"),
    "lz4": (".lz4",),
    "lzip": (".lz", ".tlz"),
    "lzma": (".lzma", ".tlz"),
    "pack200-gzip": (".pack.gz",),
    "sdch": (),
    "snappy": (".sz", ".snappy"),
    "xz": (".xz", ".txz"),
    "zstd": (".zst", ".zstd", ".tzst"),
}
_ALSO = {"bz2": "bzip2", "gz": "gzip", "zst": "zstd", "brotli": "br"}


def coding_beyond(name: str, values: Iterable[str]) -> str | None:
    """Return the coding that a content has beyond what its file's own name states, if any.

    ``name`` is the file's, or a path that ends with it; ``values`` are those of every
    ``Content-Encoding``, whose codings were applied in the order in which they stand (RFC 9110
    8.4). ``app.log.gz`` with ``gzip`` is the file; ``app.js`` with ``gzip`` is an encoding of it.
    """
    words = (word.strip().lower() for value in values for word in value.split(","))
    bare = (word.partition(";")[0].rstrip().removeprefix("x-") for word in words)
    codings = [_ALSO.get(word, word) for word in bare]
    rest = name.lower()
    for coding in reversed([word for word in codings if word in _SUFFIXES]):
        stated = next((end for end in _SUFFIXES[coding] if rest.endswith(end)), None)
        if stated is None:
            return coding
        rest = rest.removesuffix(stated)
    return None
