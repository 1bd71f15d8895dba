"""A server on this machine that stands in for the two that the practical downloads from.

    python -m tests.loopback --data ../shared/data/imagenette2-160.tgz

serves an archive of photographs with its checksum, and a ResNet-18 of random weights in the hub's
protocol; `PRACTICAL_MIRROR`, which it prints, points the practical at it. In tests it also
misbehaves on demand.
"""

import argparse
import functools
import hashlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from safetensors.numpy import save

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FAULTS = ("404", "503", "cut", "cut-once", "wrong", "slow", "stall", "silent", "page")
_HUB_PATH = re.compile(r"/(timm/[\w.]+)/resolve/[\w.]+/model\.safetensors")


class Loopback:
    """A server in this process; use it in a `with` statement.

    Attributes:
        files: Path -> content. `checksums.tsv` is made from the archives among them.
        fault: None, or what to do to every file but `checksums.tsv`: one of `FAULTS`. "cut" never
            sends the second half, "stall" keeps the connection open then, "silent" never
            answers, "wrong" turns a byte in the middle, "page" is a login page.
        checksums: Whether there is a `checksums.tsv`, or what is in it.
        spared: The path that is not replaced by a login page.
        redirect: Whether the hub answers with an address of another host, as the real one does.
        log: "METHOD path" of every request.
    """

    def __init__(self, files: dict[str, bytes] | None = None, *, port: int = 0):
        self.files = dict(files or {})
        self.fault: str | None = None
        self.checksums: bool | str = True
        self.redirect = False
        self.spared: str | None = None
        self.log: list[str] = []
        self.closing = threading.Event()  # ends the stalled connections
        handler = type("Handler", (_Handler,), {"loopback": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        serve = functools.partial(self._server.serve_forever, poll_interval=0.01)
        threading.Thread(target=serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def add_archive(self, content: bytes, name: str = "imagenette2-160.tgz") -> None:
        self.files[f"/{name}"] = content

    def add_weights(self, content: bytes, repository: str = "timm/resnet18.tv_in1k") -> None:
        self.files[f"/{repository}"] = content

    def table(self) -> bytes | None:
        """Return checksums.tsv in TensorFlow Datasets' format: address, bytes, sha256, name."""
        if isinstance(self.checksums, str):
            return self.checksums.encode()
        if not self.checksums:
            return None
        rows = [
            f"{self.url}{path}\t{len(content)}\t{_sha256(content)}\t{path[1:]}\n"
            for path, content in self.files.items()
            if path.endswith(".tgz")
        ]
        return "".join(rows).encode()


class _Handler(BaseHTTPRequestHandler):
    loopback: Loopback
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass  # a server in a test is silent

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        server = self.loopback
        server.log.append(f"{self.command} {self.path}")
        if server.fault == "silent":
            self.close_connection = True
            server.closing.wait(120)
            return None
        if server.fault == "page" and self.path != server.spared:
            return self._send(b"<html>Log in</html>", {"Content-Type": "text/html"}, fault=None)
        hub = _HUB_PATH.fullmatch(self.path)
        content = server.files.get(f"/{hub[1]}" if hub else self.path.removeprefix("/cdn"))
        if self.path == "/checksums.tsv":
            return self._send(server.table(), {}, fault=None)
        headers = {}
        if hub and content is not None:
            sha256 = _sha256(content)
            headers = {
                "X-Repo-Commit": COMMIT,
                "ETag": f'"{sha256}"',
                "X-Linked-ETag": f'"{sha256}"',
                "X-Linked-Size": str(len(content)),
            }
            if server.redirect:
                headers["Location"] = f"http://localhost:{server.port}/cdn/{hub[1]}"
                return self._send(b"", headers, fault=server.fault, status=302)
        return self._send(content, headers, fault=server.fault)

    def _send(self, content: bytes | None, headers: dict, *, fault: str | None, status: int = 200):
        if content is None or fault in ("404", "503"):
            status, content = (503 if fault == "503" else 404), b"there is nothing here\n"
            headers = {"X-Error-Code": "EntryNotFound"} if headers else {}
        if fault == "wrong":
            middle = len(content) // 2
            turned = bytes(255 - byte for byte in content[middle : middle + 1])
            content = content[:middle] + turned + content[middle + 1 :]
        first, last = 0, len(content)
        if (
            wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        ) and status < 300:
            status, first = 206, int(wanted[1])
            headers = headers | {"Content-Range": f"bytes {first}-{last - 1}/{last}"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(last - first))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault in ("cut", "cut-once", "stall") and status < 300:
            last //= 2
            self.close_connection = True
            if fault == "cut-once":
                self.loopback.fault = None
        step = 2**16
        for start in range(first, last, step):
            self.wfile.write(content[start : min(start + step, last)])
            if fault == "slow":
                time.sleep(0.1)
        if fault == "stall":
            self.wfile.flush()
            self.loopback.closing.wait(120)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@functools.cache
def random_resnet18(seed: int = 0, classes: int = 1000) -> bytes:
    """Return a safetensors file of torchvision's ResNet-18 with random weights.

    Kaiming-scaled, with running statistics near those of a trained network's, so that activations
    keep their size from layer to layer.
    """
    random = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}

    def convolution(name: str, outputs: int, inputs: int, side: int) -> None:
        scale = np.sqrt(2 / (inputs * side * side))
        kernel = random.normal(0, scale, (outputs, inputs, side, side))
        weights[f"{name}.weight"] = kernel.astype(np.float32)

    def norm(name: str, width: int, scale: float = 1.0) -> None:
        weights[f"{name}.weight"] = (scale * random.uniform(0.8, 1.2, width)).astype(np.float32)
        weights[f"{name}.bias"] = random.normal(0, 0.1, width).astype(np.float32)
        weights[f"{name}.running_mean"] = random.normal(0, 0.1, width).astype(np.float32)
        weights[f"{name}.running_var"] = random.uniform(0.8, 1.2, width).astype(np.float32)
        weights[f"{name}.num_batches_tracked"] = np.array(1000, np.int64)

    convolution("conv1", 64, 3, 7)
    norm("bn1", 64)
    inputs = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            convolution(f"{name}.conv1", width, inputs, 3)
            norm(f"{name}.bn1", width)
            convolution(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn2", width, 0.5)  # or the sums would grow with every block
            if width != inputs:
                convolution(f"{name}.downsample.0", width, inputs, 1)
                norm(f"{name}.downsample.1", width, 0.7)
            inputs = width
    weights["fc.weight"] = random.normal(0, 512**-0.5, (classes, 512)).astype(np.float32)
    weights["fc.bias"] = np.zeros(classes, np.float32)
    return save(weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="an archive such as Imagenette's")
    parser.add_argument("--port", type=int, default=0, help="by default any that is free")
    parser.add_argument("--fault", choices=FAULTS, help="misbehave")
    options = parser.parse_args()
    with Loopback(port=options.port) as server:
        server.add_archive(options.data.read_bytes(), options.data.name)
        server.add_weights(random_resnet18())
        server.fault = options.fault
        print(f"PRACTICAL_MIRROR={server.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
