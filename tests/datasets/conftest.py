import http.server
import threading

import pytest


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve `served/`; `cut[name]` bytes of a file are left out."""
    root = tmp_path / "served"
    root.mkdir(exist_ok=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            file = root / self.path.lstrip("/")
            if not file.is_file():
                return self.send_error(404)
            body = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) - cut.get(file.name, 0)])

        def log_message(self, *args):
            pass

    requests, cut = [], {}
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        httpd.url = f"http://127.0.0.1:{httpd.server_port}"
        httpd.requests, httpd.cut = requests, cut
        httpd.cache = tmp_path / "keras_home" / "datasets" / "keras_mmrel"
        yield httpd
        httpd.shutdown()
        thread.join()
