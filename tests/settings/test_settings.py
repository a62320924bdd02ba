"""Settings from the environment: what is understood, and the one line for what is not."""

import os
import traceback
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from tar_gateway.errors import SettingsError
from tar_gateway.http.paths import shown
from tar_gateway.settings import PREFIX, Settings

UPSTREAM = {PREFIX + "UPSTREAM": "http://files.internal/"}


def from_environment(**given):
    named = {PREFIX + name: text for name, text in given.items()}
    return Settings.from_environment({**UPSTREAM, **named})


def refusal(**given):
    """Give the line with which an environment is refused."""
    with pytest.raises(SettingsError) as refused:
        from_environment(**given)
    line = str(refused.value)
    assert len(line.splitlines()) == 1
    return line


def test_all_but_the_upstream_have_a_default():
    assert from_environment() == Settings(upstream="http://files.internal/")


@pytest.mark.parametrize("environ", [{}, {PREFIX + "UPSTREAM": ""}, {"UPSTREAM": "http://h/"}])
def test_an_upstream_is_needed(environ):
    with pytest.raises(SettingsError, match=r"^TAR_GATEWAY_UPSTREAM is not set"):
        Settings.from_environment(environ)


def test_a_file_of_locations_will_do_in_place_of_an_upstream(tmp_path):
    file = tmp_path / "locations.toml"
    file.touch()
    settings = Settings.from_environment({PREFIX + "LOCATIONS_FILE": str(file)})
    assert (settings.upstream, settings.locations_file) == (None, file)


def test_an_upstream_beside_a_file_of_locations_is_refused(tmp_path):
    file = tmp_path / "locations.toml"
    file.touch()
    line = refusal(LOCATIONS_FILE=str(file))
    assert line.startswith("TAR_GATEWAY_UPSTREAM and TAR_GATEWAY_LOCATIONS_FILE are both set")


def test_elsewhere_no_upstream_is_needed():
    assert Settings().upstream is None


def test_other_variables_are_not_looked_at():
    environ = {**UPSTREAM, "TAR_GATEWAYX": "1", "PATH": "/bin", "MAX_MEMBERS": "x"}
    assert Settings.from_environment(environ) == from_environment()


def test_an_empty_variable_counts_as_unset():
    assert from_environment(MAX_MEMBERS="", PASS_THROUGH="", NO_SETTING="") == from_environment()


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError):
        from_environment().max_members = 1


