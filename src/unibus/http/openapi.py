"""The description of the API (OpenAPI 3.1), made of the operations and of the models that their handlers use. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from unibus.errors import PROBLEM_PREFIX, UnibusError
from unibus.http.operations import Answer, Asker, Operation, Parameter
from unibus.http.parameters import IF_NONE_MATCH
from unibus.model.problem import CONTENT_TYPE, Problem

_ABOUT = """\
The control plane of a unibus node: who is on the bus, who is in which room, the sealed keys of rooms, and encrypted
blobs. Messages do not go this way, they go over NATS.

Nothing that a node answers is to be trusted: records verify by themselves. What has to be checked in them stands in
`docs/protocol.md`, with test vectors. This page does not replace it.

Every refusal is problem details (RFC 9457). A request with another method than its address takes (405) or an unknown
expectation (417) is refused with `about:blank` as the problem's type. Whoever asks for gzip gets answers of 1 KiB and
more compressed.
"""

_SCHEMES = {
    Asker.USER: (
        "signature",
        {
            "type": "http",
            "scheme": "signature",
            "description": "HTTP Message Signatures (RFC 9421) in one narrow profile. `Signature-Input` is "
            '`unibus=("@method" "@target-uri" "content-digest");created=…;nonce="…";alg="ed25519";keyid="U…";'
            'tag="unibus:<bus id>"`, with `content-digest` (RFC 9530, SHA-256) exactly where there is a body; '
            "`Signature` is `unibus=:…:`. `created` is within 60 s of the node's clock, a nonce is 16 random bytes in "
            "base64url and good once, `keyid` is the signer's public nkey. After a dot the nonce may name what the "
            "node's answers have in `Unibus-Nonce`: then no other node takes the request, and this one keeps the claim "
            "in memory. The whole profile and its test vectors: docs/protocol.md, “Signed requests”.",
        },
    ),
    Asker.INVITED: (
        "invite",
        {
            "type": "http",
            "scheme": "signature",
            "description": "As `signature`, signed with the invite's key instead of a user's.",
        },
    ),
    Asker.FOUNDER: (
        "bootstrap",
        {
            "type": "http",
            "scheme": "bearer",
            "description": "The one-time token in the file `bootstrap-token` of the node's data directory.",
        },
    ),
}

_PROBLEM_HEADERS: Mapping[int, tuple[str, str]] = {
    401: ("WWW-Authenticate", "names the scheme `Signature`"),
    429: ("Retry-After", "seconds to wait"),
}


def describe(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The whole document, ready for JSON."""
    models: set[type[BaseModel]] = {Problem}
    for operation in operations:
        bodies = (operation.takes, *(answer.body for answer in operation.answers))
        models.update(body for body in bodies if isinstance(body, type))
    ordered = sorted(models, key=lambda model: model.__name__)
    _, found = models_json_schema(
        [(model, "validation") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        methods = paths.setdefault(operation.path, {})
        methods[operation.method.lower()] = _operation(operation)
        if operation.head:
            methods["head"] = _headless(methods["get"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "unibus control plane",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": found["$defs"], "securitySchemes": dict(_SCHEMES.values())},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    summary, _, more = operation.text.partition("\n\n")
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": " ".join(summary.split()),
        "security": [{_SCHEMES[operation.asker][0]: []}] if operation.asker in _SCHEMES else [],
        "responses": {
            **{str(answer.status): _answer(answer) for answer in operation.answers},
            **_refusals(operation),
        },
    }
    parameters = list(operation.parameters)
    if operation.tagged:
        parameters.append(IF_NONE_MATCH)
        made["responses"]["200"]["headers"] = {"ETag": _header("names this answer, to the byte")}
        made["responses"]["304"] = {"description": "nothing has changed since the answer with that ETag"}
    if more:
        made["description"] = " ".join(more.split())
    if parameters:
        made["parameters"] = [_parameter(parameter) for parameter in parameters]
    if operation.takes is not None:
        made["requestBody"] = {"required": True, "content": _content(operation.takes)}
    return made


def _headless(operation: dict[str, Any]) -> dict[str, Any]:
    """The same for HEAD: no answer has a body."""
    bare = {
        status: {name: value for name, value in answer.items() if name != "content"}
        for status, answer in operation["responses"].items()
    }
    return {**operation, "operationId": f"{operation['operationId']}_head", "responses": bare}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.text,
        "schema": parameter.form,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    made: dict[str, Any] = {"description": answer.text}
    if answer.body is not None:
        made["content"] = _content(answer.body)
    if answer.headers:
        made["headers"] = {name: _header(text) for name, text in answer.headers.items()}
    return made


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}}


def _content(body: type[BaseModel] | str) -> dict[str, Any]:
    if isinstance(body, str):
        return {body: {"schema": {}}}
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}


def _refusals(operation: Operation) -> dict[str, dict[str, Any]]:
    by_status: dict[int, list[type[UnibusError]]] = {400: []}
    for problem in operation.all_problems():
        by_status.setdefault(problem.status, []).append(problem)
    # A status that also answers when all is not well but all is said, such as 503 of the health, keeps both bodies.
    spoken_for = {answer.status: answer for answer in operation.answers}
    return {str(status): _refusal(status, by_status[status], spoken_for.get(status)) for status in sorted(by_status)}


def _refusal(status: int, problems: Iterable[type[UnibusError]], other: Answer | None) -> dict[str, Any]:
    listed = list(problems)
    kinds = [PROBLEM_PREFIX + problem.code for problem in listed]
    said = [f"`{problem.code}`: {problem.title}" for problem in listed]
    if status == 400:
        kinds.append("about:blank")
        said.append("`about:blank`: this is no readable HTTP request")
    narrowed = {"type": "object", "properties": {"type": {"enum": kinds}, "status": {"const": status}}}
    schema = {"allOf": [{"$ref": f"#/components/schemas/{Problem.__name__}"}, narrowed]}
    text = [other.text] if other is not None else [HTTPStatus(status).phrase]
    made: dict[str, Any] = {"description": "\n".join((*text, *(f"- {line}" for line in said)))}
    made["content"] = {CONTENT_TYPE: {"schema": schema}} | (
        _content(other.body) if other is not None and other.body is not None else {}
    )
    if status in _PROBLEM_HEADERS:
        name, meaning = _PROBLEM_HEADERS[status]
        made["headers"] = {name: _header(meaning)}
    return made
