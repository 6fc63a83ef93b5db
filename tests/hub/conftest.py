"""A hub on this machine: the endpoints that huggingface_hub calls, over repositories in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants as constants
import pytest
import yaml

TOKEN = "hf_keepThisSecret"
LFS_FROM = 2000  # bytes; the real hub decides by size, suffix and content


@dataclass
class Repository:
    """Branches of commits of files; nothing is ever forgotten."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        text = json.dumps([branch, len(self.commits), sorted((path, blob(data)) for path, data in files.items())])
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


def blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class FakeHub:
    """What the server knows, what was asked of it, and what it is told to do wrong.

    Attributes:
        repositories: By "owner/name".
        requests: Method and path of each.
        tokens: The authorization headers that came.
        delivered: Path in a repository to bytes that are sent in the place of the real ones.
        listed: Names that a listing has beside the real ones.
        broken: Status that every request gets.
        before_commit: Called when a commit comes in.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.delivered: dict[str, bytes] = {}
        self.listed: list[str] = []
        self.broken: int | None = None
        self.before_commit: Any = None
        self.address = ""

    def hold(self, name: str, files: dict[str, bytes], *, branch: str = "main", **kind: bool) -> str:
        """Makes one more commit of a repository, and returns it."""
        repository = self.repositories.setdefault(name, Repository(**kind))
        return repository.commit(branch, files)

    def hold_folder(self, name: str, folder: Path, **more: bytes) -> str:
        files = {
            file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
        }
        return self.hold(name, {".gitattributes": b"*.onnx filter=lfs\n", **files, **more})

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        """What a branch holds."""
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]]

    def asked(self, part: str) -> int:
        """How many requests had this in their path."""
        return sum(part in path for _, path in self.requests)


class Refusal(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", url: str | None = None) -> None:
        self.status, self.code, self.message, self.url = status, code, message, url


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = b"".join(self._body())
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, unquote(path)))
        self.hub.tokens.add(self.headers.get("Authorization"))
        try:
            if self.hub.broken is not None:
                raise Refusal(self.hub.broken, "", "Invalid credentials in Authorization header")
            status, headers, answer = self._answer(path.strip("/").split("/"), body)
        except Refusal as refused:
            status, answer = refused.status, json.dumps({"url": refused.url}).encode()
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, parts: list[str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if parts[:3] == ["api", "repos", "create"]:
            return self._json(self._create(json.loads(body)))
        if parts[:2] == ["api", "validate-yaml"]:
            return self._validate(json.loads(body)["content"])
        if parts[0] == "store":
            if hashlib.sha256(body).hexdigest() != parts[1]:
                raise Refusal(400, "", "the bytes are others")
            self.hub.stored[parts[1]] = body
            return self._json({})
        if parts[1].endswith(".git"):
            return self._json({"objects": [self._store(one) for one in json.loads(body)["objects"]]})
        name, verb, rest = ("/".join(parts[2:4]), parts[4:5], parts[5:]) if parts[0] == "api" else (
            "/".join(parts[:2]), parts[2:3], parts[3:])  # fmt: skip
        repository = self._repository(name, verb)
        act = {"revision": self._info, "tree": self._tree, "resolve": self._resolve, "branch": self._branch,
               "preupload": self._preupload, "commit": self._commit}[verb[0] if verb else "revision"]  # fmt: skip
        return act(name, repository, [unquote(one) for one in rest or ["main"]], body)

    def _repository(self, name: str, verb: list[str]) -> Repository:
        repository = self.hub.repositories.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not known):
            raise Refusal(404 if known else 401, "RepoNotFound", "Repository not found")
        if repository.gated and not known and verb == ["resolve"]:
            raise Refusal(401, "GatedRepo", "Access to it is restricted")
        if self.command in ("POST", "PUT") and not known:
            raise Refusal(403, "", "you may not write here")
        return repository

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.hub.repositories:
            raise Refusal(409, "", "You already created this repo", f"{self.hub.address}/{name}")
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.hold(name, {".gitattributes": b"*.onnx filter=lfs\n"}, private=private)
        return {"url": f"{self.hub.address}/{name}"}

    def _validate(self, card: str) -> tuple[int, dict[str, str], bytes]:
        header = yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else {}
        wrong = [] if header.get("license", "mit") in ("apache-2.0", "mit", "other") else ["license"]
        errors = [{"message": f'"{name}" must be one of those that the hub knows'} for name in wrong]
        status, headers, answer = self._json({"warnings": [], "errors": errors})
        return (400 if errors else status), headers, answer

    def _store(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.hub.stored:
            return asked
        return {**asked, "actions": {"upload": {"href": f"{self.hub.address}/store/{asked['oid']}"}}}

    def _info(
        self, name: str, repository: Repository, rest: list[str], _: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        oid = self._oid(repository, rest[0])
        files = [{"rfilename": path, "size": len(data)} for path, data in repository.commits[oid].items()]
        files += [{"rfilename": path, "size": 1} for path in self.hub.listed]
        return self._json({"id": name, "sha": oid, "private": repository.private, "siblings": files})

    def _tree(
        self, name: str, repository: Repository, rest: list[str], _: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        oid = self._oid(repository, rest[0])
        entries = [
            {"type": "file", "path": path, "size": len(data), "oid": blob(data)}
            for path, data in repository.commits[oid].items()
        ]
        return self._json(entries)

    def _resolve(
        self, name: str, repository: Repository, rest: list[str], _: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        oid, path = self._oid(repository, rest[0]), "/".join(rest[1:])
        data = repository.commits[oid].get(path)
        if data is None:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        etag = hashlib.sha256(data).hexdigest() if len(data) >= LFS_FROM else blob(data)
        sent = data if self.command == "HEAD" else self.hub.delivered.get(path, data)
        headers = {"X-Repo-Commit": oid, "ETag": f'"{etag}"', "Accept-Ranges": "none"}
        return 200, headers, sent

    def _branch(
        self, name: str, repository: Repository, rest: list[str], _: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if rest[0] in repository.branches:
            raise Refusal(409, "", "Reference already exists")
        repository.branches[rest[0]] = repository.branches["main"]
        return self._json({})

    def _preupload(
        self, name: str, repository: Repository, rest: list[str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        self._oid(repository, rest[0])
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["size"] >= LFS_FROM else "regular",
                "shouldIgnore": False,
            }
            for one in json.loads(body)["files"]
        ]
        return self._json({"files": files})

    def _commit(
        self, name: str, repository: Repository, rest: list[str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if self.hub.before_commit is not None:
            self.hub.before_commit()
        oid = self._oid(repository, rest[0])
        files = dict(repository.commits[oid])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit", oid) != oid:
                raise Refusal(412, "", "A commit has happened since")
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        made = repository.commit(rest[0], files)
        return self._json({"commitOid": made, "commitUrl": f"{self.hub.address}/{name}/commit/{made}"})

    def _oid(self, repository: Repository, revision: str) -> str:
        oid = repository.resolve(revision)
        if oid is None:
            raise Refusal(404, "RevisionNotFound", "Invalid rev id")
        return oid

    @staticmethod
    def _json(value: Any) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that listens, with huggingface_hub turned to it, an empty cache and a token."""
    found = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": found}))
    found.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", found.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield found
    server.shutdown()
    thread.join()
    server.server_close()