# --- each kind of value -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://files.internal", "http://files.internal/"),
        ("http://files.internal/", "http://files.internal/"),
        ("http://files.internal:8080/base", "http://files.internal:8080/base/"),
        ("https://files.internal/a/b/", "https://files.internal/a/b/"),
        ("http://127.0.0.1:80//", "http://127.0.0.1:80/"),
        ("http://[::1]:8080/base", "http://[::1]:8080/base/"),
        ("HTTP://Files/Base", "http://Files/Base/"),
    ],
)
def test_an_upstream_ends_in_one_slash(text, url):
    assert from_environment(UPSTREAM=text).upstream == url


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("*", ("*",)),
        ("https://app.example.com", ("https://app.example.com",)),
        ("HTTPS://App.Example.com:443", ("https://app.example.com",)),
        (
            "http://localhost:80,http://localhost:5173",
            ("http://localhost", "http://localhost:5173"),
        ),
        ("https://a.example:80", ("https://a.example:80",)),
        ("http://[::1]:8000", ("http://[::1]:8000",)),
        ("capacitor://localhost", ("capacitor://localhost",)),
        ("moz-extension://6f1c", ("moz-extension://6f1c",)),
    ],
)
def test_an_origin_is_as_browsers_send_it(text, origins):
    assert from_environment(CORS_ORIGINS=text).cors_origins == origins


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("null", "null is the origin of anyone's sandboxed pages and local files"),
        ("https://a.example/", "'https://a.example/' is not an origin such as https://"),
        ("https://a.example/app", "without a path"),
        ("https://*.example.com", "without wildcards"),
        ("a.example", "is not an origin"),
        ("https://", "is not an origin"),
        ("https://ä.example", "is not an origin"),
        ("https://a.example:port", "is not an origin"),
        ("https://u@a.example", "is not an origin"),
        ("https://a.example b", "is not an origin"),
        ("*,https://a.example", "* stands for all origins, without credentials"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(text, reason):
    line = refusal(CORS_ORIGINS=text)
    assert line.startswith("TAR_GATEWAY_CORS_ORIGINS is ")
    assert reason in line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("files.internal", "it must be a URL such as"),
        ("//files.internal/", "it must be a URL such as"),
        ("ftp://files.internal/", "it must be a URL such as"),
        ("file:///etc", "it must be a URL such as"),
        ("http://", "it must be a URL such as"),
        ("http:///base", "it must be a URL such as"),
        ("http://a b/", "it must be a URL such as"),
        ("http://a,b/", "it must be a URL such as"),
        ("http://h/#a", "it must end with its path: no ? and no #"),
        ("http://h/#", "it must end with its path: no ? and no #"),
        ("http://h:port/", "Port could not be cast"),
        ("http://h:65536/", "Port out of range"),
        ("http://[::1/", "Invalid IPv6 URL"),
        ("http://h/../a", "its path contains the segment '..'"),
        ("http://:80/", "it must be a URL such as"),
        (f"http://{'h' * 64}/", "its host is invalid"),
        ("http://a..b/", "its host is invalid"),
        ("http://h:0/", "its port is invalid"),
        ("http://h:/", "its port is invalid"),
        ("http://h/a b/", "its path must be percent-encoded"),
        ("http://h/é", "its path must be percent-encoded"),
        ("http://h/a//b", "its path contains an empty segment"),
        ("http://h/a\\b", "its path contains a backslash"),
    ],
)
def test_an_upstream_that_is_no_plain_base_url_is_refused(text, reason):
    assert refusal(UPSTREAM=text).startswith(f"TAR_GATEWAY_UPSTREAM is '{text}': {reason}")


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2@files.internal/",
        "http://hunter2@files.internal/",
        "http://:hunter2@files.internal/",
        "http://user:hunter2@files.internal:port/",
        "http://user:hunter2@files.internal/?a#b",
        "http://user:hunt er2@files.internal/",
        "ftp://user:hunter2@files.internal/",
        "user:hunter2@files.internal",
        "http://files.internal/?token=hunter2",
        "http://user%3Ahunter2%40files.internal/",
        "http://files.internal/hunter2%2e/%2e%2e/",
    ],
)
def test_a_password_in_the_upstream_is_refused_and_never_shown(text):
    line = refusal(UPSTREAM=text)
    assert line.startswith("TAR_GATEWAY_UPSTREAM is wrong: it")
    assert "hunt" not in line
    assert "user:" not in line


def test_a_password_in_the_upstream_is_not_in_the_traceback_either():
    password = "hunter" + "2"  # a traceback quotes the line that raised
    upstream = f"http://user:{password}@files.internal/"
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"TAR_GATEWAY_UPSTREAM": upstream})
    assert password not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("1", 1),
        ("65536", 65536),
        ("64KiB", 65536),
        ("64kib", 65536),
        ("64 KiB", 65536),
        ("64kB", 64000),
        ("1.5MiB", 1572864),
        ("2GiB", 2147483648),
        ("1TiB", 1099511627776),
    ],
)
@pytest.mark.parametrize("name", ["MAX_BYTES", "MAX_BODY", "SPOOL_LIMIT"])
def test_a_size_is_in_bytes_or_says_its_unit(name, text, bytes_):
    assert getattr(from_environment(**{name: text}), name.lower()) == bytes_


@pytest.mark.parametrize(
    "name",
    [
        *("MAX_BODY", "SPOOL_LIMIT", "MIN_READ_RATE", "RETRIES"),
        *("RETRY_PAUSE", "RETRY_AFTER_LIMIT", "UPSTREAM_PAUSE"),
    ],
)
def test_some_numbers_may_be_nothing(name):
    assert getattr(from_environment(**{name: "0"}), name.lower()) == 0


@pytest.mark.parametrize("text", ["yes", "YES", "true", "True", "1"])
def test_a_switch_is_on(text):
    assert from_environment(PASS_THROUGH=text).pass_through is True


@pytest.mark.parametrize("text", ["no", "No", "false", "FALSE", "0"])
def test_a_switch_is_off(text):
    assert from_environment(PASS_THROUGH=text).pass_through is False


@pytest.mark.parametrize("name", ["CONNECT_TIMEOUT", "READ_TIMEOUT", "PLAN_TIMEOUT"])
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("0.25", 0.25),
        ("86400", 86400),
        ("30s", 30),
        ("1.5m", 90),
        ("2h", 7200),
        ("1d", 86400),
    ],
)
def test_a_duration_is_in_seconds(name, text, seconds):
    assert getattr(from_environment(**{name: text}), name.lower()) == seconds


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Authorization", ("Authorization",)),
        ("Authorization,X-User", ("Authorization", "X-User")),
        (" Authorization ,\tX-User , ", ("Authorization", "X-User")),
        (",", ()),
    ],
)
def test_a_list_is_separated_by_commas(text, names):
    assert from_environment(FORWARD_HEADERS=text).forward_headers == names


