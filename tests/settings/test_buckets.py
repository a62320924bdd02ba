"""What names a bucket, and that everyone has one only where that is said."""

from pathlib import Path

import pytest

from tar_gateway.errors import SettingsError
from tar_gateway.server.startup import checked_settings
from tar_gateway.settings import Settings
from tar_gateway.settings.buckets import bucket_and_prefix, check_bucket_url
from tar_gateway.settings.locations import read_locations


@pytest.mark.parametrize(
    ("text", "url", "parts"),
    [
        ("s3://bucket", "s3://bucket/", ("bucket", "")),
        ("s3://bucket/", "s3://bucket/", ("bucket", "")),
        ("s3://my.bucket-1/a/b", "s3://my.bucket-1/a/b/", ("my.bucket-1", "a/b/")),
        ("s3://bucket/a b%20ü/", "s3://bucket/a b%20ü/", ("bucket", "a b%20ü/")),
        ("s3://bucket/?a#b/", "s3://bucket/?a#b/", ("bucket", "?a#b/")),
    ],
)
def test_a_bucket_and_its_prefix_are_taken_as_they_are_written(text, url, parts):
    assert check_bucket_url(text) == url
    assert bucket_and_prefix(url) == parts


@pytest.mark.parametrize(
    "text",
    [
        *("s3://", "s3:///a", "s3://ab", "s3://Bucket", "s3://b_c", "s3://a..b", "s3://-bc"),
        *("s3://user:pw@bucket/", "s3://bucket:9000/", "s3://" + "b" * 64, "s3://bucket\n/"),
        *("s3://bucket//", "s3://bucket/a//b", "s3://bucket/../a", "s3://bucket/./", "s3://b/a\0"),
    ],
)
def test_what_can_be_no_bucket_is_refused(text):
    with pytest.raises(ValueError, match=r"\Ait"):
        check_bucket_url(text)


def environ(**given: str) -> dict[str, str]:
    told = {"UPSTREAM": "s3://bucket/pre/", **given}
    return {f"TAR_GATEWAY_{name}": text for name, text in told.items() if text}


def test_a_start_with_a_bucket_for_everyone_is_refused_unless_that_is_said(tmp_path: Path):
    with pytest.raises(SettingsError) as refused:
        checked_settings(environ())
    line = str(refused.value)
    for way_out in ("SIGNING_KEYS_FILE", "AUTH_REQUEST", "S3_PUBLIC=yes"):
        assert f"TAR_GATEWAY_{way_out}" in line
    assert len(line.splitlines()) == 1
    with pytest.raises(SettingsError):
        checked_settings(environ(S3_PUBLIC="no"))
    (tmp_path / "keys").write_text("k1:" + "s" * 32)
    checked_settings(environ(S3_PUBLIC="yes"))
    checked_settings(environ(SIGNING_KEYS_FILE=str(tmp_path / "keys")))
    checked_settings(environ(AUTH_REQUEST="http://auth.internal/"))


LOCATION = '[[location]]\nprefix = "/a/"\nupstream = ["http://a/", "s3://bucket/"]\n'


def test_so_is_a_location_with_one(tmp_path: Path):
    file = tmp_path / "locations.toml"
    file.write_text(LOCATION)
    with pytest.raises(SettingsError, match="location 1: upstream: a bucket is opened"):
        checked_settings(environ(UPSTREAM="", LOCATIONS_FILE=str(file)))
    for said in ("s3_public = true", 's3_public = "yes"'):
        file.write_text(LOCATION + said)
        checked_settings(environ(UPSTREAM="", LOCATIONS_FILE=str(file)))
    file.write_text(LOCATION + "s3_public = false")
    with pytest.raises(SettingsError):
        read_locations(file, Settings())
    read_locations(file, Settings(auth_request="http://auth.internal/"))


def test_a_location_has_a_store_of_its_own(tmp_path: Path):
    file = tmp_path / "locations.toml"
    own = 's3_endpoint = "http://store:9000/"\ns3_region = "r1"\ns3_profile = "p"\n'
    file.write_text(LOCATION + own)
    (location,) = read_locations(file, Settings(s3_public=True))
    settings = location.settings
    told = (settings.s3_endpoint, settings.s3_region, settings.s3_profile, settings.s3_public)
    assert told == ("http://store:9000", "r1", "p", True)


def test_without_the_package_that_signs_the_start_says_what_to_install(monkeypatch):
    monkeypatch.setattr("tar_gateway.server.startup.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'tar_gateway\[s3\]'"):
        checked_settings(environ(S3_PUBLIC="yes"))
    checked_settings(environ(UPSTREAM="http://a/"))
