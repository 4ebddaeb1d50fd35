"""Every error that unibus raises on purpose, one class a cause, and the one table that maps them.

A class carries its stable `code` (the tail of the problem type, `urn:unibus:problem:<code>`), its HTTP
`status` and a short `title`. The message says what is wrong and what to do next, because it is shown to people
as it stands. The daemon turns an error into problem+json (RFC 9457) and the client turns that back into the
same class, both through `BY_CODE`.

This module must never import anything of the project: every layer raises from here.
"""

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ssl import SSLCertVerificationError

PROBLEM_PREFIX = "urn:unibus:problem:"


class UnibusError(Exception):
    """Base of all errors that unibus raises on purpose. `extra` holds further public members of the problem."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "the server made a mistake"

    def __init__(self, message: str = "", /, **extra: object) -> None:
        super().__init__(message or self.title)
        self.extra: Mapping[str, object] = extra
        self.noted = False  # whether the audit trail has it already

    @property
    def message(self) -> str:
        return str(self.args[0])


# What was sent is not of the right form.


class InvalidInput(UnibusError):
    """A value is outside its grammar: a handle, a name, a key, a parameter."""

    code, status, title = "invalid-input", 400, "a value is not of the required form"


class ListTooLong(InvalidInput):
    """More entries were sent, or asked for in one answer, than a list takes."""

    code, status, title = "list-too-long", 400, "a list has more entries than are taken"


class MalformedRecord(UnibusError):
    """Bytes that are not a record: not a JWS, wrong header, bad signature, unknown type, fields amiss."""

    code, status, title = "malformed-record", 400, "this is not a well-formed signed record"


class NameInvalid(MalformedRecord):
    """A handle or a room's name that is too long, too short or outside its grammar."""

    code, status, title = "name-invalid", 400, "a handle or a room's name is not of the required form"


class TooLarge(UnibusError):
    """Something is larger than its limit."""

    code, status, title = "too-large", 413, "this is larger than the limit"


class TargetTooLong(UnibusError):
    code, status, title = "target-too-long", 414, "the request's address is longer than the limit"


class HeadersTooLarge(UnibusError):
    code, status, title = "headers-too-large", 431, "the request's headers are larger or more than the limit"


class RequestTimeout(UnibusError):
    """The sender took too long to send what it had announced."""

    code, status, title = "request-timeout", 408, "the request did not arrive in time"


# Who is asking, and may they.


class SignatureMissing(UnibusError):
    code, status, title = "signature-missing", 401, "this request must be signed"


class SignatureInvalid(UnibusError):
    code, status, title = "signature-invalid", 401, "the request's signature does not hold"


class SignatureStale(UnibusError):
    """The signature's `created` is outside the window around the server's clock."""

    code, status, title = "signature-stale", 401, "the signature is too old or from the future"


class NonceReplayed(UnibusError):
    code, status, title = "nonce-replayed", 401, "this signed request was already used"


class NonceUnknown(UnibusError):
    """The request names a node's nonce that is not one of this node's newest. It may be signed again."""

    code, status, title = "nonce-unknown", 401, "the request names a nonce that this node does not know"


class NotAUser(UnibusError):
    """The signer is not in the directory, or no longer."""

    code, status, title = "not-a-user", 403, "this identity is not an active user of the bus; ask an admin to add it"


class WrongBus(UnibusError):
    """Something that belongs to another bus: a signature, a record, a newcomer's expectation."""

    code, status, title = "wrong-bus", 403, "this belongs to another bus"


class Forbidden(UnibusError):
    """The signer is known and may not do this."""

    code, status, title = "forbidden", 403, "this is not allowed"


class BootstrapRefused(UnibusError):
    code, status, title = "bootstrap-refused", 403, "the bootstrap token is wrong or was already used"


# The state does not allow it.


class NotFound(UnibusError):
    code, status, title = "not-found", 404, "there is nothing here for you"


class HeadConflict(UnibusError):
    """The record does not extend the log's head. `extra` carries the head: `sequence` and `hash`."""

    code, status, title = "head-conflict", 409, "the log has moved on"