def test_a_list_may_be_a_list_elsewhere():
    assert Settings(forward_headers=["X-User"]).forward_headers == ("X-User",)


@pytest.mark.parametrize("text", ["tar", "my-bundle_2"])
def test_the_parameter_may_have_another_name(text):
    assert from_environment(PARAMETER=text).parameter == text


def test_a_file_is_given_by_its_path(tmp_path):
    path = tmp_path / "ca.pem"
    path.touch()
    assert from_environment(UPSTREAM_CA_FILE=str(path)).upstream_ca_file == path


# --- what is wrong ------------------------------------------------------------------------------

DURATIONS = [
    *("CONNECT_TIMEOUT", "READ_TIMEOUT", "WRITE_TIMEOUT", "PLAN_TIMEOUT"),
    *("CLIENT_HEADER_TIMEOUT", "CLIENT_BODY_TIMEOUT"),
]
PAUSES = ["KEEP_ALIVE", "PLAN_MEMORY", "RETRY_PAUSE", "RETRY_AFTER_LIMIT", "UPSTREAM_PAUSE"]
SIZES = ["MAX_BYTES", "MAX_BODY", "SPOOL_LIMIT", "MIN_READ_RATE", "REREAD_LIMIT"]
FILES = [f"UPSTREAM_{name}_FILE" for name in ("HEADERS", "CA", "CERT", "KEY")]
FILES += ["SIGNING_KEYS_FILE", "LOCATIONS_FILE", "BROWSE_STYLE"]

WRONG = [
    ("RETRY_FOR", "soon"),
    *(
        (name, text)
        for name in DURATIONS
        for text in ("0", "-1", "86401", "nan", "inf", "5 s", "5w", "2d", " ")
    ),
    *((name, text) for name in PAUSES for text in ("-1", "3601", "nan", "inf", "5x", "2h")),
    *((name, text) for name in SIZES for text in ("-1", "x", "5 parsecs", "KiB", "nan", "1e3")),
    *((name, os.devnull + "/none") for name in FILES),
    *(
        ("S3_ENDPOINT", text)
        for text in (
            "store",
            "ftp://a/",
            "http://a/b",
            "http://a?b",
            "http://{key}.a",
            "http://a:0",
        )
    ),
    *(("S3_REGION", text) for text in ("eu west", "eu/west", "é", ".")),
    *(("S3_PROFILE", text) for text in ("a b", "a\\b")),
    *(("S3_PUBLIC", text) for text in ("maybe", "2")),
    *(("RETRIES", text) for text in ("-1", "101", "1.5", "x", "yes")),
    *(("MAX_MEMBERS", text) for text in ("0", "-1", "1.5", "10k")),
    *(("CHECKSUM_MEMORY", text) for text in ("-1", "1.5", "many")),
    *(("MAX_NAME", text) for text in ("0", "-1", "long")),
    *(("LISTINGS", text) for text in ("yes", "dav")),
    ("LISTING_EXACT", "perhaps"),
    *(("MAX_DEPTH", text) for text in ("0", "1001", "deep")),
    *(("MAX_LISTING", text) for text in ("0", "-1", "long")),
    *(("MAX_LISTINGS", text) for text in ("0", "-1", "many")),
    *(("MAX_QUERY", text) for text in ("-1", "long")),
    *(("STRICT_NAMES", text) for text in ("maybe", "2")),
    *(("FETCH_PARALLEL", text) for text in ("0", "1025", "x")),
    *(("FETCH_AHEAD", text) for text in ("-1", "much")),
    *(("FETCH_AHEAD_TOTAL", text) for text in ("-1", "much")),
    *(("PASS_THROUGH", text) for text in ("maybe", "2", "-1", " ")),
    *(("FORWARD_HEADERS", text) for text in ("a b", "é", "X-A:", "X-A,Host", "a;b")),
    *(
        ("REDIRECT_HOSTS", text)
        for text in ("a b", "é", "http://a", "a/b", "u@a", "a:0", "a:", "a:x", "*.a", "a,:80", "[")
    ),
    *(
        ("AUTH_REQUEST", text)
        for text in ("auth", "ftp://a/", "http://a b/", "http://a/é", "http://a/#")
    ),
    *(("PARAMETER", text) for text in ("a b", "é", "a&b", "-", "a.b", "filename", "v", "manifest")),
    ("MAX_BYTES", "0"),
    *(("MAX_DOWNLOADS", text) for text in ("0", "-1", "many")),
    *(("MAX_DOWNLOADS_PER_CLIENT", text) for text in ("0", "-1", "many")),
    *(("QUESTIONS_PER_CLIENT", text) for text in ("0", "-1", "1.5", "many")),
    *(("TRUSTED_PROXIES", text) for text in ("proxy", "10.0.0.1/8", "10.0.0.0/33", "::g")),
    *(("CORS_ORIGINS", text) for text in ("null", "a.example", "*,https://a.example")),
    *(("ARCHIVE_FILES", text) for text in ("yes", "rar", "tar;zip", "tar,no")),
    *(("BROWSE", text) for text in ("maybe", "2")),
    ("BROWSE_TITLE", "x" * 101),
    *(("PAGES_PREFIX", text) for text in ("/", "-", "/-", "//", "/a b/", "/?/")),
    *(("PAGES_BIND", text) for text in ("9000", "host:", ":9000", "host:0", "host:65536", "a b:1")),
    *(("LOG_PAGES", text) for text in ("maybe", "2")),
    *(("PUBLIC_METRICS", text) for text in ("maybe", "2")),
]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_variable(name, text):
    start = f"{PREFIX}{name} is '{text}': "
    line = refusal(**{name: text})
    assert line.startswith(start)
    assert len(line) > len(start)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/none", "there is no such file"),
        ("/", "it is not a file"),
        (f"/{'x' * 300}", "it can't be read: File name too long"),
    ],
)
def test_of_a_file_that_cannot_be_it_is_said_why(name, text, reason):
    assert refusal(**{name: text}) == f"{PREFIX}{name} is {shown(text)}: {reason}"


