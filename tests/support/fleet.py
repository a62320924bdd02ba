"""Two replicas behind the HAProxy of `deploy/`, for tests that kill, drain and replace them."""

import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.support.proxies import Balancer, deployed_haproxy
from tests.support.servers import PATIENCE, Running, gateway, wait_until


class Replica:
    """A gateway that comes back at its own address, whatever became of it."""

    def __init__(self, upstream: str, place: Path) -> None:
        # A loopback address of its own: nobody else is given the ports there meanwhile.
        self.host = ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])
        self._upstream = upstream
        self._place = place
        self._lives = 0
        self._running = ExitStack()

    def start(self) -> None:
        """Start it, anew if it has ended."""
        self._running.close()
        self._lives += 1
        place = self._place / str(self._lives)
        self.running: Running = self._running.enter_context(
            gateway(self._upstream, place, at=f"{self.host}:8000", pages_bind=f"{self.host}:9000")
        )

    def close(self) -> None:
        """End it."""
        self._running.close()


class Fleet:
    """Replicas by the names that HAProxy has for them; what ends one starts it anew, aside."""

    def __init__(self, balancer: Balancer, replicas: dict[str, Replica]) -> None:
        self.names = list(replicas)
        self.port = balancer.port
        self._balancer = balancer
        self._replicas = replicas
        self._starter = ThreadPoolExecutor(1)
        self._started: Future[None] | None = None

    def kill(self) -> None:
        """Kill the replica that answers a request just now; another stands ready before that."""
        self.wait_until_whole()
        name = self._busy()
        self._replicas[name].running.kill()
        self._started = self._starter.submit(self._replicas[name].start)

    def restart(self, name: str) -> int:
        """Replace a replica in two steps, as `deploy/README.md` tells to.

        Gives how many requests it was answering when it was told to end.
        """
        replica = self._replicas[name]
        process = replica.running.process
        drain = [sys.executable, "-m", "tar_gateway.cli", "drain", "--pid", str(process.pid)]
        subprocess.run(drain, check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)
        self._wait_for(name, "DOWN")
        answering = self._balancer.answering()[self.names.index(name)]
        process.terminate()
        process.wait(PATIENCE)
        replica.start()
        self._wait_for(name, "UP")
        return answering

    def wait_until_whole(self) -> None:
        """Wait until every replica is there and HAProxy gives it requests."""
        if self._started is not None:
            self._started.result()
        for name in self._replicas:
            self._wait_for(name, "UP")

    def close(self) -> None:
        """Wait for what is being started."""
        self._starter.shutdown()

    def _wait_for(self, name: str, state: str) -> None:
        wait_until(lambda: self._balancer.states()[name].startswith(state), f"{name} to be {state}")

    def _busy(self) -> str:
        answering = self._balancer.answering()
        return self.names[answering.index(max(answering))]


@contextmanager
def fleet(upstream: str, place: Path) -> Iterator[Fleet]:
    """Run two replicas and HAProxy before them."""
    with ExitStack() as stack:
        replicas = {}
        for name in ["gateway-1", "gateway-2"]:
            replicas[name] = stack.enter_context(closing(Replica(upstream, place / name)))
            replicas[name].start()
        addresses = [f"{replica.host}:8000" for replica in replicas.values()]
        balancer = stack.enter_context(deployed_haproxy(addresses, place / "haproxy"))
        made = stack.enter_context(closing(Fleet(balancer, replicas)))
        made.wait_until_whole()
        yield made
