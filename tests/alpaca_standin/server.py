"""The stand-in's sockets: HTTP around a Venue, lost and broken answers, the trade_updates stream, the journal."""

from __future__ import annotations

import contextlib
import copy
import json
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from websockets.exceptions import InvalidState
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from alpaca_standin import admin
from alpaca_standin.clock import Clock
from alpaca_standin.faults import FaultPlan
from alpaca_standin.journal import Journal
from alpaca_standin.market import Market
from alpaca_standin.state import ApiError, Config, State
from alpaca_standin.venue import Reply, ReplyLost, Venue

STREAM = "/stream"
STREAM_POLL_S = 0.02
TICK_S = 0.2
MAX_BODY_BYTES = 1_000_000
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


class App:
    """What all connections share. Everything but the sockets happens under `lock`."""

    def __init__(
        self,
        market: Callable[[], Market],
        config: Callable[[], Config],
        clock: Clock,
        journal: Journal | None,
        latency_s: float = 0.0,
    ) -> None:
        self.lock = threading.RLock()
        self.market = market
        self.config = config
        self.clock = clock
        self.journal = journal
        self.latency_s = latency_s
        self.stream_epoch = 0
        self.streams: set[int] = set()
        self.started_at = copy.copy(clock)
        self.venue = Venue(State.new(config()), market(), clock)
        for command in journal.read() if journal else []:
            if command["op"] == "clock":
                clock.restore(command)
            else:
                self.venue.replay(command)
        if journal is not None:
            self.venue.record = journal.append
            if not journal.path.stat().st_size:
                journal.append(clock.command())

    def set_clock(self, at: datetime, speed: float) -> None:
        """Set the clock and keep the setting."""
        self.clock.set(at, speed)
        if self.journal is not None:
            self.journal.append(self.clock.command())

    def reset(self, state: State) -> None:
        """Start anew with this state, the market and the clock of the start."""
        self.clock.restore(self.started_at.command())
        if self.journal is not None:
            self.journal.clear()
            self.journal.append(self.clock.command())
        self.venue.market = self.market()
        self.venue.faults = FaultPlan()
        self.venue.take(state)

    def tick(self) -> None:
        """Let the market move on with a running clock, for ever: the stream tells of fills as they happen."""
        while True:
            time.sleep(TICK_S)
            if self.clock.speed:
                with self.lock:
                    self.venue.advance(self.clock())


class Server(ThreadingHTTPServer):
    """The listening socket."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], app: App) -> None:
        super().__init__(address, Handler)
        self.app = app
        threading.Thread(target=app.tick, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet about clients that were killed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: /standin/counters and /standin/state tell what happened."""

    def do_GET(self) -> None:
        app, parts = self.server.app, urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            return self._send(Reply(413, {}, b""))
        body = self.rfile.read(length)
        if parts.path == STREAM and "websocket" in (self.headers.get("Upgrade") or "").lower():
            return Stream(self).serve()
        if parts.path.startswith("/standin"):
            return self._admin(parts.path, body)
        if app.latency_s:
            time.sleep(app.latency_s)
        try:
            with app.lock:
                reply = app.venue.respond(self.command, unquote(parts.path), parts.query, dict(self.headers), body)
        except ReplyLost as lost:
            time.sleep(lost.hang_s)
            return self._hang_up()
        if reply.delay_s:
            time.sleep(reply.delay_s)
        return self._send(reply)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _admin(self, path: str, body: bytes) -> None:
        app = self.server.app
        try:
            if self.client_address[0] not in LOOPBACK:
                raise ApiError(403, None, "the routes under /standin/ answer on loopback only")
            with app.lock:
                status, document = admin.answer(app, self.command, path, self.headers.get("Content-Type") or "", body)
                content = b"" if document is None else json.dumps(document, default=str).encode()
        except ApiError as refusal:
            status, content = refusal.status, json.dumps(refusal.body, default=str).encode()
        self._send(Reply(status, {"Content-Type": "application/json"}, content))

    def _send(self, reply: Reply) -> None:
        try:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client did not wait
        if reply.cut:
            self._hang_up()

    def _hang_up(self) -> None:
        """Break the connection."""
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client was faster
            self.connection.shutdown(socket.SHUT_RDWR)


class Stream:
    """One trade_updates connection: authenticate, listen, then every event from there on."""

    def __init__(self, handler: Handler) -> None:
        self.app = handler.server.app
        self.socket = handler.connection
        self.handler = handler
        self.protocol = ServerProtocol()
        self.authorized = self.listening = False
        self.cursor = 0

    def serve(self) -> None:
        """Speak the protocol until either side ends it."""
        self.handler.close_connection = True
        head = f"{self.handler.requestline}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in self.handler.headers.items())
        self.protocol.receive_data(head.encode("latin-1") + b"\r\n")
        (request,) = self.protocol.events_received()
        self.protocol.send_response(self.protocol.accept(request))  # type: ignore[arg-type]
        epoch = self.app.stream_epoch
        try:
            while self._flush():
                if self.app.stream_epoch != epoch:
                    return self.handler._hang_up()
                readable, _, _ = select.select([self.socket], [], [], STREAM_POLL_S)
                if readable:
                    received = self.socket.recv(65536)
                    if not received:
                        return None
                    self.protocol.receive_data(received)
                    for frame in self.protocol.events_received():
                        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):  # type: ignore[union-attr]
                            self._message(frame.data)  # type: ignore[union-attr]
                self._push()
        except (OSError, InvalidState):
            return None  # the client went away
        finally:
            with self.app.lock:
                self.app.streams.discard(id(self))
        return None

    def _flush(self) -> bool:
        for chunk in self.protocol.data_to_send():
            if chunk == b"":
                return False
            self.socket.sendall(chunk)
        return True

    def _message(self, content: bytes) -> None:
        try:
            document = json.loads(content)
            action, data = str(document.get("action")), document.get("data") or {}
        except (ValueError, AttributeError):
            return self._say("authorization", {"status": "unauthorized", "action": "unknown"})
        if action in ("authenticate", "auth"):
            return self._authenticate({**document, **data})
        if action == "listen":
            if not self.authorized:
                return self._say("authorization", {"status": "unauthorized", "action": "listen"})
            streams = [name for name in data.get("streams", []) if name == "trade_updates"]
            with self.app.lock:
                if streams and not self.listening:
                    self.cursor = len(self.app.venue.state.events)
                self.listening = bool(streams)
            self._say("listening", {"streams": streams})
        return None

    def _authenticate(self, data: dict[str, Any]) -> None:
        """Check the key; one connection per key is all there is."""
        with self.app.lock:
            config = self.app.venue.state.config
            keys = (data.get("key_id") or data.get("key"), data.get("secret_key") or data.get("secret"))
            right = keys == (config.key_id, config.secret_key)
            self.authorized = right and not self.app.streams - {id(self)}
            if self.authorized:
                self.app.streams.add(id(self))
        status = "authorized" if self.authorized else "unauthorized"
        self._say("authorization", {"status": status, "action": "authenticate"})

    def _push(self) -> None:
        if not self.listening:
            return
        with self.app.lock:
            events = self.app.venue.state.events
            self.cursor = min(self.cursor, len(events))
            fresh, self.cursor = events[self.cursor :], len(events)
        for event in fresh:
            self.protocol.send_binary(json.dumps(event).encode())

    def _say(self, stream: str, data: dict[str, Any]) -> None:
        self.protocol.send_binary(json.dumps({"stream": stream, "data": data}).encode())
