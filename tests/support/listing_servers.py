"""Servers that list directories, each run for real on a loopback port."""

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from waitress.server import create_server

from tar_gateway.cli.directory import Directory
from tar_gateway.cli.directory_server import files_app
from tests.support.servers import PATIENCE, free_port, listens, nginx, wait_until

APACHE = """
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {place}/pid
ErrorLog {place}/error.log
DefaultRuntimeDir {place}
{user}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule autoindex_module /usr/lib/apache2/modules/mod_autoindex.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule dav_module /usr/lib/apache2/modules/mod_dav.so
LoadModule dav_fs_module /usr/lib/apache2/modules/mod_dav_fs.so
DavLockDB {place}/locks
TypesConfig /dev/null
DocumentRoot {root}
<Directory {root}>
    Options Indexes FollowSymLinks
    {options}
    Require all granted
</Directory>
"""

LIGHTTPD = """
server.document-root = "{root}"
server.bind = "127.0.0.1"
server.port = {port}
server.modules = ("mod_dirlisting")
mimetype.assign = ("" => "application/octet-stream")
dir-listing.activate = "enable"
"""

CADDY = """
{{
    admin off
    auto_https off
    storage file_system {place}
}}
http://127.0.0.1:{port} {{
    root * {root}
    file_server browse
}}
"""

# What busybox calls for a directory. Its own program is built from httpd_indexcgi.c; this writes
# the same page.
INDEX_CGI = """#!{python}
import os, sys, urllib.parse
place = urllib.parse.unquote(os.environ["REQUEST_URI"].partition("?")[0])
os.chdir("..")
os.chdir("." + place)
rows = [("../", "")]
names = sorted(name for name in os.listdir(".") if name != "cgi-bin")
for name in sorted(names, key=lambda name: (not os.path.isdir(name), name)):
    rows.append((name + "/", "") if os.path.isdir(name) else (name, os.path.getsize(name)))
print("Content-Type: text/html\\r\\n\\r\\n<html><head><title>Index of " + os.environ["REQUEST_URI"])
print("</title></head><body><table><col class=nm><col class=sz><col class=dt>")
for name, size in rows:
    link = urllib.parse.quote(name, safe="/._-+@")
    print(f"<tr class=e><td class=nm><a href='{{link}}'>-</a><td class=sz>{{size}}<td class=dt>-")
files = sum(not name.endswith("/") for name, _ in rows)
directories = len(rows) - files - 1
counts = f"Files: {{files}}, directories: {{directories}}"
print(f"<tr class=foot><th class=cnt>{{counts}}<th class=sz>1<th class=dt>")
"""

