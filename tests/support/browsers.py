"""Real browsers without a screen, and what a person does with them and sees of them.

Chromium is driven by Selenium, Firefox by Mozilla's Marionette. Both reach loopback only, and have
a profile of their own that is thrown away.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.servers import PATIENCE, listens, wait_until

SHIFT, SPACE, TAB, ENTER, DOWN = "\ue008", " ", "\ue004", "\ue007", "\ue015"

MODULES = {"chromium": "selenium", "firefox": "marionette_driver"}
PROGRAMS = {"chromium": ("chromium", "chromedriver"), "firefox": ("firefox-esr",)}


@dataclass(frozen=True)
class Download:
    """What a browser's list of downloads says of one.

    ``number`` counts all of a browser's. ``state`` is ``running``, ``paused``, ``broken`` or
    ``complete``; ``reason`` is the browser's own word for what broke it.
    """

    number: int
    path: Path
    state: str
    reason: str = ""


class Browser(ABC):
    """A browser with one page. Elements are found by CSS selectors."""

    name: str

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver = driver
        self.directory = downloads
        """Where downloads are saved."""
        self._earlier = 0

    @abstractmethod
    def open(self, url: str) -> None:
        """Go to a URL, and wait for the page."""

    @abstractmethod
    def back(self) -> None:
        """Press the back button."""

    @abstractmethod
    def address(self) -> str:
        """Return the URL of the page."""

    @abstractmethod
    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, whether or not the page itself may run any."""

    @abstractmethod
    def wait_for(self, script: str, *arguments: Any) -> Any:
        """Run a script that calls its last argument with what is then returned."""

    @abstractmethod
    def let_scripts_run(self, allowed: bool) -> None:
        """Say whether pages may run scripts of their own."""

    @abstractmethod
    def resize(self, width: int, height: int) -> None:
        """Give the page so many pixels."""

    @abstractmethod
    def prefer(self, scheme: str) -> None:
        """Prefer ``dark`` or ``light``, as the system's setting does."""

    @abstractmethod
    def screenshot(self) -> bytes:
        """Return what is shown, as PNG."""

    @abstractmethod
    def shift_click(self, css: str) -> None:
        """Click with the shift key held."""

    @abstractmethod
    def press(self, key: str) -> None:
        """Press a key, wherever the focus is."""

    @abstractmethod
    def newest(self) -> Download | None:
        """Return the newest download, if there is any."""

    @abstractmethod
    def pause(self) -> None:
        """Pause the newest download."""

    @abstractmethod
    def resume(self) -> None:
        """Resume the newest download, paused or broken."""

    def find(self, css: str) -> Any:
        return self.driver.find_element("css selector", css)

    def find_all(self, css: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", css))

    def click(self, css: str) -> None:
        self.find(css).click()

    def choose(self, css: str) -> None:
        """Choose an option of a list."""
        self.find(css).click()

    def type(self, css: str, text: str) -> None:
        self.find(css).send_keys(text)

    def text(self, css: str = "body") -> str:
        return str(self.find(css).text)

    def waits(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition. A page that is being replaced has not met it yet."""

        def met() -> bool:
            try:
                return bool(condition())
            except Exception as error:
                if type(error).__name__ not in _PASSING:
                    raise
                return False

        wait_until(met, what)

    def begin(self) -> None:
        """Take all downloads there are for earlier ones, which no one asks about again."""
        self._earlier = newest.number if (newest := self.newest()) else 0
        self.let_scripts_run(True)
        self.resize(1000, 800)
        self.prefer("light")

    def newest_since(self) -> Download | None:
        """Return the newest download since the beginning, if there is any."""
        newest = self.newest()
        return newest if newest and newest.number > self._earlier else None

    def saved(self) -> Path:
        """Wait for the newest download to be complete, and return the file."""
        return self.has_download("complete").path

    def insist(self, is_enough: Callable[[], bool] = lambda: False, presses: int = 3) -> Download:
        """Press resume whenever the newest download is broken, some times at the most.

        Return it once it is complete or broken for good, or once ``is_enough``.
        """
        for _ in range(presses):
            if self.has_download("complete", "broken", enough=is_enough).state != "broken":
                break
            self.resume()
        return self.has_download("complete", "broken", enough=is_enough)

    def has_download(self, *states: str, enough: Callable[[], bool] = lambda: False) -> Download:
        """Wait until the newest download is in one of these states, or until ``enough``."""
        seen: list[Download | None] = [None]

        def found() -> bool:
            seen[0] = newest = self.newest_since()
            return newest is not None and (newest.state in states or enough())

        try:
            wait_until(found, f"a download that is {' or '.join(states)}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen[0]}") from error
        return seen[0]


_PASSING = {
    *("NoSuchElementException", "StaleElementReferenceException", "StaleElementException"),
    "DetachedShadowRootException",
}

# --- Chromium -----------------------------------------------------------------------------------

_CHROMIUM_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

# The page that people see has no other interface. Its list is made when it is loaded; the newest
# download comes first.
_NEWEST = (
    "const item = document.querySelector('downloads-manager')?.shadowRoot"
    "?.querySelector('downloads-item');"
)
_SAID = _NEWEST + (
    "return item && item.data && "
    "[Number(item.data.id), item.data.filePath, item.data.state, item.data.lastReasonText]"
)
_PAUSE_OR_RESUME = _NEWEST + "item.shadowRoot.querySelector('#pause-or-resume').click()"
_STATES = {0: "running", 1: "cancelled", 2: "complete", 3: "paused", 5: "broken"}


class Chromium(Browser):
    """Chromium, whose list of downloads is the page ``chrome://downloads`` in a second tab."""

    name = "chromium"

    def __init__(self, driver: Any, downloads: Path) -> None:
        super().__init__(driver, downloads)
        self._page = driver.current_window_handle
        driver.switch_to.new_window("tab")
        self._list = driver.current_window_handle
        driver.switch_to.window(self._page)

    def open(self, url: str) -> None:
        self.driver.get(url)

    def back(self) -> None:
        self.driver.back()

    def address(self) -> str:
        return str(self.driver.current_url)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_async_script(script, *arguments)

    def let_scripts_run(self, allowed: bool) -> None:
        self.command("Emulation.setScriptExecutionDisabled", value=not allowed)

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, scheme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", features=[feature])

    def command(self, name: str, **arguments: Any) -> Any:
        """Send a command of Chromium's DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def screenshot(self) -> bytes:
        return bytes(self.driver.get_screenshot_as_png())

    def shift_click(self, css: str) -> None:
        from selenium.webdriver import ActionChains  # noqa: PLC0415

        chain = ActionChains(self.driver).key_down(SHIFT).click(self.find(css)).key_up(SHIFT)
        chain.perform()

    def press(self, key: str) -> None:
        from selenium.webdriver import ActionChains  # noqa: PLC0415

        ActionChains(self.driver).send_keys(key).perform()

    def newest(self) -> Download | None:
        with self._in_list():
            said = self.driver.execute_script(_SAID)
        if not said:
            return None
        number, path, state, reason = said
        return Download(number, Path(path), _STATES.get(state, str(state)), reason)

    def pause(self) -> None:
        with self._in_list():
            self.driver.execute_script(_PAUSE_OR_RESUME)

    resume = pause

    @contextmanager
    def _in_list(self) -> Iterator[None]:
        self.driver.switch_to.window(self._list)
        self.driver.get("chrome://downloads")
        try:
            yield
        finally:
            self.driver.switch_to.window(self._page)


@contextmanager
def chromium() -> Iterator[Chromium]:
    """Run Chromium."""
    from selenium import webdriver  # noqa: PLC0415 - not every machine has it

    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as place:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in (*_CHROMIUM_FLAGS, f"--user-data-dir={place}/profile"):
            options.add_argument(flag)
        downloads = Path(place, "downloads")
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield Chromium(driver, downloads)
        finally:
            driver.quit()


# --- Firefox ------------------------------------------------------------------------------------

# A proxy that is not there keeps it from everything but loopback, which is never asked by proxy.
_FIREFOX_SETTINGS: Mapping[str, object] = {
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "app.update.disabledForTesting": True,
    "browser.download.folderList": 2,
    "browser.download.alwaysOpenPanel": False,
    "browser.download.always_ask_before_handling_new_types": False,
}

_OF_DOWNLOADS = """
const [what, resolve] = arguments;
const {Downloads} = ChromeUtils.importESModule("resource://gre/modules/Downloads.sys.mjs");
(async () => {
  const all = await (await Downloads.getList(Downloads.ALL)).getAll();
  if (what == "pause") await all.at(-1).cancel();
  if (what == "resume") all.at(-1).start().catch(() => null);
  const one = all.at(-1);
  return one && [all.length, one.target.path,
    one.succeeded ? "complete" : one.error ? "broken" : one.stopped ? "paused" : "running",
    one.error ? one.error.message : ""];
})().then(resolve);
"""


class Firefox(Browser):
    """Firefox, whose list of downloads is asked for by its own interface."""

    name = "firefox"

    def open(self, url: str) -> None:
        self.driver.navigate(url)

    def back(self) -> None:
        self.driver.go_back()

    def address(self) -> str:
        return str(self.driver.get_url())

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, list(arguments), sandbox=None)

    def wait_for(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_async_script(script, list(arguments), sandbox=None)

    def let_scripts_run(self, allowed: bool) -> None:
        self.driver.set_pref("javascript.enabled", allowed)

    def resize(self, width: int, height: int) -> None:
        self.driver.set_window_rect(width=width, height=height)

    def prefer(self, scheme: str) -> None:
        number = {"dark": 0, "light": 1}[scheme]
        self.driver.set_pref("layout.css.prefers-color-scheme.content-override", number)

    def screenshot(self) -> bytes:
        return base64.b64decode(self.driver.screenshot(full=False))

    def click(self, css: str) -> None:
        # Marionette's own click waits seconds for a page where a download begins.
        element = self.find(css)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'nearest'})", [element])
        mouse = self.driver.actions.sequence("pointer", "mouse", {"pointerType": "mouse"})
        mouse.click(element).perform()

    def shift_click(self, css: str) -> None:
        self.driver.actions.sequence("key", "keyboard").key_down(SHIFT).perform()
        self.click(css)
        self.driver.actions.sequence("key", "keyboard").key_up(SHIFT).perform()

    def press(self, key: str) -> None:
        self.driver.actions.sequence("key", "keyboard").key_down(key).key_up(key).perform()

    def newest(self) -> Download | None:
        said = self._ask("")
        return Download(said[0], Path(said[1]), *said[2:]) if said else None

    def pause(self) -> None:
        self._ask("pause")

    def resume(self) -> None:
        self._ask("resume")

    def _ask(self, what: str) -> Any:
        from marionette_driver.errors import UnexpectedAlertOpen  # noqa: PLC0415

        with self.driver.using_context("chrome"):
            ask = partial(self.driver.execute_async_script, _OF_DOWNLOADS, [what], sandbox="system")
            try:
                return ask()
            except UnexpectedAlertOpen:  # it told that a download broke, and is dismissed by now
                return ask()


@contextmanager
def firefox() -> Iterator[Firefox]:
    """Run Firefox."""
    from marionette_driver.marionette import Marionette  # noqa: PLC0415

    with (
        tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as place,
        socket.create_server(("127.0.0.1", 0)) as reserved,
    ):
        port = reserved.getsockname()[1]
        downloads = Path(place, "downloads")
        downloads.mkdir()
        settings = {**_FIREFOX_SETTINGS, "marionette.port": port}
        settings["browser.download.dir"] = str(downloads)
        lines = (f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in settings.items())
        Path(place, "user.js").write_text("".join(lines))
        reserved.close()
        flags = ("--marionette", "--headless", "--no-remote", "--remote-allow-system-access")
        process = subprocess.Popen(
            ["firefox-esr", *flags, "--profile", place],
            env=os.environ | {"HOME": place},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: listens(port), "Firefox")
            driver = Marionette(host="127.0.0.1", port=port)
            driver.start_session()
            yield Firefox(driver, downloads)
        finally:
            process.terminate()
            process.wait(PATIENCE)


BROWSERS = {"chromium": chromium, "firefox": firefox}
