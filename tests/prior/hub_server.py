"""A hub of one's own: the few addresses that huggingface_hub asks, over folders on this machine."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _files(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _send(self, code, body=b"", headers=()):
        self.send_response(code)
        for name, value in {"Content-Length": len(body), **dict(headers)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _error(self, code, kind):
        self._send(code, b"{}", {"X-Error-Code": kind, "Content-Type": "application/json"})

    def do_GET(self):
        hub, path = self.server.hub, urlsplit(self.path).path
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if api else parts[:2])
        if repo in hub.gated:
            return self._error(403, "GatedRepo")
        if repo not in hub.repos:
            return self._error(404, "RepoNotFound")
        files = _files(hub.repos[repo])
        if api and parts[4:5] == ["tree"]:
            tree = [
                {"type": "file", "path": n, "size": p.stat().st_size, "oid": _etag(p)}
                for n, p in files.items()
            ]
            return self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        if api:
            info = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": n} for n in files]}
            return self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        name = "/".join(parts[4:])
        if name not in files:
            return self._error(404, "EntryNotFound")
        if self.command == "GET":
            hub.fetched.append(f"{repo}/{name}")
        body = files[name].read_bytes()
        headers = {"ETag": f'"{_etag(files[name])}"', "X-Repo-Commit": COMMIT}
        return self._send(200, body, headers | {"Content-Type": "application/octet-stream"})

    do_HEAD = do_GET


def _etag(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Hub:
    "What is on it, and what was fetched from it, in order."

    def __init__(self, cache: Path):
        self.repos, self.gated, self.fetched, self.cache = {}, set(), [], cache

    def snapshot(self, repo: str) -> Path:
        "Where the client keeps a model of this hub."
        return self.cache / f"models--{repo.replace('/', '--')}" / "snapshots" / COMMIT

    def take(self) -> list[str]:
        "What was fetched since the last call."
        seen, self.fetched[:] = list(self.fetched), []
        return seen


@contextmanager
def running(monkeypatch, cache: Path):
    "A hub that the client asks for the time of the block, with an empty cache."
    import huggingface_hub.constants as constants
    import huggingface_hub.file_download as old_clients  # they keep copies of these names

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = Hub(cache)
    url = f"http://127.0.0.1:{server.server_port}"
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(old_clients, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()
