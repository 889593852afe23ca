"""The exception tree. Each error says what, where, the value, the rule (message) and what to do next (next_step).

TradecoreError
├── ConfigError            a setting is missing, unknown or impossible
├── DatabaseError          no database, or one of another schema
│   ├── NoDatabase
│   └── SchemaTooNew
├── FeedError              a vendor did not give what was asked for
│   ├── NoSuchSymbol       final: the vendor does not know the symbol
│   ├── NoDataYet          later: the session is not published yet
│   ├── Throttled          later: too many requests
│   ├── AuthFailed         final: key missing, wrong or without the entitlement
│   ├── VendorDown         later: no connection, timeout, 5xx
│   └── MalformedData      final: an answer or file that cannot be read
├── ArchiveError           a file of archived data that cannot be trusted, or not be read back
├── BackupError            a backup that cannot be made, trusted or restored
├── SessionError
│   ├── NotASession        the date is no session of the calendar
│   └── OutOfOrder         only its next session moves a book
├── BookError              a book that does not exist, exists already, or does not agree
├── ApprovalRefused        an answer that comes too late, or to a sheet that is no longer the one
├── BrokerError            an order or a question did not get through to the venue as meant
│   ├── Rejected           final: the venue said no
│   ├── Unavailable        later: nothing was sent, or nothing was changed
│   └── Unknown            ask: the order may be at the venue; only a look-up by its id ends that
├── StrategyError          a strategy failed or returned what it may not
├── SweepError             a sweep cannot go on, or is not the one that was begun
├── ProofDiffers           a past session computed again gives something else than it gave
├── NotBuilt               an order type or feature that a later release brings
└── DeliveryError          an alert could not be delivered
"""

from __future__ import annotations

from typing import Any


class TradecoreError(Exception):
    """Base of all errors that tradecore raises on purpose.

    Parameters: message (what, where, value, rule); next_step (what the reader does now); any further keyword
    becomes an attribute and is listed by `details`. `retryable` tells the shell whether waiting can help.
    """

    retryable = False

    def __init__(self, message: str, *, next_step: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.details = details
        for key, value in details.items():
            setattr(self, key, value)

    def __str__(self) -> str:
        return f"{self.message} Next: {self.next_step}" if self.next_step else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.next_step, self.details))


def _rebuild(kind: type[TradecoreError], message: str, next_step: str, details: dict[str, Any]) -> TradecoreError:
    return kind(message, next_step=next_step, **details)


class ConfigError(TradecoreError):
    """A setting is missing, unknown, a placeholder, or has an impossible value."""


class DatabaseError(TradecoreError):
    """The database cannot be used as it is."""


class NoDatabase(DatabaseError):
    """No connection to the database could be made."""

    retryable = True


class SchemaTooNew(DatabaseError):
    """The database was migrated by a newer release than this one."""


class FeedError(TradecoreError):
    """A vendor or file did not give what was asked for."""


class NoSuchSymbol(FeedError):
    """The vendor does not know the symbol."""


class NoDataYet(FeedError):
    """The vendor has not published that session yet."""

    retryable = True


class Throttled(FeedError):
    """The vendor refuses because of too many requests."""

    retryable = True


class AuthFailed(FeedError):
    """The key is missing, wrong, or not entitled to what was asked for."""


class VendorDown(FeedError):
    """No connection, a timeout, or a server error at the vendor."""

    retryable = True


class MalformedData(FeedError):
    """An answer or a file that cannot be read as bars or actions."""


class ArchiveError(TradecoreError):
    """A file of archived data that cannot be trusted, or cannot be read back."""


class BackupError(TradecoreError):
    """A backup that cannot be made, trusted or restored; what was there before is as it was."""


class SessionError(TradecoreError):
    """A date and a calendar or book do not go together."""


class NotASession(SessionError):
    """The date is not a session of the calendar."""


class OutOfOrder(SessionError):
    """Only its next session moves a book."""

    retryable = True


class BookError(TradecoreError):
    """A book that does not exist, exists already, or does not agree with its record."""


class ApprovalRefused(TradecoreError):
    """A person's answer to an order sheet that cannot be taken: too late, or another sheet has taken its place."""


class BrokerError(TradecoreError):
    """A call to a broker did not end as meant."""


class Rejected(BrokerError):
    """The venue refused, for good. `code` says why in one word (see execution/broker.py)."""


class Unavailable(BrokerError):
    """The venue cannot be asked now; what was to be sent has certainly not been accepted."""

    retryable = True


class Unknown(BrokerError):
    """No answer, or one that says nothing: the order may have been accepted. Never resent blindly."""

    retryable = True


class StrategyError(TradecoreError):
    """A strategy raised, or returned something other than one finite score or NaN per symbol."""


class SweepError(TradecoreError):
    """A sweep or walk-forward that cannot go on: unknown, unfinished, or begun with other data, settings or code."""


class ProofDiffers(TradecoreError):
    """A session computed again from what its decision names differs. `stage` names the first one that does."""


class NotBuilt(TradecoreError):
    """A feature that is named in the design and not built yet; refused instead of guessed at."""


class DeliveryError(TradecoreError):
    """An alert could not be delivered over a channel."""

    retryable = True
