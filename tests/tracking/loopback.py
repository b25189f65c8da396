"""A server on this machine that speaks as much of W&B's protocol as the client asks for.

It shows what the client sends: which runs, with which points, under which names. It was written
from observing the client's requests and does not prove what W&B's own server does with them.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "somebody"


class Loopback(ThreadingHTTPServer):
    """The requests in order: GraphQL as (operation, variables), and the lines of each run."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.summaries: dict[str, dict[str, Any]] = {}
        self.bodies: list[bytes] = []
        self.takes = threading.Event()
        """Where it is cleared, uploads wait."""
        self.takes.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def of(self, operation: str) -> list[dict[str, Any]]:
        """The variables of every request of that name."""
        return [variables for name, variables in self.asked if name == operation]

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((operation, variables))
        made = getattr(self, f"_{operation}", None)
        return made(variables) if made is not None else {}

    def _Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}",
                           "teams": {"edges": []}}}  # fmt: skip

    def _RunResumeStatus(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["name"]
        bucket = None
        if name in self.runs:
            lines = self.lines.get(name, [])
            bucket = {
                "id": _id(name), "name": name, "historyLineCount": len(lines),
                "eventsLineCount": 0, "logLineCount": 0, "tags": self.runs[name].get("tags"),
                "historyTail": json.dumps([json.dumps(line) for line in lines[-1:]]),
                "eventsTail": "[]", "summaryMetrics": json.dumps(self.summaries.get(name, {})),
                "config": self.runs[name].get("config") or "{}", "wandbConfig": '{"t": 1}',
            }  # fmt: skip
        return {"model": {"id": _id("project"), "name": "project", "bucket": bucket}}

    def _UpsertBucket(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = asked["name"] in self.runs
        told = {key: value for key, value in asked.items() if value is not None}
        self.runs.setdefault(asked["name"], {}).update(told)
        bucket = {
            "id": _id(asked["name"]), "name": asked["name"], "displayName": asked["displayName"],
            "description": "", "config": asked["config"], "sweepName": None,
            "historyLineCount": len(self.lines.get(asked["name"], [])),
            "project": {"id": _id("project"), "name": asked["project"],
                        "entity": {"id": _id(ENTITY), "name": ENTITY}},
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": not known}}

    def _CreateRunFiles(self, asked: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": n, "uploadUrl": f"{self.url}/upload/{n}"} for n in asked["files"]]
        return {"createRunFiles": {"runID": _id("run"), "uploadHeaders": [], "files": files}}

    def _GetProjects(self, _: dict[str, Any]) -> dict[str, Any]:
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": []}}

    def _UpsertView2(self, asked: dict[str, Any]) -> dict[str, Any]:
        view = {"id": _id(asked["name"]), "name": asked["name"]}
        return {"upsertView": {"view": view, "inserted": True}}

    def _upsertView(self, asked: dict[str, Any]) -> dict[str, Any]:
        where = {"id": _id("project"), "name": asked["projectName"], "entityName": ENTITY}
        told = {key: asked[key] for key in ("name", "displayName", "description", "spec")}
        view = {**told, "id": _id(asked["name"]), "project": where}
        return {"upsertView": {"view": view, "inserted": True}}

    def stream(self, run: str, told: dict[str, Any]) -> None:
        """What a run's file stream holds: lines of its history, its summary."""
        files = told.get("files", {})
        for line in files.get("wandb-history.jsonl", {}).get("content", []):
            self.lines.setdefault(run, []).append(json.loads(line))
        for line in files.get("wandb-summary.json", {}).get("content", []):
            self.summaries[run] = json.loads(line)


class _Handler(BaseHTTPRequestHandler):
    server: Loopback

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.bodies.append(body)
        streamed = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
        said: dict[str, Any] = {}
        if self.path == "/graphql":
            asked = json.loads(body)
            named = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            name = named[1] if named else ""
            said = {"data": self.server.answer(name, asked.get("variables") or {})}
        elif streamed:
            self.server.takes.wait()
            self.server.stream(streamed[1], json.loads(body))
        self._say(said)

    def do_PUT(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self._say({})

    def do_GET(self) -> None:
        self._say({})

    def _say(self, said: dict[str, Any]) -> None:
        data = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""


@contextmanager
def loopback() -> Iterator[Loopback]:
    with Loopback() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.takes.set()
            server.shutdown()
            thread.join()


def _id(name: str) -> str:
    return base64.b64encode(name.encode()).decode()
