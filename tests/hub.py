"""A stand-in of the Hugging Face hub: what the libraries use of its HTTP API, on 127.0.0.1.

    with Hub() as hub:
        subprocess.run([sys.executable, "-c", code], env=hub.env(tmp_path))
        hub.fault = Fault("cut", "safetensors")

The bundled samples stand behind the names of the real repositories; more may be added to `hub.repos`. All files
are kept in git, none in LFS or Xet storage, so an upload is one commit. Writing takes an Authorization header,
reading does not.
"""

import base64
import contextlib
import functools
import gzip
import hashlib
import itertools
import json
import math
import os
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

SAMPLES = Path(__file__).parents[1] / "data_samples"
USER = "learner"
Files = dict[str, bytes | Path]

REPO = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|preupload|commit)/([^/]+)/?(.*))?"
)
FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
FIXED = {
    "/api/whoami-v2": {"type": "user", "name": USER, "auth": {"accessToken": {"role": "write"}}},
    "/api/validate-yaml": {"errors": [], "warnings": []},
}


def model_files(name: str, tail: str) -> Files:
    """A bundled model; without "-Instruct" for its tail it has no chat template."""
    return {path.name: path for path in (SAMPLES / "models" / name).iterdir() if tail or path.suffix != ".jinja"}


@functools.cache
def preference_files() -> Files:
    """The bundled preferences in the layout of Anthropic/hh-rlhf, all of them in each of two of its folders."""
    packed = {s: gzip.compress((SAMPLES / f"preferences/{s}.jsonl").read_bytes(), mtime=0) for s in ("train", "test")}
    folders = itertools.product(("harmless-base", "helpful-base"), packed.items())
    return {"README.md": b"---\nlicense: mit\n---\n"} | {f"{d}/{s}.jsonl.gz": data for d, (s, data) in folders}


class Refusal(Exception):
    """An answer that is no good one: its status, headers and content."""

    def __init__(self, status: int, message: str, code: str = "", headers: dict[str, str] | None = None, **content):
        named = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self.status, self.headers, self.content = status, named | (headers or {}), {"error": message, **content}


#: What a stranger hears of a repository that is missing or private.
UNKNOWN = Refusal(401, "Invalid username or password.", "RepoNotFound")
REFUSALS = {
    401: UNKNOWN,
    403: Refusal(403, "Access to this repository is restricted and you are not in the authorized list.", "GatedRepo"),
    404: Refusal(404, "Repository not found", "RepoNotFound"),
    429: Refusal(429, "We had to rate limit your IP.", headers={"Retry-After": "1"}),
    500: Refusal(500, "Internal Error - We're working hard to fix this as soon as possible!"),
}


@dataclass
class Fault:
    """What goes wrong, and with which requests.

    kind: "gone" (connections are refused), "dark" (they are not even refused, as behind a firewall), "slow" (no
        answer ever comes), "cut" (the connection closes in the middle of a file, wherever the client resumes it),
        "stall" (it stays open there, but nothing more comes), or a status from `REFUSALS`.
    where: a regular expression; the requests meant are those whose "METHOD /path" it is found in.
    after, times: so many of these are answered well first, and so many are hit then.
    above: "cut" and "stall" spare contents of so many bytes or fewer.
    """

    kind: str | int
    where: str = ""
    after: int = 0
    times: float = math.inf
    above: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    count: itertools.count = field(default_factory=itertools.count)

    def hits(self, request: str) -> bool:
        return bool(re.search(self.where, request)) and self.after <= next(self.count) < self.after + self.times


class Request(NamedTuple):
    method: str
    path: str
    authorized: bool


def data_of(content: bytes | Path) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content


@functools.cache
def oid(content: bytes | Path) -> str:
    """The id that git gives to a file; a file must not change while it is served."""
    data = data_of(content)
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def commit_of(files: Files) -> str:
    return hashlib.sha1(repr(sorted((path, oid(content)) for path, content in files.items())).encode()).hexdigest()


def listing(files: Files) -> dict[str, dict]:
    """All files and folders by their paths, as the API describes them."""
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents} - {"."}
    found = {path: {"type": "directory", "path": path, "oid": commit_of({}), "size": 0} for path in sorted(folders)}
    for path, content in sorted(files.items()):
        found[path] = {"type": "file", "path": path, "oid": oid(content), "size": len(data_of(content))}
    return found


