"""What names a bucket: its URL, and the endpoint of the store that has it.

Pure: texts in, checked texts out. `ValueError` says what is wrong, as the end of a sentence.
"""

import re
from typing import Final

from tar_gateway.http.paths import BadName, check_name

SCHEME: Final = "s3://"

IN_HOST: Final = "{bucket}"
"""What stands for the bucket in an endpoint's host, where the store has one host for each."""

# AWS's rules for general purpose buckets, which others share: a part of a host's name.
_BUCKET = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

_REGION = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_bucket(url: str) -> bool:
    """Return whether a URL is that of a bucket."""
    return url.startswith(SCHEME)


def check_bucket_url(url: str) -> str:
    """Check ``s3://bucket/prefix/``. Return it with exactly one slash at its end.

    The prefix is written as the keys have it, and not percent-encoded.
    """
    bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("it must be s3://bucket/prefix/, with a bucket's name of 3 to 63 a-z0-9.-")
    if not prefix:
        return f"{SCHEME}{bucket}/"
    name = prefix.removesuffix("/")
    try:
        check_name(name)
    except BadName as error:
        raise ValueError(f"its prefix {error}") from error
    return f"{SCHEME}{bucket}/{name}/"


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """Return what a checked URL names: the bucket, and the prefix, empty or with its slash."""
    bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
    return bucket, prefix


def check_region(region: str) -> str:
    """Check the name of a region. Return it."""
    if not is_region(region):
        raise ValueError("it must be a region such as eu-west-1")
    return region


def check_profile(profile: str) -> str:
    """Check the name of a profile. Return it."""
    if not re.fullmatch(r"[\w.@:/+-]{1,128}", profile):
        raise ValueError("it must be the name of a profile: letters, digits and _.@:/+-")
    return profile


def is_region(region: str) -> bool:
    """Return whether a text can be the name of a region."""
    return _REGION.fullmatch(region) is not None
