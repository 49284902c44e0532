"""Files at addresses: only from listed hosts, at addresses that are public or listed too, and not more than allowed."""

import base64
import contextlib
import http.server
import io
import shutil
import socket
import ssl
import subprocess
import threading
import time
import wave

import pytest

from onnxpipe.errors import DeadlineExceeded, InvalidInput
from onnxpipe_server import urls
from onnxpipe_server.settings import Settings
from onnxpipe_server.tickets import Ticket, working_for
from onnxpipe_server.urls import UrlReader, read_rules

CONTENT = bytes(range(256)) * 8


class Host(http.server.BaseHTTPRequestHandler):
    """Answers by path, and keeps the heads of what it was asked."""

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        getattr(self, f"answer_{self.path[1:].partition('?')[0]}")()

    def answer(self, content=CONTENT, status=200, **headers):
        self.send_response(status)
        for name, value in {"content_length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def answer_file(self):
        self.answer()

    def answer_absent(self):
        self.answer(status=404)

    def answer_moved(self):
        self.answer(b"", 302, location="/file")

    def answer_packed(self):
        self.answer(content_encoding="gzip")

    def answer_short(self):
        self.answer(content_length=str(len(CONTENT) + 1))

    def answer_endless(self):
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(CONTENT)

    def answer_slow(self):
        """A head that never ends, each line of it in time."""
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(50):
                self.wfile.write(b"x-more: 1\r\n")
                time.sleep(0.1)

    def answer_sound(self):
        self.answer(self.server.sound)

    def log_message(self, *_):
        pass


@pytest.fixture
def host():
    """A host on this machine; `asked` are the requests that have come to it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def read(host):
    """Reads a path of that host, which is listed with its port."""

    def read(path="/file", *, rules=None, name="127.0.0.1", max_bytes=10_000, max_seconds=5.0):
        port = host.server_address[1]
        listed = read_rules([f"127.0.0.1:{port}"] if rules is None else [rule.format(port) for rule in rules])
        reader = UrlReader(listed, max_bytes=max_bytes, max_seconds=max_seconds)
        return reader.read(f"http://{name}:{port}{path}")

    return read


def test_a_file_of_a_listed_host_is_read(read, host):
    assert read("/file?size=1") == CONTENT

    ((path, headers),) = host.asked
    assert path == "/file?size=1"
    assert headers["Host"] == f"127.0.0.1:{host.server_address[1]}"
    assert set(headers) == {"Host", "accept-encoding", "connection", "user-agent"}


@pytest.mark.parametrize("rules", [[], ["example.org"], ["example.org:{}"], ["10.0.0.0/8"], ["127.0.0.1"], ["*"]])
def test_a_host_or_port_that_is_not_listed_is_not_asked(read, host, rules):
    with pytest.raises(InvalidInput, match=r"does not open addresses of the host '127\.0\.0\.1'"):
        read(rules=rules)
    assert not host.asked


@pytest.mark.parametrize("name", ["localhost", "2130706433", "127.1"])
def test_a_name_that_stands_for_this_machine_is_not_asked(read, host, name):
    with pytest.raises(InvalidInput, match="it is not a public one"):
        read(rules=["*:{}"], name=name)
    assert not host.asked


def test_a_name_that_stands_for_a_listed_address_is_asked(read):
    assert read(rules=["localhost:{}", "127.0.0.0/8", "::1"], name="localhost") == CONTENT


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.168.1.1",
        "::",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:0:a00:1::",
        "ff02::1",
    ],
)
def test_no_address_inside_is_connected_to_whatever_its_name_is(monkeypatch, address):
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80)) for one in ("93.184.215.14", address)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    monkeypatch.setattr(socket, "create_connection", None)

    with pytest.raises(InvalidInput, match="it is not a public one"):
        UrlReader(read_rules(["*"]), max_bytes=10, max_seconds=1).read("http://files.example/")


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(monkeypatch, host):
    """A name that stands for another address the second time it is looked up."""
    port = host.server_address[1]
    answers = iter([[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", port))]])
    connected = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: next(answers))
    connect = socket.socket.connect

    def connect_here(address, timeout):
        connected.append(address)
        one = socket.socket()
        one.settimeout(timeout)
        connect(one, host.server_address)
        return one

    monkeypatch.setattr(socket, "create_connection", connect_here)
    reader = UrlReader(read_rules([f"*.example:{port}"]), max_bytes=10_000, max_seconds=5)

    assert reader.read(f"http://files.example:{port}/file") == CONTENT
    assert connected == [("93.184.215.14", port)]
    assert host.asked[0][1]["Host"] == f"files.example:{port}"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/absent", "answered with status 404"),
        ("/moved", "answered with a redirect, which is not followed"),
        ("/packed", "answered with compressed content"),
        ("/short", "ended 1 bytes too early"),
        ("/file\tx", "expected an address of at most 2048 ASCII characters"),
        ("/" + "a" * 2048, "expected an address of at most 2048 ASCII characters"),
    ],
)
def test_what_is_no_file_is_refused_with_the_reason(read, host, path, reason):
    with pytest.raises(InvalidInput, match=reason):
        read(path)
    assert len(host.asked) <= 1


@pytest.mark.parametrize("path", ["/file", "/endless"])
def test_a_file_that_is_too_large_is_not_read_to_its_end(read, path):
    with pytest.raises(InvalidInput, match="at most 1000 bytes are read a request"):
        read(path, max_bytes=1000)


def test_the_bytes_are_those_of_all_files_of_a_request(host):
    port = host.server_address[1]
    reader = UrlReader(read_rules([f"127.0.0.1:{port}"]), max_bytes=3000, max_seconds=5)

    assert reader.read(f"http://127.0.0.1:{port}/file") == CONTENT
    with pytest.raises(InvalidInput, match="at most 3000 bytes are read a request"):
        reader.read(f"http://127.0.0.1:{port}/file")


def test_a_host_that_is_slow_is_left_when_the_time_is_over(read):
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"could not be read in 0\.3 s"):
        read("/slow", max_seconds=0.3)
    assert time.monotonic() - begun < 4


def test_a_request_that_has_less_time_gives_the_host_less():
    with working_for(Ticket(deadline=time.monotonic() + 1)):
        assert UrlReader([], max_bytes=1, max_seconds=10)._seconds <= 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://127.0.0.1/", "given the scheme 'ftp'"),
        ("http:///file", "expected an http or https address"),
        ("http://user:secret@127.0.0.1/", "without a user's name or password"),
        ("http://127.0.0.1:99999/", "given one that is wrong"),
        ("http://[::1/", "given one that is wrong"),
        ("http://größer.example/", "ASCII"),
    ],
)
def test_an_address_that_is_none_is_refused(url, reason):
    with pytest.raises(InvalidInput, match=reason):
        UrlReader(read_rules(["*"]), max_bytes=1, max_seconds=1).read(url)


def test_a_host_that_nobody_knows_or_that_does_not_answer_is_said(monkeypatch):
    reader = UrlReader(read_rules(["*", "127.0.0.1:1"]), max_bytes=1, max_seconds=1)
    with pytest.raises(InvalidInput, match=r"cannot be read \(ConnectionRefusedError"):
        reader.read("http://127.0.0.1:1/")

    def unknown(*_, **__):
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(InvalidInput, match=r"the host 'nowhere\.example' is not known"):
        reader.read("http://nowhere.example/")


@pytest.mark.parametrize(
    ("entry", "covered", "others"),
    [
        (
            "example.org",
            "http://example.org",
            ["http://a.example.org", "http://example.org:8080", "http://badexample.org"],
        ),
        ("*.example.org", "https://a.b.example.org", ["https://example.org", "https://badexample.org"]),
        ("EXAMPLE.org:8080", "http://example.org:8080", ["http://example.org", "https://example.org"]),
        ("*", "https://anything", ["https://anything:444"]),
        ("10.0.0.0/8", "http://10.1.2.3", ["http://11.0.0.1", "http://10.1.2.3:81", "http://10.1.2.3.example.org"]),
        ("[fd00::1]:9000", "http://[fd00::1]:9000", ["http://[fd00::1]", "http://[fd00::2]:9000"]),
    ],
)
def test_an_entry_covers_these_and_not_those(entry, covered, others):
    (rule,) = read_rules([entry])

    def covers(url):
        parts, port = urls._split(url)
        return rule.covers(parts.hostname, port, parts.scheme)

    assert covers(covered)
    assert not any(map(covers, others))


@pytest.mark.parametrize(
    "entry", ["", "http://example.org", "example.org/a", "a@b", "*.*", "a*b", "host:port", "ex ample"]
)
def test_an_entry_that_is_no_host_keeps_the_server_from_starting(entry):
    with pytest.raises(InvalidInput, match=r"expected a host such as example\.org"):
        Settings(allow_urls=(entry,))


@pytest.fixture
def certificate(tmp_path):
    """A certificate and key of files.example, which nobody else trusts."""
    if not shutil.which("openssl"):
        pytest.skip("certificates are made with openssl")
    files = [str(tmp_path / name) for name in ("certificate.pem", "key.pem")]
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=files.example"
    extension = ["-addext", "subjectAltName=DNS:files.example"]
    command = ["openssl", "req", *options.split(), *extension, "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


@pytest.mark.parametrize(
    ("name", "trusted", "outcome"),
    [("files.example", True, CONTENT), ("other.example", True, None), ("files.example", False, None)],
)
def test_the_certificate_must_be_that_of_the_name(monkeypatch, host, certificate, name, trusted, outcome):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    host.socket = context.wrap_socket(host.socket, server_side=True)
    host.handle_error = lambda *_: None
    port = host.server_address[1]
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", host.server_address)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    if trusted:
        trusting = ssl.create_default_context(cafile=certificate[0])
        monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    reader = UrlReader(read_rules([f"*.example:{port}", "127.0.0.1"]), max_bytes=10_000, max_seconds=5)

    if outcome:
        assert reader.read(f"https://{name}:{port}/file") == outcome
    else:
        with pytest.raises(InvalidInput, match="SSLCertVerificationError"):
            reader.read(f"https://{name}:{port}/file")
        assert not host.asked


@pytest.fixture
def sound(host):
    """A second of silence at /sound."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(32_000))
    host.sound = buffer.getvalue()
    return f"http://127.0.0.1:{host.server_address[1]}/sound"


def test_a_request_may_name_a_file_where_its_host_is_allowed(served, make_client, host, sound):
    pytest.importorskip("soundfile")
    client = make_client(served("acme/ears", "ears"), allow_urls=(f"127.0.0.1:{host.server_address[1]}",))
    encoded = base64.b64encode(host.sound).decode()

    assert client.post("/", json={"inputs": sound}).json() == [16_000]
    both = client.post("/", json={"inputs": [sound, encoded]})
    assert both.json() == [[16_000], [16_000]]
    refused = client.post("/", json={"inputs": "http://127.0.0.1:1/sound"})
    assert refused.status_code == 400
    assert "`inputs`: this server does not open addresses of the host '127.0.0.1' and port 1" in refused.json()["error"]


def test_the_same_address_is_asked_each_time_but_the_answer_is_kept_by_content(served, make_client, host, sound):
    pytest.importorskip("soundfile")
    client = make_client(served("acme/ears", "ears"), allow_urls=(f"127.0.0.1:{host.server_address[1]}",))
    types = [client.post("/", json={"inputs": sound}).headers["x-compute-type"] for _ in range(2)]

    assert types == ["cpu", "cache"]
    assert len(host.asked) == 2