def test_every_setting_is_tried_with_a_wrong_value():
    tried = {name.lower() for name, _ in WRONG}
    assert tried == {field.name for field in fields(Settings)} - {"upstream"}


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Range", "Accept-Encoding", "Connection", "TE", "Transfer-Encoding"],
)
def test_a_header_that_is_not_the_callers_cannot_be_forwarded(name):
    assert "it can't be passed" in refusal(FORWARD_HEADERS=f"Cookie,{name}")


@pytest.mark.parametrize("name", ["filename", "v", "manifest", "signature", "expires", "key_id"])
def test_a_parameter_with_another_meaning_cannot_ask_for_bundles(name):
    assert "has another meaning" in refusal(PARAMETER=name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("UPSTRAEM", "UPSTREAM"),
        ("MAX_MEMBER", "MAX_MEMBERS"),
        ("FORWARD_HEADER", "FORWARD_HEADERS"),
        ("READTIMEOUT", "READ_TIMEOUT"),
        ("PASSTHROUGH", "PASS_THROUGH"),
    ],
)
def test_an_unknown_name_is_refused_with_the_one_that_was_meant(name, meant):
    line = refusal(**{name: "1"})
    assert line == f"{PREFIX}{name} is not a setting; did you mean {PREFIX}{meant}?"


def test_an_unknown_name_like_no_other_is_refused_without_a_hint():
    line = refusal(**{"Q" * 60: "1"})
    assert line == f"{PREFIX}{'Q' * 60} is not a setting"


def test_the_value_of_an_unknown_name_is_not_shown():
    assert "hunter2" not in refusal(UPSTREAM_PASSWORD="hunter2")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"max_members": 0}, "max_members is '0': it must be greater than or equal to 1"),
        ({"upstream": "ftp://x/"}, "upstream is 'ftp://x/': it must be a URL such as http://"),
        ({"upstream": "http://user:hunter2@x/"}, "upstream is wrong: it must not hold a user"),
        ({"strict_names": "perhaps"}, "strict_names is 'perhaps': it must be yes or no"),
        ({"retries": "1.5"}, "retries is '1.5': it must be a whole number"),
        ({"max_body": "2MX"}, "max_body is '2MX': it must be a number of bytes, such as 65536"),
        ({"upstream": 5}, "upstream is '5': it must be a valid string"),
        ({"redirect_hosts": ["/"]}, "redirect_hosts is '['/']': '/' is not a host such as "),
        ({"max_member": 1}, "max_member is not a setting; did you mean max_members?"),
    ],
)
def test_keyword_arguments_are_checked_alike(wrong, line):
    with pytest.raises(SettingsError) as refused:
        Settings(**wrong)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_a_copy_with_a_wrong_value_is_refused_alike():
    with pytest.raises(SettingsError, match=r"^retries is 'x': "):
        replace(Settings(), retries="x")