class Hub:
    """The server, the `repos` it has, the `requests` it got so far, and the `fault` it suffers from, if any."""

    def __init__(self):
        models = itertools.product((("135M", "small"), ("360M", "large")), ("", "-Instruct"))
        self.repos: dict[str, dict[str, Files]] = {
            "models": {f"HuggingFaceTB/SmolLM2-{size}{tail}": model_files(name, tail) for (size, name), tail in models},
            "datasets": {"Anthropic/hh-rlhf": preference_files()},
        }
        self.requests: list[Request] = []
        self.port, self._fault = 0, None
        self._door, self._ends = None, contextlib.ExitStack()

    def __enter__(self):
        self.turn("open")
        return self

    def __exit__(self, *_):
        if self._fault:
            self._fault.over.set()
        self._ends.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def env(self, home: Path) -> dict[str, str]:
        """The environment of a process that knows no hub but this: its caches go to `home`, and it has no token."""
        rest = {name: value for name, value in os.environ.items() if not re.match("HF_|HUGGING|TRANSFORMERS_", name)}
        ours = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
        return rest | ours | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    @property
    def fault(self) -> Fault | None:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | str | int | None):
        if self._fault:
            self._fault.over.set()
        self._fault = Fault(fault) if isinstance(fault, (str, int)) else fault
        at_once = self._fault and not (self._fault.where or self._fault.after)
        self.turn(self._fault.kind if at_once else "open")

    def turn(self, door: str | int):
        """Listen, but if `door` is "gone", only keep the port, and if it is "dark", never accept a connection."""
        door = door if door in ("gone", "dark") else "open"
        if door == self._door:
            return
        self._ends.close()
        self._door, address = door, ("127.0.0.1", self.port)
        if door == "gone":
            keeper = self._ends.enter_context(socket.socket())
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.bind(address)
        elif door == "dark":  # the one connection that waits to be accepted leaves no place for another
            self._ends.enter_context(socket.create_server(address, backlog=0))
            self._ends.enter_context(socket.create_connection(address))
        else:
            server = self._ends.enter_context(ThreadingHTTPServer(address, Handler))
            server.hub, self.port = self, server.server_port
            self._ends.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()

    def answer(self, request: Request, body: bytes) -> tuple[dict[str, str], bytes]:
        """Headers and content for a request, or a Refusal."""
        url = urlsplit(request.path)
        if match := FILE.fullmatch(url.path):
            kind, repo, revision, path = (part and unquote(part) for part in match.groups())
            files = self.files(kind or "models", repo, revision)
            commit = {"X-Repo-Commit": commit_of(files)}
            if path not in files:
                raise Refusal(404, "Entry not found", "EntryNotFound", commit)
            return commit | {"ETag": f'"{oid(files[path])}"'}, data_of(files[path])
        writes = request.method == "POST" and "/paths-info/" not in url.path
        if not request.authorized and (writes or url.path == "/api/whoami-v2"):
            raise UNKNOWN
        if match := REPO.fullmatch(url.path):
            found = self.repo(*(unquote(part or "") for part in match.groups()), parse_qs(url.query), body)
        elif url.path == "/api/repos/create":
            found = self.create(json.loads(body))
        elif url.path in FIXED:
            found = FIXED[url.path]
        else:
            raise Refusal(404, "Not found")
        return {"Content-Type": "application/json"}, json.dumps(found).encode()

    def files(self, kind: str, repo: str, revision: str) -> Files:
        if repo not in self.repos[kind]:
            raise UNKNOWN
        files = self.repos[kind][repo]
        if revision not in ("", "main", commit_of(files)):
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return files

    def repo(self, kind: str, repo: str, action: str, revision: str, folder: str, query: dict, body: bytes):
        """What the API says of a repository: its state, a listing, or what became of an upload."""
        files = self.files(kind, repo, revision)
        if action == "tree":
            deep = query.get("recursive") == ["true"]
            below = {
                path: entry for path, entry in listing(files).items() if path.startswith(f"{folder}/" if folder else "")
            }
            if not below and folder:
                raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
            return [entry for path, entry in below.items() if deep or "/" not in path[len(folder) :].strip("/")]
        if action == "paths-info":
            return [listing(files)[path] for path in parse_qs(body.decode())["paths"] if path in listing(files)]
        if action == "preupload":
            asked = [file["path"] for file in json.loads(body)["files"]]
            old = {path: oid(files[path]) for path in asked if path in files}
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            return {"files": [{"path": path, "oid": old.get(path), **mode} for path in asked]}
        if action == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            added = [line["value"] for line in lines if line["key"] == "file"]
            files = files | {file["path"]: base64.b64decode(file["content"]) for file in added}
            self.repos[kind][repo] = files
            return {"commitUrl": f"{self.url}/{repo}/commit/{commit_of(files)}", "commitOid": commit_of(files)}
        sizes = {path: data.stat().st_size if isinstance(data, Path) else len(data) for path, data in files.items()}
        siblings = [{"rfilename": path, "size": size} for path, size in sorted(sizes.items())]
        return {"id": repo, "sha": commit_of(files), "siblings": siblings}

    def create(self, wish: dict) -> dict:
        kind, repo = f"{wish.get('type', 'model')}s", f"{wish['organization'] or USER}/{wish['name']}"
        url = f"{self.url}/{'datasets/' if kind == 'datasets' else ''}{repo}"
        if repo in self.repos[kind]:
            raise Refusal(409, f"You already created this {kind[:-1]} repo", url=url)
        self.repos[kind][repo] = {}
        return {"url": url}


class Handler(BaseHTTPRequestHandler):
    """One request, one connection."""

    def do_GET(self):
        hub = self.server.hub
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, "Authorization" in self.headers)
        hub.requests.append(request)
        fault = hub.fault
        kind = fault.kind if fault and fault.hits(f"{self.command} {self.path}") else None
        if kind in ("gone", "dark"):
            return hub.turn(kind)
        if kind == "slow":
            return fault.over.wait()
        try:
            if kind in REFUSALS:
                raise REFUSALS[kind]
            headers, content = hub.answer(request, body)
        except Refusal as refusal:
            content = json.dumps(refusal.content).encode()
            return self.reply(refusal.status, refusal.headers, content, len(content))
        start, end = 0, len(content)
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(part[1]), min(end, int(part[2] or end) + 1)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        broken = kind in ("cut", "stall") and "ETag" in headers and len(content) > fault.above
        sent = content[start : min(end, len(content) // 2) if broken else end]
        self.reply(206 if part else 200, headers, sent, end - start)
        if broken and kind == "stall":
            fault.over.wait()

    do_HEAD = do_POST = do_GET

    def reply(self, status: int, headers: dict[str, str], content: bytes, length: int):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass
