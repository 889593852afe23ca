"""Alpaca's live market data over its WebSocket: one connection, authenticated and subscribed, as lists of messages.

alpaca-py's own stream goes through websockets' legacy client, retries whatever happens, logs refusals and goes on. Here
a connection is made once; every end of it is an error that says what follows (the service decides about trying again).

Messages come several to a frame, JSON or MessagePack, as documents with "T": success, error, subscription; t trade,
b minute bar, u its later version, c correction, x cancel. Source: docs.alpaca.markets, "Real-time Stock Data".

| code | what Alpaca says | error |
|---|---|---|
| 401, 402 | not authenticated, auth failed | AuthFailed |
| 405 | symbol limit exceeded | AuthFailed: the plan has fewer |
| 409 | insufficient subscription | AuthFailed |
| 406 | connection limit exceeded | Throttled: another process has the key's one connection, or the last one lingers |
| 407 | slow client | VendorDown: reconnect |
| 403, 404, 500 | already authenticated, auth timeout, internal error | VendorDown: reconnect |
| 400, 408, 410 | invalid syntax, v2 not enabled, invalid subscribe action | MalformedData |
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from tradecore.errors import AuthFailed, FeedError, MalformedData, Throttled, VendorDown
from tradecore.feeds.http import check_address, check_key

ADDRESS = "wss://stream.data.alpaca.markets"
FEEDS = ("iex", "sip", "delayed_sip", "test")
KEY_STEP = "Set ALPACA_API_KEY and ALPACA_SECRET_KEY in .env."
MAX_FRAME_BYTES = 16 * 2**20
FRAMES_WAITING = 256
PING_S = 10.0

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Where and what to listen to. feed: iex (one exchange, free), sip, delayed_sip, or test (symbol FAKEPACA)."""

    symbols: tuple[str, ...]
    trades: bool = True
    bars: bool = True
    feed: str = "iex"
    base_url: str = ADDRESS
    codec: str = "msgpack"
    timeout_s: float = 10.0
    api_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be; AuthFailed without a key."""
        if self.feed not in FEEDS:
            raise ValueError(f"feed is {self.feed!r}, must be one of {', '.join(FEEDS)}")
        if self.codec not in ("msgpack", "json"):
            raise ValueError(f"codec is {self.codec!r}, must be msgpack or json")
        if not self.symbols or not (self.trades or self.bars):
            raise ValueError("nothing to listen to: name symbols, and trades or bars")
        scheme, rest = self.base_url.split("://", 1) if "://" in self.base_url else ("", "")
        if scheme not in ("ws", "wss"):
            raise ValueError(f"base_url is {self.base_url!r}, must begin with wss:// (ws:// on this machine)")
        check_address(f"http{scheme[2:]}://{rest}", ADDRESS.replace("wss", "https"))
        check_key("ALPACA_API_KEY", self.api_key, KEY_STEP)
        check_key("ALPACA_SECRET_KEY", self.secret_key, KEY_STEP)


def refusal(code: int, said: str) -> FeedError:
    """Return the error that a message of T "error" means."""
    text = f"Alpaca's stream says {code}: {said}."
    if code in (401, 402):
        return AuthFailed(text, next_step="Check the key in .env: ALPACA_API_KEY, ALPACA_SECRET_KEY.", code=code)
    if code in (405, 409):
        step = "Name fewer symbols (--symbols), or another feed (--feed iex): this plan does not have it."
        return AuthFailed(text, next_step=step, code=code)
    if code == 406:
        step = "End the other process with this key (another `tradecore stream`, a notebook): a key has one connection."
        return Throttled(text, next_step=step, code=code)
    if code in (400, 408, 410):
        return MalformedData(text, next_step="Alpaca has changed its stream: update this installation.", code=code)
    return VendorDown(text, next_step="Nothing: it is connected anew, and REST gives what was missed.", code=code)


class AlpacaLine:
    """One connection to Alpaca's stream, for `async with`; silence_s: longest wait for a frame, None for no limit."""

    live = True

    def __init__(self, options: StreamOptions, silence_s: float | None = None) -> None:
        self._options = options
        self._silence_s = silence_s
        self._socket: ClientConnection | None = None
        self._waiting: list[Message] = []

    async def __aenter__(self) -> Self:
        """Connect, authenticate, subscribe. Raises AuthFailed, Throttled, VendorDown, MalformedData."""
        options = self._options
        loopback = urlsplit(options.base_url).scheme == "ws"
        try:
            self._socket = await connect(
                f"{options.base_url.rstrip('/')}/v2/{options.feed}",
                additional_headers={"Content-Type": f"application/{options.codec}"},
                compression=None,  # a small machine has more bandwidth than CPU
                proxy=None if loopback else True,
                open_timeout=options.timeout_s,
                ping_interval=PING_S,
                ping_timeout=options.timeout_s,
                close_timeout=1,
                max_size=MAX_FRAME_BYTES,
                max_queue=FRAMES_WAITING,
            )
        except InvalidStatus as error:
            raise _no_upgrade(error.response.status_code) from None
        except (OSError, TimeoutError, WebSocketException) as error:
            raise _down(f"Alpaca's stream cannot be reached: {type(error).__name__}") from None
        try:
            async with asyncio.timeout(options.timeout_s):
                await self._enter()
        except TimeoutError:
            await self._close()
            raise _down(f"Alpaca's stream did not answer within {options.timeout_s:g} s") from None
        except FeedError:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def messages(self) -> list[Message]:
        """Return the next messages. Raises VendorDown at the connection's end and after silence; errors of Alpaca's."""
        if self._waiting:
            found, self._waiting = self._waiting, []
        else:
            try:
                async with asyncio.timeout(self._silence_s):
                    found = await self._frame()
            except TimeoutError:
                raise _down(f"Alpaca's stream was silent for {self._silence_s:g} s") from None
        for message in found:
            if message.get("T") == "error":
                raise refusal(int(message.get("code", 0)), str(message.get("msg", "")))
        return found

    async def _enter(self) -> None:
        options = self._options
        await self._expect("success", "connected")
        await self._send({"action": "auth", "key": options.api_key, "secret": options.secret_key})
        await self._expect("success", "authenticated")
        wanted = {
            name: list(options.symbols)
            for name, asked in (("trades", options.trades), ("bars", options.bars), ("updatedBars", options.bars))
            if asked
        }
        await self._send({"action": "subscribe", **wanted})
        answer = await self._expect("subscription")
        for name, symbols in wanted.items():
            missing = [s for s in symbols if s not in (answer.get(name) or ())]
            if missing:
                raise MalformedData(
                    f"Alpaca's stream does not give {name} of {', '.join(missing[:5])}.",
                    next_step="Correct the symbols (--symbols, or universe in the configuration).",
                    symbols=missing,
                )

    async def _expect(self, kind: str, said: str | None = None) -> Message:
        """Return the next message of that kind; market data that comes with it is kept."""
        while True:
            for place, message in enumerate(found := await self.messages()):
                if message.get("T") == kind and said in (None, message.get("msg")):
                    self._waiting = found[place + 1 :]
                    return message

    async def _frame(self) -> list[Message]:
        assert self._socket is not None
        try:
            frame = await self._socket.recv()
        except ConnectionClosed as closed:
            raise _down(f"Alpaca's stream was cut: {closed}") from None
        return decode(frame)

    async def _send(self, document: Message) -> None:
        assert self._socket is not None
        packed = msgpack.packb(document) if self._options.codec == "msgpack" else json.dumps(document)
        try:
            await self._socket.send(packed)
        except ConnectionClosed as closed:
            raise _down(f"Alpaca's stream was cut: {closed}") from None

    async def _close(self) -> None:
        if self._socket is not None:
            await self._socket.close()


def decode(frame: str | bytes) -> list[Message]:
    """Return the messages of a frame; times of MessagePack are int ns since 1970. Raises MalformedData."""
    try:
        found = json.loads(frame) if isinstance(frame, str) else msgpack.unpackb(frame, timestamp=2)
        return list(map(dict, found if isinstance(found, Sequence) else [found]))
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise MalformedData(
            f"a frame of Alpaca's stream cannot be read: {type(error).__name__}.",
            next_step="It is connected anew; if it stays so, Alpaca has changed its stream.",
        ) from None


def _no_upgrade(status: int) -> FeedError:
    if status in (401, 403):
        return AuthFailed(f"Alpaca's stream answered {status}.", next_step="Check the key in .env.", status=status)
    if status == 429:
        return Throttled("Alpaca's stream answered 429: connected too often.", next_step="Nothing: it waits.")
    return _down(f"Alpaca's stream answered {status} in the place of a WebSocket")


def _down(text: str) -> VendorDown:
    return VendorDown(f"{text}.", next_step="Nothing: it is connected anew, and REST gives what was missed.")