class UploadConflict(UnibusError):
    """A part of an upload that does not begin where the one before ended. `extra` carries the `offset` to go on at."""

    code, status, title = "upload-conflict", 409, "the upload does not go on here"


class RuleBroken(UnibusError):
    """A well-formed record that the log's rules refuse, whoever signs it: a handle taken, a member twice."""

    code, status, title = "rule-broken", 422, "the log's rules do not allow this record"


class InviteUnknown(UnibusError):
    code, status, title = "invite-unknown", 404, "this bus knows no such invite"


class InviteUsed(UnibusError):
    code, status, title = "invite-used", 409, "this invite was used already: ask for another"


class InviteExpired(UnibusError):
    code, status, title = "invite-expired", 410, "this invite has expired: ask for another"


class InviteWithdrawn(UnibusError):
    code, status, title = "invite-withdrawn", 410, "this invite was withdrawn: ask for another"


class LimitReached(UnibusError):
    code, status, title = "limit-reached", 422, "a limit is reached"


class QuotaExceeded(UnibusError):
    """No room is left for this in what the user, or the whole bus, may keep."""

    code, status, title = "quota-exceeded", 413, "no more may be stored"


class DigestMismatch(UnibusError):
    """Bytes whose hash is not the one that they were announced under."""

    code, status, title = "digest-mismatch", 422, "the bytes do not have the announced digest"


# The node cannot serve now.


class StorageUnavailable(UnibusError):
    """The store cannot read or write now: disk full, disk error, closed."""

    code, status, title = "storage-unavailable", 503, "the store cannot be read or written now"


class NoQuorum(StorageUnavailable):
    """No majority of the cluster's nodes can be reached, or they are just choosing a leader. Nothing was done."""

    code, status, title = "no-quorum", 503, "the cluster has no quorum now"


class BusUnavailable(UnibusError):
    """nats-server does not answer now."""

    code, status, title = "bus-unavailable", 503, "the message bus does not answer now"


class AnswerTimeout(UnibusError):
    """The node took too long to do what was asked. It may have been done: read before asking for something else."""

    code, status, title = "answer-timeout", 504, "the node did not finish in time"


class ConnectionsExhausted(UnibusError):
    code, status, title = "connections-exhausted", 503, "the node has as many connections as it takes"


class JustRestored(UnibusError):
    """The bus was put back from a backup a moment ago. `extra` carries `retry_after`, in seconds."""

    code, status, title = "just-restored", 503, "the bus was restored a moment ago and takes no requests yet"


class RateLimited(UnibusError):
    """More requests than an identity, or an address, may send. `extra` carries `retry_after`, in seconds."""

    code, status, title = "rate-limited", 429, "too many requests came at once"


# Only on the client's side: the server, or somebody on it, is not to be trusted. Never sent over HTTP.


class Untrusted(UnibusError):
    """Base of everything that only a faulty or lying server or sender can cause."""

    code, status, title = "untrusted", 500, "what the server sent does not hold"


class CertificateRefused(Untrusted):
    """The node's certificate is not one that the client trusts: another authority, another host, expired."""

    code, status, title = "certificate-refused", 500, "the node's certificate is not to be trusted"


class TlsDowngraded(Untrusted):
    """A node that is reached over TLS wants the messages' plane without."""

    code, status, title = "tls-downgraded", 500, "the node asks for an unprotected connection to the bus"


class LogRolledBack(Untrusted):
    code, status, title = "log-rolled-back", 500, "the server shows a log shorter than the one seen before"


class LogForked(Untrusted):
    code, status, title = "log-forked", 500, "the server shows a log that differs from the one seen before"


class LogInvalid(Untrusted):
    """A record in a log from the server does not verify or breaks the log's rules."""

    code, status, title = "log-invalid", 500, "the server shows a log that breaks its own rules"


class SealedKeyMissing(Untrusted):
    code, status, title = "sealed-key-missing", 500, "the server withholds a room key sealed to this identity"


class SealedKeyInvalid(Untrusted):
    code, status, title = "sealed-key-invalid", 500, "a sealed room key does not open to the key in the record"


