"""The file of keys: what stands in it, and what is said, and not said, of one that is wrong."""

import traceback
from pathlib import Path

import pytest

from tar_gateway import Gateway, Settings, SettingsError, Upstream
from tar_gateway.settings.line_files import SigningKey, read_keys, read_service_headers

SECRET = "hunter2-hunter2-hunter2"
OTHER = "swordfish:sword fish#"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.mark.parametrize(
    "text",
    [
        f"k1:{SECRET}\nk2:{OTHER}",
        f"k1:{SECRET}\nk2:{OTHER}\n",
        f"k1:{SECRET}\r\nk2:{OTHER}\r\n",
        f"# the new one\n\n  k1 : {SECRET}\t\n # k1:{OTHER}\n \nk2:{OTHER} \n#",
    ],
)
def test_a_line_is_a_key_unless_it_is_empty_or_a_comment(file, text):
    file.write_bytes(text.encode())
    assert read_keys(file) == (
        SigningKey("k1", SECRET.encode()),
        SigningKey("k2", OTHER.encode()),
    )


def test_an_id_is_whatever_a_url_never_escapes(file):
    file.write_text(f"2026-11.a_B~:{SECRET}")
    assert read_keys(file)[0].id == "2026-11.a_B~"


def test_a_secret_of_16_bytes_is_long_enough(file):
    file.write_text("k1:" + "x" * 16)
    assert read_keys(file)[0].secret == b"x" * 16


WRONG = {
    "no key": ("", "it holds no key"),
    "comments only": (f"# k1:{SECRET}\n\n", "it holds no key"),
    "no colon": (f"k1:{SECRET}\n{SECRET}", "line 2 is not 'id:secret'"),
    "no id": (f"\n:{SECRET}", "line 2: a key's id is"),
    "an id with a space": (f"k 1:{SECRET}", "line 1: a key's id is"),
    "an id with an ampersand": (f"k&1:{SECRET}", "line 1: a key's id is"),
    "an id in other letters": (f"ü:{SECRET}", "line 1: a key's id is"),
    "an id after a byte order mark": (f"\ufeffk1:{SECRET}", "line 1: a key's id is"),
    "no secret": (f"k1:{SECRET}\nk2:", "line 2: a key's secret has at least 16 bytes"),
    "a short secret": ("#\n\nk1:hunter2-hunter2", "line 3: a key's secret has at least 16 bytes"),
    "spaces for a secret": (f"k1:{' ' * 20}", "line 1: a key's secret has at least 16 bytes"),
    "a secret in other letters": (f"k1:ü{SECRET}", "line 1: a key's secret is printable ASCII"),
    "a secret with a NUL": (f"k1:{SECRET}\0{SECRET}", "line 1: a key's secret is printable"),
    "an id twice": (f"k1:{SECRET}\n\nk1:{OTHER}", "line 3 gives an id for the second time"),
    "a key twice": (f"k1:{SECRET}\nk1:{SECRET}", "line 2 gives an id for the second time"),
}


@pytest.mark.parametrize(("text", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_stops_the_start_with_its_line_and_without_its_text(file, text, reason):
    file.write_bytes(text.encode())
    environ = {
        "TAR_GATEWAY_UPSTREAM": "http://files.internal/",
        "TAR_GATEWAY_SIGNING_KEYS_FILE": str(file),
    }
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(environ)
    told = f"TAR_GATEWAY_SIGNING_KEYS_FILE is '{file}': {reason}"
    assert str(refused.value).startswith(told)
    shown = "".join(traceback.format_exception(refused.value))
    for secret in ("hunter2", "sword", "k1"):
        assert secret not in shown.replace(str(file), "")


def test_a_wrong_file_is_refused_in_a_program_too(file):
    file.write_text(f"k1:{SECRET}\nhunter2")
    with pytest.raises(SettingsError, match="line 2 is not 'id:secret'") as refused:
        Settings(signing_keys_file=file)
    assert "hunter2" not in str(refused.value)


def test_a_file_that_has_become_wrong_is_an_error_of_the_settings(file):
    file.write_text(f"k1:{SECRET}")
    settings = Settings(signing_keys_file=file)
    file.unlink()
    with pytest.raises(SettingsError, match="it can't be read: No such file or directory"):
        Gateway(Upstream("http://files.internal/", settings), settings)


def test_a_secret_does_not_show(file):
    file.write_text(f"k1:{SECRET}")
    settings = Settings(signing_keys_file=file)
    assert "k1" in repr(read_keys(file))
    assert "hunter2" not in repr((read_keys(file), settings))


def written(place: Path, text: str) -> Path:
    file = place / "headers"
    file.write_bytes(text.encode())
    return file


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("", ()),
        ("\n# a comment\n  \n", ()),
        ("X-Key: 1", (("X-Key", "1"),)),
        ("X-Key:1\r\nX-Other:  2 : 3 \r\n", (("X-Key", "1"), ("X-Other", "2 : 3"))),
        (" \tAuthorization: Bearer a#b", (("Authorization", "Bearer a#b"),)),
    ],
)
def test_a_file_holds_a_header_a_line(tmp_path, text, headers):
    assert read_service_headers(written(tmp_path, text)) == headers


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="it can't be read: Is a directory"):
        read_service_headers(tmp_path)
