"""Real proxies in front of a gateway, each a process on loopback: nginx and HAProxy."""

import csv
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import trustme

from tests.support.servers import PATIENCE, free_port, listens, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"

# What a server behind a trusted proxy may take for that proxy's word: who the client is, and what
# it has asked for.
IDENTITY = [
    *("Forwarded", "Proxy", "Remote-User", "X-Remote-User", "X-Remote-Group", "X-Forwarded-User"),
    *("X-Forwarded-Host", "X-Forwarded-Prefix", "X-Auth-Request-User", "X-SSL-Client-DN"),
    *("Client-Cert", "True-Client-IP", "X-Cluster-Client-IP", "X-Script-Name"),
    *("X-Real-IP", "X-Original-URL", "X-Rewrite-URL", "X-Middleware-Subrequest"),
]

# A site that says nothing but where to pass requests: HTTP/1.0 to the gateway, and buffering.
PLAIN_SITE = """
server {
    listen 8080;
    location / { proxy_pass http://127.0.0.1:8000; }
}
"""

NGINX_CONF = """
daemon off;
{user}
pid {place}/pid;
error_log {place}/error.log warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    {site}
}}
"""

HAPROXY_CONF = """
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port}
    {rules}
    default_backend gateway
backend gateway
    server gateway {address}
"""


def deployed_site(name: str = "nginx.conf") -> str:
    """Give a site that `deploy/` recommends."""
    return (DEPLOY / name).read_text()


@contextmanager
def nginx_front(gateway: str, place: Path, site: str = PLAIN_SITE) -> Iterator[str]:
    """Run nginx in front of a gateway's URL, and give the front's.

    ``site`` listens on 8080 and passes to 127.0.0.1:8000, as `deploy/nginx.conf` does; both are
    replaced.
    """
    port = free_port()
    with _nginx(gateway, place, site, {"listen 8080;": f"listen 127.0.0.1:{port};"}, port):
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def nginx_tls_front(gateway: str, place: Path) -> Iterator[tuple[str, str, Path]]:
    """Run nginx as TLS end; gives its URL for https and for http, and its authority's file."""
    place.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(place / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(place / "key.pem"))
    for each in certificate.cert_chain_pems:
        each.write_to_path(str(place / "chain.pem"), append=True)
    port, tls_port = free_port(), free_port()
    replaced = {
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "listen 8443 ssl;": f"listen 127.0.0.1:{tls_port} ssl;",
        "/etc/nginx/files.example.pem;": f"{place}/chain.pem;",
        "/etc/nginx/files.example.key;": f"{place}/key.pem;",
    }
    with _nginx(gateway, place, deployed_site("nginx-tls.conf"), replaced, tls_port):
        urls = (f"https://127.0.0.1:{tls_port}/", f"http://127.0.0.1:{port}/")
        yield *urls, place / "ca.pem"


@contextmanager
def _nginx(
    gateway: str, place: Path, site: str, replaced: Mapping[str, str], port: int
) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    for old, new in {**replaced, "127.0.0.1:8000;": urlsplit(gateway).netloc + ";"}.items():
        assert old in site
        site = site.replace(old, new)
    site = site.replace("/var/log/nginx/", f"{place}/")  # of a deployed one
    user = "user root;" if os.geteuid() == 0 else ""
    conf = place / "nginx.conf"
    conf.write_text(NGINX_CONF.format(user=user, place=place, site=site))
    with _running(["nginx", "-c", str(conf)], port, place):
        yield


@contextmanager
def haproxy_front(gateway: str, place: Path, rules: str = "") -> Iterator[str]:
    """Run HAProxy in front of a gateway's URL, and give the front's.

    ``rules`` are lines for its frontend.
    """
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    conf = place / "haproxy.cfg"
    address = urlsplit(gateway).netloc
    conf.write_text(HAPROXY_CONF.format(port=port, address=address, rules=rules))
    with _running(["haproxy", "-db", "-f", str(conf)], port, place):
        yield f"http://127.0.0.1:{port}/"


@dataclass(frozen=True)
class Balancer:
    """HAProxy before several gateways: the URL that clients know, and what it says of them.

    A gateway has two servers: one while it is ready, and one for when none is.
    """

    url: str
    port: int
    control: Path

    def states(self) -> dict[str, str]:
        """Give the state of each server that is looked at, such as ``UP``."""
        return {row["svname"]: row["status"] for row in self._rows() if row["check_status"]}

    def answering(self) -> list[int]:
        """Give how many requests each gateway is answering."""
        counts = {row["svname"]: int(row["scur"]) for row in self._rows()}
        return [
            count + counts["any-" + name.removeprefix("gateway-")]
            for name, count in counts.items()
            if name.startswith("gateway-")
        ]

    def _rows(self) -> list[dict[str, str]]:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(PATIENCE)
            asked.connect(str(self.control))
            asked.sendall(b"show stat\n")
            with asked.makefile() as lines:
                return list(csv.DictReader(lines))


@contextmanager
def deployed_haproxy(
    gateways: Sequence[str], place: Path, *, own_pages: bool = True
) -> Iterator[Balancer]:
    """Run HAProxy as `deploy/haproxy.cfg` has it, in front of gateways, each a ``host:port``.

    Only where it listens is replaced, and a control socket is added. Gateways without
    ``own_pages`` are asked whether they are ready where they serve.
    """
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    control = place / "control"
    text = (DEPLOY / "haproxy.cfg").read_text()
    for told, real in [
        ("    bind :8080\n", f"    bind 127.0.0.1:{port}\n"),
        ("\nglobal\n", f"\nglobal\n    stats socket {control}\n"),
        (" port 9000 ", " port 9000 " if own_pages else " "),
    ]:
        assert told in text
        text = text.replace(told, real)
    conf = place / "haproxy.cfg"
    conf.write_text(text)
    addresses = {f"GATEWAY_{index}": each for index, each in enumerate(gateways, 1)}
    with _running(["haproxy", "-db", "-f", str(conf)], port, place, addresses):
        wait_until(control.exists, "HAProxy's control socket")
        yield Balancer(f"http://127.0.0.1:{port}/", port, control)


@contextmanager
def _running(
    command: list[str], port: int, place: Path, added: Mapping[str, str] = MappingProxyType({})
) -> Iterator[None]:
    log = place / "front.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | dict(added)
        )
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, command[0])
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)
