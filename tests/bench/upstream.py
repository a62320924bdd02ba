"""The files that are asked for, and the stock nginx that serves them, 20 ms late if wanted."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import PATIENCE, free_port, listens, wait_until

MTIME = 1_600_000_000  # long ago, so that every validator is strong
DELAY = 0.02  # seconds before each response below /slow/
MODULES = tuple(
    Path("/usr/lib/nginx/modules") / name
    for name in ("ndk_http_module.so", "ngx_http_lua_module.so")
)

# As Debian's own file, but for the number of connections.
CONF = """
daemon off;
{user}
{modules}
pid {place}/pid;
error_log {place}/error.log warn;
worker_processes auto;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    default_type application/octet-stream;
    access_log {place}/access.log;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        # One file under as many names as are wanted.
        location /many/ {{ rewrite ^ /one.bin break; }}
        {slow}
    }}
}}
"""

SLOW = """
        location /slow/ {{
            access_by_lua_block {{ ngx.sleep({delay}) }}
            rewrite ^ /one.bin break;
        }}
"""


def has_lua() -> bool:
    """Tell whether nginx's Lua module is there, without which no response can be late."""
    return all(module.is_file() for module in MODULES)


def make_file(path: Path, size: int) -> None:
    """Make a file of zeros that takes no room on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    os.utime(path, (MTIME, MTIME))


def make_list(path: Path, members: list[str]) -> None:
    """Write a manifest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"members": members}))
    os.utime(path, (MTIME, MTIME))


@contextmanager
def stock_nginx(root: Path, place: Path) -> Iterator[str]:
    """Serve a directory, and its ``one.bin`` under any name below /many/ and /slow/."""
    place.mkdir(parents=True)
    port = free_port()
    lua = has_lua()
    conf = place / "nginx.conf"
    conf.write_text(
        CONF.format(
            user="user root;" if os.geteuid() == 0 else "",
            modules="".join(f"load_module {module};\n" for module in MODULES) if lua else "",
            slow=SLOW.format(delay=DELAY) if lua else "",
            place=place,
            port=port,
            root=root,
        )
    )
    process = subprocess.Popen(["nginx", "-c", str(conf)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, "nginx")
        assert process.poll() is None, (place / "error.log").read_text()
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(PATIENCE)
