"""One declaration for each route, of which the route and its description are made: what it takes, answers, refuses.

A declaration stands beside its handler. What the handler does otherwise, the tests find by asking the real daemon all
that the description allows.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from aiohttp import web
from pydantic import BaseModel

from unibus.errors import (
    AnswerTimeout,
    ConnectionsExhausted,
    HeadersTooLarge,
    InvalidInput,
    InviteUnknown,
    JustRestored,
    ListTooLong,
    NonceReplayed,
    NonceUnknown,
    NotAUser,
    RateLimited,
    RequestTimeout,
    SignatureInvalid,
    SignatureMissing,
    SignatureStale,
    StorageUnavailable,
    TargetTooLong,
    TooLarge,
    UnibusError,
    WrongBus,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Problems = tuple[type[UnibusError], ...]

_ANY: Problems = (UnibusError, TargetTooLong, HeadersTooLarge, RateLimited, ConnectionsExhausted, AnswerTimeout)
_BODY: Problems = (InvalidInput, ListTooLong, TooLarge, RequestTimeout)
_SIGNED: Problems = (
    SignatureMissing,
    SignatureInvalid,
    SignatureStale,
    JustRestored,
    NonceReplayed,
    NonceUnknown,
    WrongBus,
    InvalidInput,
    ListTooLong,
    TooLarge,
    StorageUnavailable,
)


class Asker(Enum):
    """Who may ask, and so how a request proves itself."""

    ANYBODY = "anybody"
    FOUNDER = "founder"
    INVITED = "invited"
    USER = "user"

    @property
    def problems(self) -> Problems:
        """How the proof may fail."""
        match self:
            case Asker.USER:
                return (*_SIGNED, NotAUser)
            case Asker.INVITED:
                return (*_SIGNED, InviteUnknown)
            case _:
                return ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the address, or a header, that the handler reads. `form` is a JSON schema."""

    name: str
    place: str
    text: str
    form: Mapping[str, object]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered when all is well. `body` is a model, or the media type of what has none."""

    status: int
    text: str
    body: type[BaseModel] | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path, for `asker`.

    `takes` is the body's model or media type, `problems` are the refusals beside those that go without saying. `tagged`
    answers have an ETag; `head` lets HEAD ask too. `moves_blobs`: the time depends on sizes, and is bounded by what a
    block may take.
    """

    method: str
    path: str
    handler: Handler
    asker: Asker
    answers: Sequence[Answer]
    takes: type[BaseModel] | str | None = None
    parameters: Sequence[Parameter] = ()
    problems: Problems = ()
    tagged: bool = False
    head: bool = False
    moves_blobs: bool = False

    @property
    def name(self) -> str:
        """The handler's name, which is unique."""
        return self.handler.__name__

    @property
    def text(self) -> str:
        """What it does: the handler's docstring."""
        return inspect.getdoc(self.handler) or ""

    def all_problems(self) -> Problems:
        """Every refusal that a handler, or what stands before it, may answer with."""
        body = _BODY if self.takes else ()
        return tuple(dict.fromkeys((*_ANY, *self.asker.problems, *body, *self.problems)))
