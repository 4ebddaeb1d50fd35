"""The API's description as a page for people: plain HTML with its style in it, and nothing from anywhere else. Pure.

Every text is escaped. The page runs no script, and its policy lets it run none.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

STYLE = files(__package__).joinpath("docs.css").read_text("utf-8")
POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: this style, and nothing else."""

_ASKS = {
    "signature": "signed by a user",
    "invite": "signed by an invite's holder",
    "bootstrap": "with the bootstrap token",
}
_GROUPS = (
    ("The bus and joining", r"/v1/(bus|join)$"),
    ("The directory", r"/v1/directory/"),
    ("Rooms", r"/v1/rooms(/\{room\}/(records|keys))?$"),
    ("Blobs", r"/v1/rooms/\{room\}/blobs"),
    ("Operating a node", r""),
)

Json = Mapping[str, Any]


def render(document: Json) -> str:
    """The page that shows an OpenAPI document of ours."""
    groups = _grouped(document["paths"])
    info, models = document["info"], document["components"]["schemas"]
    main = [
        f"<h1>{escape(info['title'])}</h1>",
        f'<p class="version">Version {escape(info["version"])}, OpenAPI {escape(document["openapi"])}: '
        '<a href="/openapi.json">openapi.json</a></p>',
        _prose(info["description"]),
        '<h2 id="signing">Who asks</h2>',
        *(_scheme(name, scheme) for name, scheme in document["components"]["securitySchemes"].items()),
    ]
    for title, operations in groups:
        main.append(f"<h2>{escape(title)}</h2>")
        main.extend(_operation(*operation) for operation in operations)
    main.append('<h2 id="models">Models</h2>')
    main.extend(_model(name, models[name]) for name in sorted(models))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(info['title'])}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<div class="page">\n{_contents(groups)}\n<main>\n' + "\n".join(main) + "\n</main>\n</div>\n</body>\n</html>\n"
    )


def _grouped(paths: Json) -> list[tuple[str, list[tuple[str, str, Json]]]]:
    groups: list[tuple[str, list[tuple[str, str, Json]]]] = [(title, []) for title, _ in _GROUPS]
    for path, methods in paths.items():
        place = next(number for number, (_, pattern) in enumerate(_GROUPS) if re.match(pattern, path))
        groups[place][1].extend((method, path, made) for method, made in methods.items() if method != "head")
    return groups


def _contents(groups: Iterable[tuple[str, list[tuple[str, str, Json]]]]) -> str:
    lines = []
    for title, operations in groups:
        lines.append(f"<strong>{escape(title)}</strong>")
        lines.extend(
            f'<a href="#{escape(made["operationId"])}">{_badge(method)}<span>{escape(_short(path))}</span></a>'
            for method, path, made in operations
        )
    return (
        '<nav aria-label="Contents"><details><summary>Contents</summary>'
        + "\n".join(lines)
        + '<strong><a href="#models">Models</a></strong></details></nav>'
    )


def _short(path: str) -> str:
    return path.removeprefix("/v1").replace("/rooms/{room}/blobs", "…/blobs")


def _badge(method: str) -> str:
    return f'<span class="method {method}">{method.upper()}</span>'


def _scheme(name: str, scheme: Json) -> str:
    return (
        f'<section id="by-{escape(name)}"><h3><code>{escape(name)}</code></h3>{_prose(scheme["description"])}</section>'
    )


def _operation(method: str, path: str, made: Json) -> str:
    asks = [name for scheme in made["security"] for name in scheme]
    who = f'<a href="#by-{asks[0]}">{_ASKS[asks[0]]}</a>' if asks else "by anybody"
    said, refused = _answers(made["responses"])
    parts = [
        f'<section id="{escape(made["operationId"])}">',
        f'<h3>{_badge(method)}<code>{escape(path)}</code><span class="asks">{who}</span></h3>',
        _prose(made["summary"]),
        _prose(made.get("description", "")),
    ]
    if made.get("parameters"):
        rows = ((p["name"], f"{_form(p['schema'])}{_place(p)}", escape(p["description"])) for p in made["parameters"])
        parts += ["<h4>Parameters</h4>", _list(rows)]
    if "requestBody" in made:
        parts += ["<h4>Body</h4>", f"<p>{_bodies(made['requestBody']['content'])}</p>"]
    parts += [
        "<h4>Answers</h4>",
        _list(said),
        "<details><summary>Refusals</summary>",
        _list(refused),
        "</details></section>",
    ]
    return "".join(part for part in parts if part)


Rows = list[tuple[str, str, str]]


def _answers(responses: Json) -> tuple[Rows, Rows]:
    said: Rows = []
    refused: Rows = []
    for status, made in sorted(responses.items()):
        bodies = {kind: body for kind, body in made.get("content", {}).items() if kind != "application/problem+json"}
        text, *codes = re.split(r"\n- ", made["description"])
        if bodies or not codes:
            said.append((status, _bodies(bodies), escape(text)))
        if codes:
            listed = "".join(f"<li>{_marked(code)}</li>" for code in codes)
            refused.append((status, "", f"<ul>{listed}</ul>"))
    return said, refused


def _place(parameter: Json) -> str:
    needed = ", required" if parameter["required"] and parameter["in"] != "path" else ""
    return f", {escape(parameter['in'])}{needed}"


def _bodies(content: Json) -> str:
    return " or ".join(
        _form(body["schema"]) if body["schema"] else f"<code>{escape(kind)}</code>" for kind, body in content.items()
    )


def _model(name: str, schema: Json) -> str:
    required = set(schema.get("required", ()))
    rows = (
        (member, _form(form) + ("" if member in required else ", optional"), "")
        for member, form in schema.get("properties", {}).items()
    )
    heading = f"<h3><code>{escape(name)}</code></h3>"
    return f'<section id="{escape(name)}">{heading}{_prose(schema.get("description", ""))}{_list(rows)}</section>'


def _list(rows: Iterable[tuple[str, str, str]]) -> str:
    made = (
        f"<dt><code>{escape(name)}</code></dt><dd>{text}{' ' if text and form else ''}"
        + (f'<span class="form">{form}</span>' if form else "")
        + "</dd>"
        for name, form, text in rows
    )
    return f"<dl>{''.join(made)}</dl>"


def _form(schema: Json) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_form(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    kind: str = schema.get("type", "anything")
    words = f"list of {_form(schema['items'])}" if kind == "array" else kind
    if "minimum" in schema:
        words += f" from {schema['minimum']:,}" + (f" to {schema['maximum']:,}" if "maximum" in schema else "")
    if "maxLength" in schema:
        words += f" of at most {schema['maxLength']:,} characters"
    if "pattern" in schema:
        words += f", <code>{escape(schema['pattern'])}</code>"
    return words


def _prose(text: str) -> str:
    return "".join(f"<p>{_marked(' '.join(part.split()))}</p>" for part in text.split("\n\n") if part.strip())


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
