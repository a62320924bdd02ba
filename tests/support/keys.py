"""Lists of keys as a store writes them."""

from collections.abc import Iterable
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

DATE = "2023-11-14T22:13:20.000Z"

Key = tuple[str, int, str]  # with its size and entity tag


def page(
    *keys: Key, prefixes: Iterable[str] = (), token: str | None = None, encoded: bool = True
) -> bytes:
    """Write a page of ListObjectsV2; a tag is taken as XML."""
    write = quote_plus if encoded else escape
    texts = ["<?xml version='1.0' encoding='UTF-8'?>"]
    texts.append('<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">')
    texts += ["<EncodingType>url</EncodingType>"] if encoded else []
    for key, size, tag in keys:
        texts.append(
            f"<Contents><Key>{write(key)}</Key><LastModified>{DATE}</LastModified>"
            f"<ETag>{tag}</ETag><Size>{size}</Size></Contents>"
        )
    for prefix in prefixes:
        texts.append(f"<CommonPrefixes><Prefix>{write(prefix)}</Prefix></CommonPrefixes>")
    texts.append(f"<IsTruncated>{'false' if token is None else 'true'}</IsTruncated>")
    if token is not None:
        texts.append(f"<NextContinuationToken>{escape(token)}</NextContinuationToken>")
    return "".join([*texts, "</ListBucketResult>"]).encode("utf-8")


def error(code: str, **more: str) -> bytes:
    """Write an error of a store."""
    fields = {"Code": code, "Message": "a bucket and an account", **more}
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in fields.items())
    return f"<?xml version='1.0' encoding='UTF-8'?><Error>{inner}</Error>".encode()
