"""Claims: who does which piece of work, over processes and hosts."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from keras_mmrel.benchmark._whole import writing

# Seconds between two signs of life, and after which there is none.
BEAT = 5.0
STALE = 120.0


class Claims:
    """One file for each piece of work that somebody does now.

    A file is made atomically, and its holder touches it again and again. It
    is taken over when the holder's process has ended, or, on another host,
    when the file was not touched for two minutes. Two processes that take
    over at the same moment may in the worst case both do the work, which
    costs time and no result.

    Args:
        folder: Folder of the files, made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Hold the claim while inside; `False` if somebody else has it."""
        path = self.folder / f"{name}.json"
        token = uuid.uuid4().hex
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            made = self._make(path, token)
        if not made:
            yield False
            return
        done = threading.Event()
        heart = threading.Thread(target=_beat, args=(path, done), daemon=True)
        heart.start()
        try:
            yield True
        finally:
            done.set()
            heart.join()
            # Not what somebody has taken over in the meantime.
            with contextlib.suppress(OSError):
                if _read(path).get("token") == token:
                    path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what processes that were killed have left behind."""
        for path in self.folder.glob("*.json"):
            if _is_dead(path, _read(path)):
                path.unlink(missing_ok=True)

    def _make(self, path: Path, token: str) -> bool:
        if self._write(path, token):
            return True
        seen = _read(path)
        if not _is_dead(path, seen):
            return False
        grave = path.with_suffix(f".{token}.old")
        try:
            os.rename(path, grave)
        except FileNotFoundError:
            return False
        if _read(grave) != seen:
            # Somebody was faster, and is alive: give it back.
            with contextlib.suppress(OSError):
                os.link(grave, path)
            grave.unlink()
            return False
        grave.unlink()
        return self._write(path, token)

    @staticmethod
    def _write(path: Path, token: str) -> bool:
        """Make the file with all that it holds, or find it there."""
        part = path.with_suffix(f".{token}.part")
        holder = {
            "token": token,
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
        try:
            part.write_text(json.dumps(holder), "utf-8")
            os.link(part, path)
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
        return True


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)


def _read(path: Path) -> dict:
    try:
        holder = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_dead(path: Path, holder: dict) -> bool:
    try:
        silent = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return False
    if silent > STALE:
        return True
    if holder.get("host") != socket.gethostname():
        return False
    return not _runs(int(holder.get("pid", 0)))


def _runs(pid: int) -> bool:
    # 0 would be this process and all that it belongs to.
    if pid <= 0:
        return False
    if os.name == "nt":
        # There 0 is a signal that ends processes: the silence has to tell.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
