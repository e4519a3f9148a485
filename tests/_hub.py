"""A Hub on loopback: the part of its HTTP interface that storing and fetching an adapter speaks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = dict[str, bytes]


class LoopbackHub(ThreadingHTTPServer):
    """Repositories in memory, each a list of commits; ``token`` opens the private ones."""

    daemon_threads = True

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        self.commits: dict[str, dict[str, Files]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.private: set[str] = set()
        self.large_files: dict[str, bytes] = {}
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def create(self, repo: str, private: bool) -> None:
        self.commits[repo] = {"0" * 40: {}}
        self.branches[repo] = {"main": "0" * 40}
        self.private |= {repo} if private else set()

    def files(self, repo: str, revision: str) -> tuple[str, Files]:
        commit = self.branches[repo].get(revision, revision)
        return commit, self.commits[repo][commit]

    def commit(self, repo: str, branch: str, lines: list[dict[str, Any]]) -> str:
        _, files = self.files(repo, branch)
        fresh = dict(files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                fresh[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                fresh[value["path"]] = self.large_files[value["oid"]]
        name = hashlib.sha1(repr(sorted(fresh.items())).encode()).hexdigest()
        self.commits[repo][name] = fresh
        self.branches[repo][branch] = name
        return name


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def do_HEAD(self) -> None:
        self._resolve()

    def do_GET(self) -> None:
        self._resolve()

    def do_PUT(self) -> None:
        oid, body = self.path.rpartition("/")[2], self._body()
        if hashlib.sha256(body).hexdigest() != oid:
            return self._answer(400, {"error": "not the promised bytes"})
        self.server.large_files[oid] = body
        return self._answer(200, {})

    def do_POST(self) -> None:
        body = self._body()
        for pattern, answer in _POSTS.items():
            if found := re.fullmatch(pattern, self.path.partition("?")[0]):
                if self.headers.get("authorization") != f"Bearer {self.server.token}":
                    return self._answer(401, {"error": "a token is needed to write"})
                return answer(self, body, *found.groups())
        return self._answer(404, {"error": "unknown address"})

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo = f"{asked['organization'] or 'someone'}/{asked['name']}"
        here = repo in self.server.commits
        if not here:
            self.server.create(repo, asked.get("visibility") == "private" or bool(asked.get("private")))
        self._answer(409 if here else 200, {"url": f"{self.server.address}/{repo}", "name": repo})

    def validate(self, body: bytes) -> None:
        assert json.loads(body)["content"].startswith("---\nlibrary_name: avexperts\n")
        self._answer(200, {"errors": [], "warnings": []})

    def branch(self, body: bytes, repo: str, name: str) -> None:
        here = name in self.server.branches[repo]
        if not here:
            self.server.branches[repo][name] = self.server.branches[repo]["main"]
        self._answer(409 if here else 200, {})

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(body)["files"]
        ]
        self._answer(200, {"files": files})

    def lfs(self, body: bytes, repo: str) -> None:
        objects = [
            {**entry, "actions": {"upload": {"href": f"{self.server.address}/lfs/{entry['oid']}"}}}
            for entry in json.loads(body)["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def commit(self, body: bytes, repo: str, branch: str) -> None:
        oid = self.server.commit(repo, branch, [json.loads(line) for line in body.splitlines()])
        self._answer(
            200, {"commitUrl": f"{self.server.address}/{repo}/commit/{oid}", "commitOid": oid, "pullRequestUrl": None}
        )

    def _resolve(self) -> None:
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if found is None:
            return self._answer(404, {"error": "unknown address"})
        repo, revision, path = found.groups()
        allowed = self.headers.get("authorization") == f"Bearer {self.server.token}"
        if repo not in self.server.commits or (repo in self.server.private and not allowed):
            return self._answer(404, {}, {"X-Error-Code": "RepoNotFound"})
        try:
            commit, files = self.server.files(repo, revision)
        except KeyError:
            return self._answer(404, {}, {"X-Error-Code": "RevisionNotFound"})
        if path not in files:
            return self._answer(404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        etag = hashlib.sha256(files[path]).hexdigest()
        return self._answer(200, files[path], {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        always = {"Content-Length": str(len(body)), "Connection": "close"}
        for name, value in {**always, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        self.server.requests.append(format % args)


_POSTS = {
    "/api/repos/create": _Handler.create,
    "/api/validate-yaml": _Handler.validate,
    r"/api/models/([^/]+/[^/]+)/branch/([^/]+)": _Handler.branch,
    r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)": _Handler.preupload,
    r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": _Handler.lfs,
    r"/api/models/([^/]+/[^/]+)/commit/([^/]+)": _Handler.commit,
}


@contextmanager
def loopback_hub(token: str = "a-token") -> Iterator[LoopbackHub]:
    hub = LoopbackHub(token)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
