"""Whether a nats-server that somebody else runs is set up as a bus needs it. Reads back, compares, changes nothing.

What must hold: the daemon's logins are in their own accounts, JetStream is in CORE and not with the members, those
reach of CORE what `config.access` shares and no more, and its limits carry our frames. Must never take an answer that
it does not understand for a good one.
"""

import ssl
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ValidationError

from unibus.bus.binary import MIN_VERSION
from unibus.bus.config import AUTH_TIMEOUT, MAX_CONTROL_LINE, MEMBERS, SHARED
from unibus.bus.links import Links
from unibus.errors import BusUnavailable, reason_untrusted

ADVICE = ": put what unibus nats-config prints for this data directory into its configuration"


class Unfit(Exception):
    """What is wrong with the server, in words that follow its name."""


class _Export(BaseModel):
    subject: str
    type: str
    approved_accounts: list[str] = []


class _Import(BaseModel):
    subject: str
    type: str
    account: str
    local_subject: str = ""
    to: str = ""


class _Account(BaseModel):
    account_name: str
    jetstream_enabled: bool = False
    exports: list[_Export] = []
    imports: list[_Import] = []
    mappings: dict[str, object] = {}


class _Detail(BaseModel):
    account_detail: _Account


class _Accounts(BaseModel):
    data: _Detail


class _Listener(BaseModel):
    port: int = 0


class _Variables(BaseModel):
    max_payload: int
    max_control_line: int
    auth_timeout: float
    config_load_time: str
    config_digest: str = ""
    leaf: _Listener = _Listener()
    gateway: _Listener = _Listener()
    mqtt: _Listener = _Listener()


class _Described(BaseModel):
    data: _Variables


class _Id(BaseModel):
    id: str


class _User(BaseModel):
    account: str


class _Who(BaseModel):
    server: _Id
    data: _User


def greeting_trouble(told: Mapping[str, object], *, secure: bool) -> str | None:
    """What is wrong with a server that greets like this, if that can be seen; `secure` is whether it is over TLS."""
    version = str(told["version"])
    numbers = tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdigit())
    if len(numbers) < 3 or numbers < MIN_VERSION:
        return f"is version {version}, but {'.'.join(map(str, MIN_VERSION))} or newer is needed: upgrade it"
    if told.get("tls_required") and not secure:
        return "wants tls: write tls:// in --nats-url"
    if not told.get("auth_required"):
        return f"lets everybody in{ADVICE}"
    if not told.get("jetstream"):
        return "has no jetstream: put jetstream { store_dir: …, sync_interval: always } into its configuration"
    return None


