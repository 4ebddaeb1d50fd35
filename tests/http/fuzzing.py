"""Schemathesis against a running daemon: asks what the description allows, and what it forbids, with signed requests.

Each answer must be one that the description knows: status, media type, body and headers. None may be a server's error.
"""

import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from requests import PreparedRequest
from requests.auth import AuthBase
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from unibus.crypto import httpsig
from unibus.crypto.encoding import b64u
from unibus.crypto.nkeys import SigningKey

# A well-formed record may still be one that nobody signed, and what is too large is refused before it is looked at.
_REFUSALS = ["400", "401", "403", "404", "405", "409", "413", "422"]
_SETTINGS: Mapping[str, Any] = {
    "generation": {"deterministic": True, "database": "none"},
    "phases": {"stateful": {"enabled": False}},
    "checks": {
        "positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", *_REFUSALS]},
        "negative_data_rejection": {"expected-statuses": _REFUSALS},
        # A founder without a token hears the same as one with a wrong token.
        "missing_required_header": {"enabled": False},
    },
}


class Signing(AuthBase):
    """Signs each request as it goes out, for the library that Schemathesis sends with."""

    def __init__(self, key: SigningKey, bus: str) -> None:
        self._key = key
        self._bus = bus

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        body = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
        nonce, created = b64u(secrets.token_bytes(16)), int(time.time())
        request.headers.update(
            httpsig.sign(
                self._key, str(request.method), str(request.url), body, bus=self._bus, created=created, nonce=nonce
            )
        )
        return request


@dataclass
class Findings:
    """What came of it: statuses by operation, and in `wrong` what should not be, one line each."""

    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    wrong: set[str] = field(default_factory=set)


def explore(url: str, document: Mapping[str, Any], signing: Signing, examples: int) -> Findings:
    """Ask the daemon at `url` `examples` things an operation and phase. Blocks."""
    settings = {**_SETTINGS, "generation": {**_SETTINGS["generation"], "max-examples": examples}}
    schema = schemathesis.openapi.from_dict(dict(document), config=SchemathesisConfig.from_dict(settings))
    schema.config.update(base_url=url)
    schema.auth.set_from_requests(signing)
    findings = Findings()
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished(recorder=recorder):
                for interaction in recorder.interactions.values():
                    if interaction.response is not None:
                        findings.statuses[recorder.label][interaction.response.status_code] += 1
                for check in (check for checks in recorder.checks.values() for check in checks):
                    if check.failure_info is not None:
                        failure = check.failure_info.failure
                        findings.wrong.add(f"{recorder.label}: {check.name}: {failure.title}: {failure.message}")
            case events.NonFatalError() | events.FatalError():
                findings.wrong.add(str(event))
    return findings