Serve = Callable[[Path, Path], AbstractContextManager[str]]


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is run, by which value of LISTINGS it lists, and whether sizes are used."""

    serve: Serve
    needs: tuple[str, ...] = ()
    listings: str = "auto"
    exact: bool = False
    by_etag: bool = False


@contextmanager
def process(command: list[str], port: int, **options: object) -> Iterator[str]:
    """Run a server until it is no longer wanted."""
    running = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        wait_until(lambda: listens(port) or running.poll() is not None, command[0])
        assert running.poll() is None, command
        yield f"http://127.0.0.1:{port}/"
    finally:
        running.terminate()
        running.wait(PATIENCE)


def by_nginx(extra: str, top: str = "") -> Serve:
    return lambda root, place: nginx(root, place, extra, top)


def by_apache(options: str) -> Serve:
    @contextmanager
    def serve(root: Path, place: Path) -> Iterator[str]:
        port = free_port()
        place.mkdir()
        user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
        if os.geteuid() == 0:
            place.chmod(0o777)  # for its locks
        for parent in (root, place, *root.parents[:-1]):
            if os.stat(parent).st_uid == os.geteuid() and parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o055)
        conf = place / "httpd.conf"
        text = APACHE.format(port=port, place=place, root=root, options=options, user=user)
        conf.write_text(text)
        with process(["apache2", "-f", str(conf), "-DFOREGROUND"], port) as url:
            yield url

    return serve


def by_file(template: str, command: list[str]) -> Serve:
    """Return what runs a server of one file of configuration, whose path ends the command."""

    @contextmanager
    def serve(root: Path, place: Path) -> Iterator[str]:
        port = free_port()
        place.mkdir()
        conf = place / "conf"
        conf.write_text(template.format(root=root, place=place, port=port))
        with process([*command, str(conf)], port) as url:
            yield url

    return serve


def by_command(*command: str) -> Serve:
    """Return what runs a command, with ``{root}`` and ``{port}`` in it."""

    @contextmanager
    def serve(root: Path, _place: Path) -> Iterator[str]:
        port = free_port()
        with process([part.format(root=root, port=port) for part in command], port) as url:
            yield url

    return serve


@contextmanager
def by_busybox(root: Path, place: Path) -> Iterator[str]:
    port = free_port()
    script = root / "cgi-bin/index.cgi"
    script.parent.mkdir()
    script.write_text(INDEX_CGI.format(python=sys.executable))
    script.chmod(0o755)
    try:
        command = ["busybox", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", str(root)]
        with process(command, port) as url:
            yield url
    finally:
        script.unlink()
        script.parent.rmdir()


@contextmanager
def by_python(root: Path, _place: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Stay silent."""

    handler = functools.partial(Quiet, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def by_ourselves(root: Path, _place: Path) -> Iterator[str]:
    server = create_server(files_app(Directory(root), ""), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}/"
    finally:
        server.close()
        thread.join(PATIENCE)


DAV_MODULE = "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so"
WSGIDAV = (
    "wsgidav.server.server_cli",
    "--host",
    "127.0.0.1",
    "--port",
    "{port}",
    "--root",
    "{root}",
)

SERVERS: Mapping[str, Server] = {
    "nginx (JSON)": Server(
        by_nginx("autoindex on; autoindex_format json;"), ("nginx",), exact=True
    ),
    "nginx (XML)": Server(by_nginx("autoindex on; autoindex_format xml;"), ("nginx",), exact=True),
    "nginx (HTML)": Server(by_nginx("autoindex on;"), ("nginx",)),
    "nginx (WebDAV)": Server(
        by_nginx("dav_ext_methods PROPFIND OPTIONS;", f"load_module {DAV_MODULE};"),
        ("nginx", DAV_MODULE),
        "webdav",
        exact=True,
    ),
    "Apache (mod_autoindex)": Server(
        by_apache("IndexOptions FancyIndexing HTMLTable"), ("apache2",)
    ),
    "Apache (`?F=0`)": Server(by_apache("IndexOptions FancyIndexing"), ("apache2",), "apache"),
    "Apache (mod_dav)": Server(by_apache("Dav On"), ("apache2",), "webdav", True, by_etag=True),
    "lighttpd (HTML)": Server(by_file(LIGHTTPD, ["lighttpd", "-D", "-f"]), ("lighttpd",)),
    "Caddy": Server(
        by_file(CADDY, ["caddy", "run", "--adapter", "caddyfile", "--config"]),
        ("caddy",),
        exact=True,
    ),
    "WsgiDAV": Server(
        by_command(sys.executable, "-m", *WSGIDAV, "--auth", "anonymous", "-q"),
        (),
        "webdav",
        exact=True,
        by_etag=True,
    ),
    "Python's `http.server`": Server(by_python),
    "npm's `serve`": Server(
        by_command("serve", "-n", "-L", "--no-etag", "-l", "tcp://127.0.0.1:{port}", "{root}"),
        ("serve",),
    ),
    "npm's `http-server`": Server(
        by_command("http-server", "{root}", "-p", "{port}", "-a", "127.0.0.1", "-s", "-c-1"),
        ("http-server",),
    ),
    "busybox `httpd`": Server(by_busybox, ("busybox",)),
    "`tar-gateway serve DIRECTORY`": Server(by_ourselves, exact=True),
}
