"""Pages of ListObjectsV2: what is read of them, and that nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.sources.listing.found import BadListing
from tar_gateway.sources.listing.s3 import Page, StoredObject, read_keys
from tests.support.keys import DATE, page

MTIME = 1_700_000_000


def test_a_page_tells_keys_sizes_dates_tags_and_what_lies_deeper():
    read = read_keys(page(("d/a", 3, '"x"'), prefixes=["d/e/"]), "d/")
    assert read.objects == (StoredObject("d/a", 3, MTIME, '"x"'),)
    assert read.prefixes == ("d/e/",)
    assert read.token is None


@pytest.mark.parametrize(
    ("told", "etag"),
    [('"x"', '"x"'), ("x", '"x"'), ("&quot;x-2&quot;", '"x-2"'), ("", None), ("a b", None)],
)
def test_a_tag_is_written_as_get_writes_it(told, etag):
    assert read_keys(page(("a", 0, told)), "").objects[0].etag == etag


def test_a_date_is_in_whole_seconds_as_a_header_has_it():
    body = page(("a", 0, "x")).replace(DATE.encode(), b"2023-11-14T22:13:20.987Z")
    assert read_keys(body, "").objects[0].mtime == MTIME


@pytest.mark.parametrize("storage", ["GLACIER", "DEEP_ARCHIVE"])
def test_what_may_have_to_be_restored_first_is_marked(storage):
    marked = f"<Size>0</Size><StorageClass>{storage}</StorageClass>".encode()
    assert read_keys(page(("a", 0, "x")).replace(b"<Size>0</Size>", marked), "").objects[0].archived


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_key_is_read_as_it_is(key):
    assert read_keys(page((key, 0, "x")), "").objects[0].key == key


def test_keys_that_are_not_encoded_are_read_as_they_stand():
    assert read_keys(page(("a+b%20", 0, "x"), encoded=False), "").objects[0].key == "a+b%20"


def test_a_page_goes_on_only_where_it_says_so():
    assert read_keys(page(("a", 0, "x"), token="1+/="), "").token == "1+/="
    assert read_keys(page(), "") == Page((), (), None)


WRONG = {
    "another root": b"<Error><Code>AccessDenied</Code></Error>",
    "a page of HTML": b"<html><body>log in</body></html>",
    "nothing": b"",
    "JSON": b"[]",
    "a document type": page().replace(b"?>", b"?><!DOCTYPE a [<!ENTITY b 'c'>]>"),
    "a document type in UTF-16": (
        "<?xml version='1.0' encoding='UTF-16'?><!DOCTYPE a [<!ENTITY b 'c'>]><ListBucketResult/>"
    ).encode("utf-16"),
    "an untold end": page().replace(b"<IsTruncated>false</IsTruncated>", b""),
    "no token": page().replace(b">false<", b">true<"),
    "no size": page(("a", 0, "x")).replace(b"<Size>0</Size>", b""),
    "a size that is none": page(("a", 0, "x")).replace(b"<Size>0<", b"<Size>-1<"),
    "a date that is none": page(("a", 0, "x")).replace(DATE.encode(), b"yesterday"),
    "no key": page(("a", 0, "x")).replace(b"<Key>a</Key>", b""),
    "a prefix without a slash": page(prefixes=["d"]),
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_what_is_no_whole_page_is_an_error(body):
    with pytest.raises(BadListing):
        read_keys(body, "")


def test_a_page_that_is_cut_off_anywhere_is_an_error():
    body = page(("d/a", 3, '"x"'), ("d/b", 3, '"x"'), prefixes=["d/e/"])
    for stop in range(len(body)):
        with pytest.raises(BadListing):
            read_keys(body[:stop], "d/")


@pytest.mark.parametrize("other", ["secret", "pre2/x", "pr", "/pre/x", "Pre/x"])
def test_a_key_outside_the_prefix_is_an_error(other):
    for body in (page((other, 0, "x")), page(prefixes=[other + "/"])):
        with pytest.raises(BadListing, match="not below it") as told:
            read_keys(body, "pre/")
        assert "secret" not in str(told.value)
