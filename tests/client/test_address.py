"""URLs: read once, sent as they were typed."""

import pytest

from tar_gateway.client.address import Address
from tar_gateway.client.failures import WrongUse


def target(url: str) -> str:
    return Address.of(url)[0].target


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://h", "/"),
        ("http://h?", "/?"),
        ("http://h/a%2fb/%7E?x=%c3%bc&signature=%2b%3D", "/a%2fb/%7E?x=%c3%bc&signature=%2b%3D"),
        ("http://h/d/../e/./f", "/d/../e/./f"),
        ("http://h/a b/ü?q=ö c#part", "/a%20b/%C3%BC?q=%C3%B6%20c"),
        ("http://h/?bundle=a,b;c&d=*'()", "/?bundle=a,b;c&d=*'()"),
    ],
)
def test_a_target_is_what_was_typed(url, sent):
    assert target(url) == sent


@pytest.mark.parametrize("url", ["", "h/a", "ftp://h/", "http://", "http://h:x/", "file:///etc"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(WrongUse, match="is not a URL"):
        Address.of(url)


def test_a_login_in_the_url_is_no_part_of_the_address():
    address, login = Address.of("https://me:p%40ss@h:444/x")
    assert (str(address), login) == ("https://h:444/x", "me:p@ss")


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("?a=b", "http://h:8/d/e?a=b"),
        ("/x?y", "http://h:8/x?y"),
        ("//g/x", "http://g/x"),
        ("f", "http://h:8/d/f"),
        ("../f?%2f", "http://h:8/f?%2f"),
        ("https://g:1/%2f", "https://g:1/%2f"),
    ],
)
def test_a_reference_leads_where_rfc_3986_says(reference, url):
    assert str(Address.of("http://h:8/d/e?q")[0].following(reference)) == url


def test_the_digest_is_the_same_for_a_new_signature():
    one, other = (Address.of(f"http://h/d/?bundle=a&expires={n}&signature={n}")[0] for n in "ab")
    assert one.digest() == other.digest() == Address.of("http://h/d/?bundle=a")[0].digest()


@pytest.mark.parametrize("url", ["http://g/d/?bundle=a", "http://h/e/?bundle=a", "http://h/d/"])
def test_the_digest_is_another_for_anything_else(url):
    assert Address.of(url)[0].digest() != Address.of("http://h/d/?bundle=a")[0].digest()


@pytest.mark.parametrize(
    ("url", "name"),
    [("http://h/a/b.tar", "b.tar"), ("http://h/%2e%2e%2fx", None), ("http://h/.x", None)],
)
def test_a_file_is_called_as_the_last_segment_unless_that_is_no_visible_name(url, name):
    assert Address.of(url)[0].file_name() == name
