"""The programs of examples/ do what they say."""
import json
import signal
import socket
import threading
import time
import unittest
from pathlib import Path

import support

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


class Examples(support.TestCase):
    def test_actors(self):
        self.prints("80 planks", EXAMPLES / "actors.py", how="plain")

    def test_workers(self):
        self.prints("40 jobs, too long: [9, 19, 29, 39]", EXAMPLES / "workers.py", how="plain")

    def test_crawler(self):
        self.prints("127 pages, 0 failed", EXAMPLES / "crawler.py", how="plain")

    def test_proxy(self):
        with socket.create_server(("127.0.0.1", 0)) as target:
            port = support.free_port()
            server = self.serves(
                EXAMPLES / "proxy.py", port, "127.0.0.1", target.getsockname()[1], port=port, how="plain"
            )
            # The probe that found it listening.
            target.accept()[0].close()
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                upstream, _ = target.accept()
                client.sendall(b"there")
                self.assertEqual(upstream.recv(100), b"there")
                upstream.sendall(b"back")
                self.assertEqual(client.recv(100), b"back")
                upstream.close()
                self.assertEqual(client.recv(100), b"")
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(20), 0, server.output())

    def test_chat(self):
        port = support.free_port()
        self.serves(EXAMPLES / "chat.py", port, port=port, how="plain")
        self.assertIn(b"<title>weald chat", support.get(port)[1])
        heard = []
        listener = threading.Thread(target=lambda: heard.append(support.get(port, "/poll?me=ann")))
        listener.start()
        time.sleep(0.5)
        self.assertEqual(heard, [])
        support.http(port, "POST /say?me=bob HTTP/1.1\nHost: a\nConnection: close\nContent-Length: 5\n\nhello")
        listener.join(20)
        self.assertEqual([(status, json.loads(body)) for status, body in heard], [(200, ["bob: hello"])])


if __name__ == "__main__":
    unittest.main()
