"""A TCP proxy in front of PostgreSQL: it counts, slows, freezes, resets and stops."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from types import TracebackType

from tests.lab.daemon import LOOPBACK
from tests.lab.faults import Bandwidth, reset

BLOCK = 64 * 1024


@dataclass
class TcpProxy:
    """Listens on `port` and forwards to 127.0.0.1:`upstream_port` while it is entered."""

    upstream_port: int
    bandwidth: float | None = None  # bytes per second from the server, over all connections

    def __enter__(self) -> TcpProxy:
        self.from_server = 0  # bytes passed
        self.from_client = 0
        self.connections = 0  # accepted until now
        self._limit: int | None = None
        self._resetting = False
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self.bucket = Bandwidth(self.bandwidth)
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # close() alone would leave the accepting thread, and so the port, alive.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        self._flowing.set()

    def stop_after(self, amount: int, *, resetting: bool = False) -> None:
        """Once `amount` more bytes have come from the server, pass nothing: silence, or a reset."""
        with self._lock:
            self._limit = self.from_server + amount
            self._resetting = resetting

    def freeze(self) -> None:
        """Hold everything in both directions, connections open, until `thaw`."""
        self._flowing.clear()

    def thaw(self) -> None:
        with self._lock:
            self._limit = None
        self._flowing.set()

    def reset(self) -> None:
        """Reset every connection that is open now; new ones are served."""
        with self._lock:
            victims, self._open = self._open, []
        for victim in victims:
            _reset(victim)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((LOOPBACK, self.upstream_port))
            except OSError:
                client.close()
                continue
            with self._lock:
                self.connections += 1
                self._open += [client, server]
            for source, sink, down in ((server, client, True), (client, server, False)):
                threading.Thread(target=self._pump, args=(source, sink, down), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, from_server: bool) -> None:
        try:
            while data := source.recv(BLOCK):
                self._flowing.wait()
                if from_server:
                    data = self._count_from_server(data)
                    self.bucket.take(len(data))
                else:
                    with self._lock:
                        self.from_client += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # by either end, or by us: the other end must learn of it
            _reset(source)
            _reset(sink)

    def _count_from_server(self, data: bytes) -> bytes:
        """What may still pass of `data`; freezes or resets when the limit is reached."""
        with self._lock:
            allowed = len(data)
            if self._limit is not None:
                allowed = min(allowed, self._limit - self.from_server)
            self.from_server += allowed
            reached = allowed < len(data)
        if not reached:
            return data
        if self._resetting:
            self.reset()
            return b""
        self._flowing.clear()
        self._flowing.wait()
        with self._lock:
            self.from_server += len(data) - allowed
        return data


def _reset(connection: socket.socket) -> None:
    try:
        reset(connection)
    except OSError:
        return  # it was closed already
