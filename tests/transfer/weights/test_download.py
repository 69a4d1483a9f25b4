"""Files fetched from a local server that breaks off, refuses, redirects, stalls and lies."""

import errno
import hashlib
import json
import multiprocessing
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import save

from pretrain.files.read import WeightsError
from transfer.weights import convert, download, releases

CONTENT = save({"conv1.weight": torch.arange(50_000.0)})
HALF = len(CONTENT) // 2
NAME = "spark_resnet50"


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT in the way that the path asks for; the server counts what was asked."""

    def log_message(self, *_words):
        pass

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        getattr(self, f"get_{self.path.strip('/').split('/')[0]}")()

    def give(self, content, *, start=0, status=200, claim=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if claim is None else claim))
        if status == 206:
            span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            self.send_header("Content-Range", span)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def get_whole(self):
        asked, validator = self.headers.get("Range"), self.headers.get("If-Range")
        if asked and validator in (None, '"v1"'):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.give(CONTENT[start:], start=start, status=206, ETag='"v1"')
        else:
            self.give(CONTENT, ETag='"v1"')

    def get_broken(self):
        """Break off once, then give what is asked for."""
        if len(self.server.asked) == 1:
            self.give(CONTENT[:HALF], claim=len(CONTENT), ETag='"v1"')
        else:
            self.get_whole()

    def get_untagged(self):
        """Break off once; nothing tells whether the file is the same afterwards."""
        first = len(self.server.asked) == 1
        self.give(CONTENT[:HALF] if first else CONTENT, claim=len(CONTENT))

    def get_redirect(self):
        self.send_response(302)
        self.send_header("Location", "/whole")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def get_page(self):
        self.give(b"<html>sign in</html>", Content_Type="text/html; charset=utf-8")

    def get_error(self):
        self.give(b"no", status=int(self.path.rpartition("/")[2]))

    def get_slow(self):
        self.give(CONTENT[:HALF], claim=len(CONTENT), ETag='"v1"')
        self.server.released.wait(20)

    def get_trickle(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        for start in range(0, len(CONTENT), HALF // 2):
            self.wfile.write(CONTENT[start : start + HALF // 2])
            time.sleep(0.05)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "WAITS_S", (0.0,))
    monkeypatch.setattr(download, "TIMEOUT_S", 5.0)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked, server.released = [], threading.Event()
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights" / "file.safetensors"


def fetch(server, path, *ways):
    download.download([f"{server.address}/{way}" for way in ways], path, lambda _: None)


def alone(path):
    """Whether nothing but the file lies in its folder."""
    return [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("way", ["whole", "redirect", "broken", "untagged", "trickle"])
def test_a_file_comes_whole(server, path, way):
    fetch(server, path, way)
    assert path.read_bytes() == CONTENT
    assert alone(path)


def test_what_broke_off_is_asked_for_alone(server, path):
    fetch(server, path, "broken")
    assert [asked for _, asked in server.asked] == [None, f"bytes={HALF}-"]


def test_without_a_sign_of_the_same_file_it_starts_over(server, path):
    fetch(server, path, "untagged")
    assert [asked for _, asked in server.asked] == [None, None]


def test_a_later_start_takes_up_what_an_earlier_one_left(server, path, monkeypatch):
    monkeypatch.setattr(download, "WAITS_S", ())
    with pytest.raises(download.DownloadError, match="broke off after"):
        fetch(server, path, "broken")
    assert not path.exists()
    assert path.with_name("file.safetensors.part").read_bytes() == CONTENT[:HALF]
    fetch(server, path, "broken")
    assert server.asked[-1] == ("/broken", f"bytes={HALF}-")
    assert path.read_bytes() == CONTENT
    assert alone(path)


def test_a_file_that_changed_between_starts_is_fetched_anew(server, path):
    path.parent.mkdir()
    path.with_name("file.safetensors.part").write_bytes(b"old" * 100)
    told = {"address": f"{server.address}/whole", "validator": '"v0"', "size": 999}
    path.with_name("file.safetensors.part.json").write_text(json.dumps(told))
    fetch(server, path, "whole")
    assert server.asked == [("/whole", "bytes=300-")]
    assert path.read_bytes() == CONTENT


def test_what_came_from_one_address_is_not_joined_to_another(server, path, monkeypatch):
    monkeypatch.setattr(download, "WAITS_S", ())
    fetch(server, path, "broken", "whole")
    assert server.asked == [("/broken", None), ("/whole", None)]
    assert path.read_bytes() == CONTENT


def test_a_part_that_nothing_tells_of_is_never_used(server, path):
    path.parent.mkdir()
    path.with_name("file.safetensors.part").write_bytes(b"x" * len(CONTENT))
    fetch(server, path, "whole")
    assert path.read_bytes() == CONTENT


def test_a_mirror_takes_over(server, path):
    fetch(server, path, "error/404", "page", "whole")
    assert path.read_bytes() == CONTENT
    assert [way for way, _ in server.asked] == ["/error/404", "/page", "/whole"]


@pytest.mark.parametrize(
    ("way", "asked", "told"),
    [
        ("error/404", 1, "answers 404"),
        ("error/403", 1, "answers 403"),
        ("error/503", 2, "answers 503"),
        ("page", 1, "gives a web page"),
    ],
)
def test_who_does_not_give_it_is_named(server, path, way, asked, told):
    with pytest.raises(download.DownloadError, match=f"{way}: {told}"):
        fetch(server, path, way)
    assert len(server.asked) == asked
    assert not path.exists()


def test_a_server_that_falls_silent_is_left(server, path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(download, "WAITS_S", ())
    with pytest.raises(download.DownloadError, match="timed out"):
        fetch(server, path, "slow")
    assert not path.exists()


def test_no_such_host_and_nobody_there(path, monkeypatch):
    monkeypatch.setattr(download, "WAITS_S", ())
    addresses = ["http://nowhere.invalid/file", "http://127.0.0.1:9/file"]
    with pytest.raises(download.DownloadError, match=r"not known here.*refused"):
        download.download(addresses, path, lambda _: None)


def test_a_full_disk_is_said_and_freed(server, path, monkeypatch):
    def full(*_words):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_write", full)
    with pytest.raises(OSError, match=r"no space left for file\.safetensors") as caught:
        fetch(server, path, "whole")
    assert caught.value.errno == errno.ENOSPC
    assert not list(path.parent.glob("*.part*"))


def test_a_disk_too_small_is_refused_before_the_first_byte(server, path, monkeypatch):
    usage = type(download.shutil.disk_usage("."))(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"needs 200\.\d kB, 1\.0 kB are free"):
        fetch(server, path, "whole")


def test_two_processes_fetch_it_once(server, path):
    jobs = [
        multiprocessing.get_context("fork").Process(target=fetch, args=(server, path, "trickle"))
        for _ in range(2)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(30)
    assert [job.exitcode for job in jobs] == [0, 0]
    assert len(server.asked) == 1
    assert path.read_bytes() == CONTENT


def test_lines_where_there_is_no_terminal(server, path, monkeypatch, caplog):
    monkeypatch.setattr(download, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(download, "CHUNK", HALF // 2)
    with caplog.at_level("INFO", logger="transfer"):
        fetch(server, path, "trickle")
    assert re.search(r"file\.safetensors: 100\.0 kB of 200\.1 kB, \S+ \w+/s", caplog.text)
    assert re.search(r"200\.1 kB of 200\.1 kB, \S+ \w+/s, 0 s left", caplog.text)


# by name


@pytest.fixture
def named(server, tmp_path, monkeypatch):
    """named(way, sha256, mirrors) -> a release of that address; the folder is `weights`."""
    monkeypatch.setattr(releases, "FOLDER", tmp_path / "weights")

    def make(way, sha256="unknown", mirrors=()):
        fields = {
            "name": NAME,
            "file": "encoder.safetensors",
            "url": f"{server.address}/{way}",
            "arch": "resnet50",
            "method": "spark",
            "stages": (),
            "source": "timm",
            "layout": "flat",
            "sha256": sha256,
            "named_in": "a README",
        }
        release = releases.Release(**fields, mirrors=mirrors)
        monkeypatch.setattr(releases, "releases", lambda: {NAME: release})
        return release

    return make


def find(tmp_path):
    return releases.find(NAME, tmp_path / "weights")[0]


def test_a_name_brings_the_file_and_its_hash(named, tmp_path, server):
    named("whole")
    path = find(tmp_path)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert path.with_name("encoder.safetensors.sha256").read_text() == f"{sha256}  {path.name}\n"
    assert find(tmp_path) == path
    assert len(server.asked) == 1
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(WeightsError, match=f"at its first use it was {sha256}"):
        find(tmp_path)


def test_another_file_than_the_manifest_knows_is_dropped(named, tmp_path, server):
    named("whole", "0" * 64)
    with pytest.raises(FileNotFoundError, match="the manifest has 0000"):
        find(tmp_path)
    assert not [p for p in (tmp_path / "weights").iterdir() if not p.name.endswith(".lock")]
    named("whole", "0" * 64, (f"{server.address}/redirect",))
    with pytest.raises(FileNotFoundError, match="/redirect: "):
        find(tmp_path)


def test_the_manifests_hash_holds(named, tmp_path):
    named("whole", hashlib.sha256(CONTENT).hexdigest())
    assert alone(find(tmp_path))


def test_offline_says_where_to_get_it_and_asks_nobody(named, tmp_path, server, monkeypatch):
    named("whole")
    told = "is not there: get it from http.*and put it at .*/weights/encoder.safetensors"
    with releases.nothing_fetched(), pytest.raises(FileNotFoundError, match=told):
        find(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=f"{told}.*HF_HUB_OFFLINE is set"):
        find(tmp_path)
    assert server.asked == []


def test_who_refused_it_is_told_beside_where_to_put_it(named, tmp_path):
    named("error/404")
    with pytest.raises(FileNotFoundError, match=r"put it at .*answers 404") as caught:
        find(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_mirror_of_hugging_face_is_asked_in_its_place(named, tmp_path, server, monkeypatch):
    release = named("error/404", mirrors=("https://huggingface.co/whole/of/it",))
    monkeypatch.setenv("HF_ENDPOINT", f"{server.address}/")
    assert releases._addresses(release)[1] == f"{server.address}/whole/of/it"
    assert find(tmp_path).read_bytes() == CONTENT


def test_weights_may_be_a_name(named, server):
    named("broken")
    with pytest.raises(WeightsError, match=r"encoder\.safetensors: its layout is not known"):
        convert.read_weights(NAME)
    assert len(server.asked) == 2