class FrameInvalid(Untrusted):
    """A frame that is not what a member of the room can have sent: form, signature, sender, decryption."""

    code, status, title = "frame-invalid", 500, "a message frame does not verify"


class FrameReplayed(Untrusted):
    code, status, title = "frame-replayed", 500, "a message frame was shown twice or moved"


class FrameReordered(Untrusted):
    """A frame that comes after later ones of its session: stored or shown in another order than it was sent in."""

    code, status, title = "frame-reordered", 500, "a message frame is not in its place"


class FrameMissing(Untrusted):
    """Frames that were stored and are not shown: deleted or withheld. What comes after them is there all the same."""

    code, status, title = "frame-missing", 500, "message frames are missing"


class OldEpoch(Untrusted):
    """A frame sealed under a key from before a removal, sent by somebody who knew of the removal."""

    code, status, title = "old-epoch", 500, "a message frame uses a room key from before a removal"


class SignalStale(Untrusted):
    """A signal from longer ago than it may travel: kept back and shown later, or sent by a clock that is wrong."""

    code, status, title = "signal-stale", 500, "a signal is too old or from the future"


class BlobInvalid(Untrusted):
    """A blob or its manifest that is not what a member of the room can have stored: altered, cut, extended, swapped."""

    code, status, title = "blob-invalid", 500, "a blob does not verify"


class BackupInvalid(UnibusError):
    """A backup that was altered, cut, mixed up or not signed by an admin of its bus. Never sent over HTTP."""

    code, status, title = "backup-invalid", 500, "this backup does not verify"


class Unanswered(UnibusError):
    """A question to another member that was not answered within its deadline. Base of the reasons that are known."""

    code, status, title = "unanswered", 504, "there was no answer in time"


class NobodyThere(Unanswered):
    code, status, title = "nobody-there", 503, "who was asked is not listening now"


class Declined(Unanswered):
    code, status, title = "declined", 403, "who was asked does not answer this"


class KeyCustody(UnibusError):
    """An identity or secret file is missing, too widely readable, or not what it should be."""

    code, status, title = "key-custody", 500, "a secret file is not safe to use"


class Unreachable(UnibusError):
    """No answer from the daemon."""

    code, status, title = "unreachable", 503, "the daemon does not answer"


class StartRefused(UnibusError):
    """The daemon will not start like this. The message names what to change."""

    code, status, title = "start-refused", 500, "the daemon cannot start like this"


def _all(base: type[UnibusError]) -> list[type[UnibusError]]:
    return [base, *(found for sub in base.__subclasses__() for found in _all(sub))]


BY_CODE: Mapping[str, type[UnibusError]] = {error.code: error for error in _all(UnibusError)}


def from_code(code: str, message: str, extra: Mapping[str, object]) -> UnibusError:
    """The error that a problem stands for; an unknown code becomes a plain `UnibusError` with its message."""
    return BY_CODE.get(code, UnibusError)(message, **extra)


def reason_of(error: OSError) -> str:
    """Why the system refused, in its own words and in lower case, to stand in the middle of a message."""
    return (error.strerror or str(error)).lower()


def reason_by_number(error: OSError) -> str:
    """As `reason_of`, for a connection or a listener, of whose refusal asyncio gives words of its own."""
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else reason_of(error)


def is_disk_full(error: OSError) -> bool:
    """Whether the system refused because the disk, or the user's share of it, has no more room for this."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def reason_untrusted(error: "SSLCertVerificationError", option: str) -> str:
    """Why a certificate was not taken, and what to do; `option` is the one that names authorities."""
    remedy = _REMEDIES.get(error.verify_code, f"name its authority with {option}")
    return f"{error.verify_message.lower().rstrip('.')}; {remedy}"


_REMEDIES = {  # by OpenSSL's numbers: what no other authority would mend
    9: "set this machine's clock right, or wait",
    10: "its operator has to renew it, or this machine's clock is wrong",
    62: "dial a name that it has",
    64: "dial a name that it has",
}
