"""
Who asks: the client of peer.py, in a process that is reached by its standard input and output.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, Self

_ANSWER_S = 60.0
_END_S = 5.0
_RATE = 100.0
_WAIT_POLL_S = 0.05


class Answer(NamedTuple):
    """
    What became of one connection: who answered and whom it saw, or what went wrong.

    `error` is "" for an answer, else "refused", "dropped", or the system's own words.
    """

    by: str
    saw: str
    sent_from: str
    error: str

    def __str__(self) -> str:
        """Return the name of who answered, or what went wrong."""
        return self.by or self.error


class Figures(NamedTuple):
    """What became of a load. `resent` counts packets that TCP had to send again."""

    sent: int
    resent: int
    answers: Counter[str]
    failures: list[str]


class Client:
    """
    Asks from one place: a pod, a node, or outside of the cluster.

    `start` starts the peer there, with pipes for its input and output; it is called by `open`, or
    when the client is asked for something the first time.
    """

    def __init__(
        self, name: str, start: Callable[[], subprocess.Popen[Any]], timeout_s: float
    ) -> None:
        """Take the place's name, and for how long no answer is a dropped packet."""
        self.name = name
        self._start = start
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[Any] | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Client {self.name}>"

    def open(self) -> None:
        """Start the peer, if it does not run."""
        with self._lock:
            self._open()

    def _open(self) -> subprocess.Popen[Any]:
        if self._process is None:
            self._process = self._start()
            threading.Thread(target=self._read, args=[self._process], daemon=True).start()
        return self._process

    def ask(
        self,
        address: str,
        port: int,
        protocol: str = "TCP",
        *,
        count: int = 1,
        timeout_s: float = 0.0,
    ) -> list[Answer]:
        """Make connections, several at once; return what became of each."""
        found = self._do(
            "ask",
            address=address,
            port=port,
            protocol=protocol,
            count=count,
            timeout_s=timeout_s or self._timeout_s,
        )
        return [Answer(one["by"], one["saw"], one["from"], one["error"]) for one in found]

    def get(self, address: str, port: int, path: str = "/") -> int:
        """Return the status of a HTTP answer, 0 where there is none."""
        status = self._do("get", address=address, port=port, path=path, timeout_s=self._timeout_s)
        return int(status)

    def source_to(self, address: str) -> str:
        """Return the address that packets to `address` are sent from."""
        return str(self._do("source_to", address=address))

    def resolve(self, name: str) -> list[str]:
        """Return the addresses of a name, none where it cannot be resolved."""
        return list(self._do("resolve", name=name))

    def load(
        self, address: str, port: int, protocol: str = "TCP", *, rate: float = _RATE, held: int = 0
    ) -> Load:
        """Return a load of new connections, and so many that are held all the while (TCP)."""
        return Load(
            self._do,
            {"address": address, "port": port, "protocol": protocol, "rate": rate, "held": held},
        )

    def close(self) -> None:
        """End the peer, or the command that reaches it where the peer does not hear of it."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _do(self, what: str, **request: Any) -> Any:
        number, answer = next(self._numbers), Future[Any]()
        with self._lock:
            process = self._open()
            self._waiting[number] = answer
            assert process.stdin
            line = json.dumps({"id": number, "do": what, **request})
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
        if what == "load":  # who began it names it
            answer.result(_ANSWER_S)
            return number
        return answer.result(_ANSWER_S)

    def _read(self, process: subprocess.Popen[Any]) -> None:
        assert process.stdout
        for line in process.stdout:
            answer = json.loads(line)
            waiting = self._waiting.pop(answer["id"])
            if "error" in answer:
                waiting.set_exception(RuntimeError(f"{self.name}: {answer['error']}"))
            else:
                waiting.set_result(answer["result"])
        for waiting in list(self._waiting.values()):
            waiting.set_exception(RuntimeError(f"the peer of {self.name} is gone"))


class Load:
    """
    Connections made from entering to leaving.

    ``figures`` may be read at any time; after leaving they are complete.
    """

    #: For how long a connection may be without an answer: longer than a packet takes that is
    #: sent again, so that a request fails only where a user would see it fail.
    PATIENCE_S = 5.0

    def __init__(self, do: Callable[..., Any], what: dict[str, Any]) -> None:
        self._do = do
        self._what = what
        self._last: Figures | None = None

    def __enter__(self) -> Self:
        self._number = self._do("load", **self._what, timeout_s=self.PATIENCE_S)
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        if error is None:
            self._last = _figures(self._do("end", load=self._number))

    @property
    def figures(self) -> Figures:
        """What there is so far."""
        return self._last or _figures(self._do("figures", load=self._number))

    @property
    def done(self) -> int:
        """How many connections have been answered so far, or have failed."""
        figures = self.figures
        return figures.answers.total() + len(figures.failures)

    def wait_until_done(self, count: int, timeout_s: float = 60.0) -> None:
        """Wait until so many connections have been answered, or have failed."""
        deadline = time.monotonic() + timeout_s
        while self.done < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.figures}")
            time.sleep(_WAIT_POLL_S)


def _figures(made: dict[str, Any]) -> Figures:
    return Figures(made["sent"], made["resent"], Counter(made["answers"]), made["failures"])
