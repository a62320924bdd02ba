"""What all pages for people look like: one document, its style inline and allowed by its hash."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Self

from tar_gateway.errors import SettingsError
from tar_gateway.http.headers import page_policy
from tar_gateway.settings import Settings
from tar_gateway.web.browse import texts

_DOCUMENT = """<!DOCTYPE html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _packaged(name: str) -> str:
    return files("tar_gateway.web.browse").joinpath(name).read_text("utf-8")


SCRIPT = "".join(map(_packaged, ("tools.js", "sizes.js", "page.js")))
_STYLE, _STYLE_OF_TABLE = _packaged("base.css"), _packaged("page.css")


@dataclass(frozen=True, slots=True)
class Look:
    """What an operator chooses: the pages' title, and a style behind ours."""

    title: str = texts.TITLE
    style: str = ""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read the file of the style. Raise `SettingsError`."""
        style, file = "", settings.browse_style
        if file is not None:
            try:
                style = file.read_text("utf-8")
            except OSError as error:
                raise SettingsError(f"{file}: {error.strerror}") from error
            except UnicodeDecodeError as error:
                raise SettingsError(f"{file}: it is not valid UTF-8") from error
            if "</" in style:
                raise SettingsError(f"{file}: '</' would end the page's style")
        return cls(settings.browse_title or texts.TITLE, style)

    def document(self, title: str, body: str, *, picks: bool = False) -> bytes:
        """Return a page, whose ``body`` is HTML; one that ``picks`` has a table and the script."""
        if picks:
            body += f"\n<script>{SCRIPT}</script>"
        page = _DOCUMENT.format(
            lang=texts.LANGUAGE, title=escape(title), style=self._style(picks=picks), body=body
        )
        return page.encode("utf-8")

    def policy(self, *, picks: bool = False) -> Sequence[tuple[str, str]]:
        """Return the headers that let a browser show such a page and do nothing else."""
        return page_policy(self._style(picks=picks), SCRIPT if picks else None)

    def _style(self, *, picks: bool) -> str:
        return _STYLE + (_STYLE_OF_TABLE if picks else "") + self.style


PLAIN = Look()
"""Where nothing is chosen."""
