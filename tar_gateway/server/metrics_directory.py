"""The directory in which gunicorn's workers keep their counts, so that each can show those of all.

Each worker's metrics library looks for it in the environment, when it is imported.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tar_gateway.errors import SettingsError

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def share(user: int, group: int) -> None:
    """Take the directory that the environment names, or make one that ends with this process.

    One that is made belongs to the workers' ``user`` and ``group``, by their ids. Raise
    `SettingsError` where nothing can be written.
    """
    named = os.environ.get(VARIABLE)
    try:
        if not named:  # an empty variable counts as unset
            os.environ[VARIABLE] = made = tempfile.mkdtemp(prefix="tar-gateway-metrics-")
            os.chown(made, user, group)
            atexit.register(_remove, made, os.getpid())
            return
        directory = Path(named)
        if not directory.is_dir():
            directory.mkdir(parents=True)
            os.chown(directory, user, group)
        with tempfile.TemporaryFile(dir=directory):
            pass  # so the workers can write as well
    except OSError as error:
        place = named or "a temporary directory"
        raise SettingsError(
            f"{VARIABLE}: the workers' counts can't be kept in {place}: {error.strerror}"
        ) from error
    for file in directory.glob("gauge_live*_*.db"):
        if not _is_counting(file):
            file.unlink(missing_ok=True)


def forget(pid: int) -> None:
    """Forget what an ended worker had under way, as the metrics' library would."""
    for file in Path(os.environ[VARIABLE]).glob(f"gauge_live*_{pid}.db"):
        file.unlink(missing_ok=True)


def _remove(directory: str, owner: int) -> None:
    if os.getpid() == owner:  # its forks have this from it
        shutil.rmtree(directory, ignore_errors=True)


def _is_counting(file: Path) -> bool:
    """Return whether the process that a file is called after still lives, and counts in it.

    Where all was killed at once nobody has called `forget`, and the id may be another's by now.
    """
    pid = file.stem.rpartition("_")[2]
    try:
        return file.name in Path(f"/proc/{pid}/maps").read_text("utf-8", "replace")
    except PermissionError:  # another user's
        return True
    except OSError:
        return False
