"""How each kind of LISTINGS asks, and which answers it reads."""

from typing import get_args

import pytest

from tar_gateway.settings.types import Listings
from tar_gateway.sources.listing.found import BadListing
from tar_gateway.sources.listing.kinds import KINDS

PAGE = b"<html><title>Index of /d/</title><a href=a>a</a></html>"


def test_every_kind_that_a_setting_may_name_is_there():
    assert {*KINDS, "s3", "no"} == set(get_args(Listings))


def test_without_being_told_only_the_question_is_asked_that_a_client_could_ask():
    kind = KINDS["auto"]
    assert (kind.method, kind.query, kind.any_page) == ("GET", "", False)
    assert dict(kind.headers) == {"Accept": "application/json, text/html;q=0.5"}


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"webdav"}))
def test_each_kind_reads_the_pages_of_known_servers(name):
    assert [each.name for each in KINDS[name].read(PAGE, "text/html", "/d/")] == ["a"]


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"webdav", "html"}))
def test_any_other_page_is_a_listing_only_where_that_is_said(name):
    page = PAGE.replace(b"Index of", b"Welcome to")
    with pytest.raises(BadListing):
        KINDS[name].read(page, "text/html", "/d/")
    assert KINDS["html"].read(page, "text/html", "/d/")


def test_webdav_asks_for_one_level_and_takes_nothing_but_a_multistatus():
    kind = KINDS["webdav"]
    assert (kind.method, dict(kind.headers)["Depth"], kind.status) == ("PROPFIND", "1", 207)
    with pytest.raises(BadListing):
        kind.read(PAGE, "text/html", "/d/")


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/octet-stream"])
def test_a_response_of_another_type_is_no_listing(media_type):
    with pytest.raises(BadListing):
        KINDS["html"].read(PAGE, media_type, "/d/")
