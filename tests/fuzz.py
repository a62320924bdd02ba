"""Fuzzing of whole requests: ``python -m tests.fuzz --seconds N --seed S``.

``--requests N`` ends it after so many, as a test on a busy machine needs it.

With Atheris, where it is installed, bytes are chosen by what they reach in the package; without it,
or with ``--plain``, they are random. Prints what came of the requests; the exit status is 1 when
something came that must not. What that is stands in `tests.fuzzed`.
"""

import argparse
import importlib
import logging
import os
import random
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from types import ModuleType
from typing import Any

_MOST_BYTES = 400


def _atheris() -> ModuleType | None:
    try:
        return importlib.import_module("atheris")
    except ImportError:
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=sys.maxsize)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="random bytes, without Atheris")
    options = parser.parse_args(arguments)
    logging.disable()  # nearly every request has something to say
    engine = None if options.plain else _atheris()
    watched = engine.instrument_imports(include=["tar_gateway"]) if engine else nullcontext()
    with watched:
        fuzzed = importlib.import_module("tests.fuzzed")
    with fuzzed.Target() as target:
        run = Run(target, fuzzed.Violation, options)
        if engine is None:
            run.at_random()
        else:
            run.guided(engine)
    return run.report()


class Run:
    """One run: the requests that were made, and those at which something came that must not."""

    def __init__(
        self, target: Any, violation: type[Exception], options: argparse.Namespace
    ) -> None:
        self._target = target
        self._violation = violation
        self._options = options
        self._end = time.monotonic() + options.seconds
        self._count = 0
        self._violations: list[str] = []

    def at_random(self) -> None:
        while not self._is_over():
            choose = random.Random(f"{self._options.seed}/{self._count}")
            self._one(choose.randbytes(choose.randrange(_MOST_BYTES)))

    def guided(self, engine: Any) -> None:
        """Let Atheris choose; it never gives control back, so the process ends in here."""

        def one(data: bytes) -> None:
            self._one(data)
            if self._is_over():
                status = self.report()
                sys.stdout.flush()
                os._exit(status)

        settings = [f"-seed={self._options.seed}", f"-max_len={_MOST_BYTES}", "-timeout=60"]
        engine.Setup(["fuzz", *settings, "-verbosity=0"], one)
        engine.Fuzz()

    def _is_over(self) -> bool:
        return self._count >= self._options.requests or time.monotonic() > self._end

    def _one(self, data: bytes) -> None:
        self._count += 1
        try:
            self._target.run(data)
        except self._violation as violation:
            self._violations.append(f"{violation}")
            print(f"bytes.fromhex('{data.hex()}'): {violation}", flush=True)

    def report(self) -> int:
        outcomes = dict(sorted(self._target.outcomes.items()))
        print(
            f"seed {self._options.seed}, {self._count} requests: {outcomes}; "
            f"slowest {self._target.slowest * 1000:.0f} ms; violations: {len(self._violations)}"
        )
        return 1 if self._violations else 0


if __name__ == "__main__":
    sys.exit(main())
