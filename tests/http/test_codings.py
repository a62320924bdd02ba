"""Which codings are the file's own, and which are an encoding of it."""

import pytest

from tar_gateway.http.codings import coding_beyond


@pytest.mark.parametrize(
    ("name", "coding"),
    [
        ("a/app.log.gz", "gzip"),
        ("pkg.TGZ", "x-gzip"),
        ("drawing.svgz", "GZIP"),
        ("x.tar.bz2", "bzip2"),
        ("x.tbz", "x-bzip2"),
        ("x.tar.xz", "xz"),
        ("x.js.br", "br"),
        ("x.tar.zst", "zstd"),
        ("old.Z", "compress"),
        ("old.tar.Z", "x-compress"),
        ("x.lz4", "lz4"),
        ("x.gz.br", "gzip, br"),
        ("x.gz", "aws-chunked, gzip"),
    ],
)
def test_a_coding_that_the_name_states_is_the_file(name, coding):
    assert coding_beyond(name, [coding]) is None


@pytest.mark.parametrize(
    "word",
    [
        "",
        "None",
        "none",
        "identity",
        "utf-8",
        "ISO-8859-1",
        "binary",
        "8bit",
        "aws-chunked",
        "null",
    ],
)
def test_a_word_that_is_no_coding_counts_as_identity(word):
    assert coding_beyond("report.pdf", [word]) is None


@pytest.mark.parametrize(
    ("name", "values", "beyond"),
    [
        ("app.js", ["gzip"], "gzip"),
        ("app.js", ["x-gzip"], "gzip"),
        ("app.js", ["BR"], "br"),
        ("app.js", ["deflate"], "deflate"),
        ("app.js", ["zstd"], "zstd"),
        ("app.js", ["none, gzip"], "gzip"),
        ("app.js", ["identity", "gzip"], "gzip"),
        ("app.gz.js", ["gzip"], "gzip"),
        ("gz", ["gzip"], "gzip"),
        ("app.log.gz", ["br"], "br"),
        ("app.log.gz", ["gzip, gzip"], "gzip"),  # compressed once more on its way
        ("app.log.gz", ["gzip", "gzip"], "gzip"),
        ("app.log.gz", ["gzip, br"], "br"),
        ("x.gz.br", ["br, gzip"], "gzip"),  # in the other order
    ],
)
def test_any_other_coding_is_beyond_the_name(name, values, beyond):
    assert coding_beyond(name, values) == beyond
