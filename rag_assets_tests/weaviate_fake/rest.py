"""The REST side: what it is, schemas, tenants, aliases."""

import json
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from rag_assets_tests.weaviate_fake.storage import FakeCollection, completed

if TYPE_CHECKING:
    from rag_assets_tests.weaviate_fake.server import FakeWeaviate

Answer = tuple[int, Any]
IMMUTABLE = ("maxConnections", "efConstruction", "distance")


class Handler(BaseHTTPRequestHandler):
    """One request after the other on a kept connection."""

    protocol_version = "HTTP/1.1"
    fake: "FakeWeaviate"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.fake.note(self.command, parts.path)
        if self.fake.api_key and self.headers.get("Authorization") != f"Bearer {self.fake.api_key}":
            status, answer = (
                401,
                {"code": 401, "message": "anonymous access not enabled, please provide an auth scheme"},
            )
        else:
            with self.fake.lock:
                status, answer = _route(
                    self.fake,
                    self.command,
                    parts.path.removeprefix("/v1/").split("/"),
                    json.loads(body) if body else None,
                    {key: value[0] for key, value in parse_qs(parts.query).items()},
                )
        data = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _error(status: int, message: str) -> Answer:
    return status, {"error": [{"message": message}]}


def _route(fake: "FakeWeaviate", method: str, path: list[str], body: Any, query: dict[str, str]) -> Answer:
    match (method, path):
        case "GET", ["meta"]:
            return 200, {
                "version": fake.version,
                "hostname": "http://[::]:8080",
                "modules": {},
                "grpcMaxMessageSize": 104858000,
            }
        case "GET", [".well-known", "live" | "ready"]:
            return 200, None
        case _, ["schema", *rest]:
            return _schema(fake, method, rest, body)
        case _, ["aliases", *rest]:
            return _aliases(fake, method, rest, body, query)
    return 404, None


def _schema(fake: "FakeWeaviate", method: str, path: list[str], body: Any) -> Answer:
    if not path:
        if method == "GET":
            return 200, {"classes": [item.schema for item in fake.collections.values()]}
        if body["class"] in fake.collections or body["class"] in fake.aliases:
            return _error(422, f"class name {body['class']} already exists")
        fake.collections[body["class"]] = FakeCollection(completed(body))
        return 200, fake.collections[body["class"]].schema
    name = fake.aliases.get(path[0], path[0])
    found = fake.collections.get(name)
    if len(path) == 1 and method == "DELETE":
        fake.collections.pop(name, None)
        return 200, None
    if found is None:
        return 404, None
    match (method, path[1:]):
        case "GET", []:
            return 200, found.schema
        case "PUT", []:
            return _update(found, completed(body))
        case "POST", ["tenants"]:
            for tenant in body:
                found.tenants.setdefault(tenant["name"], {})
            return 200, [{"name": tenant["name"], "activityStatus": "ACTIVE"} for tenant in body]
    return 404, None


def _update(found: FakeCollection, wanted: dict[str, Any]) -> Answer:
    for name, config in found.schema.get("vectorConfig", {}).items():
        changed = wanted["vectorConfig"][name]["vectorIndexConfig"]
        for key in IMMUTABLE:
            if config["vectorIndexConfig"][key] != changed[key]:
                return _error(422, f"{key} is immutable: attempted change from {config['vectorIndexConfig'][key]!r}")
    found.schema = wanted
    return 200, wanted


def _aliases(fake: "FakeWeaviate", method: str, path: list[str], body: Any, query: dict[str, str]) -> Answer:
    match (method, path):
        case "GET", []:
            of = query.get("class")
            return 200, {"aliases": [{"alias": a, "class": c} for a, c in fake.aliases.items() if of in (None, c)]}
        case "POST", []:
            if body["alias"] in fake.aliases or body["alias"] in fake.collections:
                return _error(422, f"create alias: {body['alias']} already exists")
            if body["class"] not in fake.collections:
                return _error(422, f"create alias: class {body['class']} does not exist")
            fake.aliases[body["alias"]] = body["class"]
            return 200, body
    (name,) = path
    if name not in fake.aliases:
        return 404, None
    match method:
        case "GET":
            return 200, {"alias": name, "class": fake.aliases[name]}
        case "PUT":
            if body["class"] not in fake.collections:
                return _error(422, f"update alias: class {body['class']} does not exist")
            fake.aliases[name] = body["class"]
            return 200, {"alias": name, "class": body["class"]}
        case "DELETE":
            del fake.aliases[name]
            return 204, None
    return 405, None
