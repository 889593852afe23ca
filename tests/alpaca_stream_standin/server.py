"""The sockets of the stand-in: Alpaca's live stream at /v2/FEED, its REST beside it, and what a test asks for.

Stream: the greeting, authentication by message within 10 seconds, one connection a key (a cut one holds its place for
`linger_s`), subscriptions, MessagePack or JSON as the client's Content-Type says, frames of several messages, the error
codes of Alpaca's documentation. REST: /v2/stocks/trades and /bars, by page, so many requests a minute; a trade is there
`rest_lag_s` after it happened.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgpack
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from alpaca_stream_standin.market import Market, Tape, rfc3339

FRAME_S = 0.005
AUTH_S = 10.0
MOST_WAITING = 100_000
CHANNELS = ("trades", "bars", "updatedBars")
ERRORS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    410: "invalid subscribe action",
}


@dataclass(slots=True, kw_only=True)
class Config:
    """How the stand-in behaves."""

    key: str = "PKSTANDIN"
    secret: str = "standin-secret"
    rate: float = 100.0
    seconds: float = 0.0
    linger_s: float = 0.3
    rest_lag_s: float = 1.0
    rest_faults_frac: float = 0.0
    requests_per_minute: int = 200
    most_symbols: int = 10_000
    seed: int = 1


@dataclass(slots=True, kw_only=True, eq=False)
class Client:
    """One connection: what it subscribed to, and what waits to be sent."""

    socket: ServerConnection
    packed: bool
    authenticated: bool = False
    mute: bool = False
    wants: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in CHANNELS})
    waiting: list[dict[str, Any]] = field(default_factory=list)
    some: asyncio.Event = field(default_factory=asyncio.Event)

    async def say(self, *messages: dict[str, Any]) -> None:
        await self.socket.send(self.encoded(list(messages)))

    async def refuse(self, code: int) -> None:
        await self.say({"T": "error", "code": code, "msg": ERRORS[code]})

    def encoded(self, messages: list[dict[str, Any]]) -> str | bytes:
        if self.packed:
            return bytes(msgpack.packb([_with(m, msgpack.Timestamp.from_unix_nano) for m in messages]))
        return json.dumps([_with(m, rfc3339) for m in messages])


class Standin:
    """One server: `serve` is the WebSocket's handler, `answer` takes what is no WebSocket."""

    def __init__(self, market: Market, config: Config) -> None:
        self.market, self.config = market, config
        self.clients: set[Client] = set()
        self.taken_until = 0.0
        self.counts = dict.fromkeys(("connections", "refused", "cuts", "requests", "rest_faults", "sent", "frames"), 0)
        self.open_until = 0.0
        self._asked: list[float] = []
        self._chance = random.Random(config.seed)

    # ------------------------------------------------------------------------------------------------ the market

    async def run(self) -> None:
        """Let trades happen at the rate asked for while the market is open, and send them to who listens."""
        done, began = 0, 0.0
        while True:
            await asyncio.sleep(FRAME_S)
            now = time.monotonic()
            if now >= self.open_until:
                done, began = 0, now
            elif (count := int((now - began) * self.config.rate) - done) > 0:
                done += count
                for tape, trade in self.market.trade(time.time_ns(), count):
                    self._send("trades", tape, {"T": "t", "S": tape.symbol, **trade})
            for tape, bar in self.market.bars_due(time.time_ns()):
                self._send("bars", tape, {"T": "b", "S": tape.symbol, **bar})
            for client in self.clients:
                if client.waiting:
                    client.some.set()

    def open_for(self, seconds: float) -> None:
        self.open_until = time.monotonic() + seconds

    def _send(self, channel: str, tape: Tape, message: dict[str, Any]) -> None:
        for client in self.clients:
            if tape.symbol in client.wants[channel]:
                client.waiting.append(message)

    # ------------------------------------------------------------------------------------------------ the stream

    async def serve(self, socket: ServerConnection) -> None:
        """Speak with one client until either side ends it."""
        assert socket.request is not None
        packed = "msgpack" in socket.request.headers.get("Content-Type", "")
        client = Client(socket=socket, packed=packed)
        self.counts["connections"] += 1
        sending: asyncio.Task[None] | None = None
        try:
            await client.say({"T": "success", "msg": "connected"})
            if not await self._admit(client):
                return
            self.clients.add(client)
            await client.say({"T": "success", "msg": "authenticated"})
            sending = asyncio.create_task(self._deliver(client))
            async for frame in socket:
                await self._asked_for(client, frame)
        except (ConnectionClosed, OSError):
            return
        finally:
            if sending is not None:
                sending.cancel()
            if client in self.clients:
                self.clients.discard(client)
                self.taken_until = time.monotonic() + self.config.linger_s

    async def _admit(self, client: Client) -> bool:
        """Authenticate; False with the reason told."""
        try:
            async with asyncio.timeout(AUTH_S):
                asked = _decoded(await client.socket.recv())
        except TimeoutError:
            code = 404
        else:
            right = (asked.get("key"), asked.get("secret")) == (self.config.key, self.config.secret)
            taken = bool(self.clients) or time.monotonic() < self.taken_until
            code = 401 if asked.get("action") != "auth" else 402 if not right else 406 if taken else 0
        if code:
            self.counts["refused"] += 1
            await client.refuse(code)
        return not code

    async def _asked_for(self, client: Client, frame: str | bytes) -> None:
        asked = _decoded(frame)
        action = asked.get("action")
        if action == "auth":
            return await client.refuse(403)
        if action not in ("subscribe", "unsubscribe"):
            return await client.refuse(400)
        for name in CHANNELS:
            known = {s for s in asked.get(name, ()) if s in self.market.tapes}
            client.wants[name] = client.wants[name] | known if action == "subscribe" else client.wants[name] - known
        if len(set().union(*client.wants.values())) > self.config.most_symbols:
            client.wants = {name: set() for name in CHANNELS}
            return await client.refuse(405)
        now = {name: sorted(symbols) for name, symbols in client.wants.items()}
        with_trades = {"corrections": now["trades"], "cancelErrors": now["trades"]}
        return await client.say({"T": "subscription", "quotes": [], "dailyBars": [], **now, **with_trades})

    async def _deliver(self, client: Client) -> None:
        while True:
            await client.some.wait()
            client.some.clear()
            if client.mute:
                continue
            messages, client.waiting = client.waiting, []
            if len(messages) > MOST_WAITING:
                await client.refuse(407)
                return await client.socket.close()
            for start in range(0, len(messages), 1_000):
                part = messages[start : start + 1_000]
                await client.socket.send(client.encoded(part))
                self.counts["sent"] += len(part)
                self.counts["frames"] += 1

    def cut(self, how: str) -> int:
        """End every connection: abort, in mid-frame (partial), by goodbye (close); or fall silent (mute)."""
        clients = list(self.clients)
        for client in clients:
            self.counts["cuts"] += 1
            if how == "mute":
                client.mute = True
            elif how == "close":
                asyncio.get_running_loop().create_task(client.socket.close(1001, "going away"))
            else:
                if how == "partial":
                    client.socket.transport.write(b"\x82\x7e\x10\x00" + b"\x9a" * 100)
                client.socket.transport.abort()
        return len(clients)

    # -------------------------------------------------------------------------------------------------- REST, tests

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request that is no WebSocket's."""
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path.startswith("/standin/"):
            return _json(200, self._told(parts.path.removeprefix("/standin/"), query))
        if parts.path in ("/v2/stocks/trades", "/v2/stocks/bars"):
            return self._past(parts.path.rpartition("/")[2], query, request.headers)
        return (
            None if "upgrade" in request.headers.get("Connection", "").lower() else _json(404, {"message": "Not Found"})
        )

    def _told(self, what: str, query: dict[str, str]) -> Any:
        if what == "open":
            self.config.rate = float(query.get("rate", self.config.rate))
            self.open_for(float(query["seconds"]))
        elif what == "cut":
            return {"cut": self.cut(query.get("how", "abort"))}
        elif what == "faults":
            self.config.rest_faults_frac = float(query["frac"])
        elif what == "sums":
            return self.market.sums()
        return self.counts

    def _past(self, what: str, query: dict[str, str], headers: Headers) -> Response:
        self.counts["requests"] += 1
        keys = headers.get("APCA-API-KEY-ID"), headers.get("APCA-API-SECRET-KEY")
        if keys != (self.config.key, self.config.secret):
            return _json(403, {"message": "forbidden."})
        now = time.monotonic()
        self._asked = [at for at in self._asked if at > now - 60] + [now]
        if len(self._asked) > self.config.requests_per_minute:
            return _json(429, {"message": "too many requests."}, {"Retry-After": "1"})
        if self._chance.random() < self.config.rest_faults_frac:
            self.counts["rest_faults"] += 1
            return _json(self._chance.choice((429, 500, 503)), {"message": "not now"})
        known_until = time.time_ns() - int(self.config.rest_lag_s * 1e9)
        first, until = _ns(query["start"]), min(_ns(query["end"]), known_until)
        limit = int(query.get("limit", "1000"))
        if not 1 <= limit <= 10_000:
            return _json(400, {"message": "limit must be between 1 and 10000"})
        symbols = query["symbols"].split(",")
        page, token = self.market.page(what, symbols, first, until, limit, query.get("page_token", ""))
        rows = {name: [_with(row, rfc3339) for row in rows] for name, rows in page.items()}
        return _json(200, {what: rows, "next_page_token": token})


def _with(message: dict[str, Any], codec: Any) -> dict[str, Any]:
    return {**message, "t": codec(message["t"])} if "t" in message else message


def _decoded(frame: str | bytes) -> dict[str, Any]:
    try:
        found = msgpack.unpackb(frame) if isinstance(frame, bytes) else json.loads(frame)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _json(status: int, document: Any, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(document).encode()
    given = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    return Response(status, HTTPStatus(status).phrase, Headers({**given, **(headers or {})}), body)


def _ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6) * 1_000