def why_unreached(error: Exception) -> str:
    """The reason for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason_untrusted(error, '--nats-ca')}"
    if isinstance(error, ssl.SSLError):
        return 'it does not begin with tls: put handshake_first: "500ms" into the tls block of its configuration'
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "it says nothing" if isinstance(error, TimeoutError) else str(error).lower()


async def one_server(links: Links) -> str:
    """The id (`N…`) of the one server at which all links are, each in its account. Raises Unfit, BusUnavailable."""
    found = set()
    for client, account in ((links.core, "CORE"), (links.auth, "AUTH"), (links.system, "SYS")):
        try:
            who = _Who.model_validate(await links.whoami(client))
        except ValidationError as error:
            raise BusUnavailable("nats-server does not say who its daemon is") from error
        if who.data.account != account:
            raise Unfit(f"has the daemon's login for {account} in the account {who.data.account}{ADVICE}")
        found.add(who.server.id)
    if len(found) > 1:
        raise Unfit("is several servers: name the address of one")
    return found.pop()


async def look(links: Links, server: str, max_payload: int) -> str:
    """Read back how the server `server` is set up; what `settings` says of it now. Raises Unfit, BusUnavailable."""
    core, members, auth = [await _account(links, server, name) for name in ("CORE", MEMBERS, "AUTH")]
    described = await _variables(links, server)
    troubles = (
        *access_troubles(core, members, auth),
        *listener_troubles(described),
        *limit_troubles(described, max_payload),
    )
    if troubles:
        raise Unfit(f"{troubles[0]}{ADVICE}")
    return _mark(described)


async def settings(links: Links, server: str) -> str:
    """Another text after each time that the server took in a configuration. Raises BusUnavailable."""
    return _mark(await _variables(links, server))


def access_troubles(core: _Account, members: _Account, auth: _Account) -> Iterable[str]:
    """What the accounts have, or lack, against `config.access`."""
    if not core.jetstream_enabled:
        yield "has no jetstream in its account CORE"
    if members.jetstream_enabled:
        yield "has its members beside jetstream, where one of them could command it"
    if _exported(core) != {(kind, subject, (MEMBERS,)) for kind, subject in SHARED}:
        yield "shares other subjects of CORE than a bus does"
    if auth.exports:
        yield "shares subjects of AUTH, where it is decided who may connect"
    shared = {(kind, "CORE", subject, subject) for kind, subject in SHARED}
    for account in (core, members, auth):
        name = account.account_name
        if _imported(account) - _given_to(name) != (shared if account is members else set()):
            yield f"brings other subjects into {name} than a bus does"
        if account.mappings:  # what a member publishes would arrive as something else
            yield f"maps subjects of its account {name} to others"


def listener_troubles(described: _Variables) -> Iterable[str]:
    """Which other ways in there are: who comes by them does not come as a client that this daemon decides on."""
    for what, listener in (("leafnodes", described.leaf), ("gateways", described.gateway), ("mqtt", described.mqtt)):
        if listener.port:
            yield f"listens for {what}, which a bus does not use"


def limit_troubles(described: _Variables, max_payload: int) -> Iterable[str]:
    """Which limits do not carry what a bus sends."""
    if described.max_payload < max_payload:
        yield f"takes messages of {described.max_payload} bytes, and not of {max_payload}"
    if described.max_control_line < MAX_CONTROL_LINE:
        yield f"takes lines of {described.max_control_line} bytes, and not of {MAX_CONTROL_LINE}"
    if described.auth_timeout > AUTH_TIMEOUT:
        yield f"gives {described.auth_timeout:g} seconds to be let in, and not {AUTH_TIMEOUT}"


def _given_to(name: str) -> set[tuple[str, str, str, str]]:
    """What nats-server by itself lets every account have of its system account: to ask about itself."""
    asked = (
        (f"$SYS.REQ.ACCOUNT.{name}.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ"),
        (f"$SYS.REQ.ACCOUNT.{name}.CONNZ", "$SYS.REQ.SERVER.PING.CONNZ"),
        (f"$SYS.REQ.ACCOUNT.{name}.STATZ", "$SYS.REQ.ACCOUNT.PING.STATZ"),
        (f"$SYS.REQ.USER.{name}.INFO", "$SYS.REQ.USER.INFO"),
        ("$JS.API.>", "$JS.API.>"),
    )
    return {("service", "SYS", subject, local) for subject, local in asked}


def _exported(account: _Account) -> set[tuple[str, str, tuple[str, ...]]]:
    return {(one.type, one.subject, tuple(one.approved_accounts)) for one in account.exports}


def _imported(account: _Account) -> set[tuple[str, str, str, str]]:
    return {(one.type, one.account, one.subject, one.local_subject) for one in account.imports}


async def _account(links: Links, server: str, name: str) -> _Account:
    try:
        answer = await links.server(f"{server}.ACCOUNTZ", {"account": name})
        return _Accounts.model_validate(answer).data.account_detail
    except ValidationError as error:
        raise Unfit(f"has no account {name}{ADVICE}") from error


async def _variables(links: Links, server: str) -> _Variables:
    try:
        return _Described.model_validate(await links.server(f"{server}.VARZ")).data
    except ValidationError as error:
        raise BusUnavailable("nats-server's description of itself is not understood") from error


def _mark(described: _Variables) -> str:
    return f"{described.config_load_time} {described.config_digest}"
