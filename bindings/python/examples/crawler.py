"""A crawler: follows the links of a site with a bounded number of requests at a time.

    python crawler.py URL [PAGES]

It uses the standard urllib, patched, so that each request waits on its own. Without a URL it crawls a small site that
it serves itself.
"""
from weald import monkey

monkey.patch_all()

import re
import sys
import urllib.parse
import urllib.request

import weald
from weald.pool import Pool
from weald.pywsgi import WSGIServer

LINK = re.compile(rb'href="([^"#]+)"')


class Crawler:
    def __init__(self, start, limit):
        self.site = urllib.parse.urlsplit(start).netloc
        self.limit = limit
        self.seen = {start}
        self.pages = {}
        self.pool = Pool(10)
        self.pool.spawn(self.fetch, start)

    def fetch(self, url):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                body = answer.read()
        except OSError as problem:
            self.pages[url] = problem
            return
        self.pages[url] = len(body)
        for link in LINK.findall(body):
            self.follow(urllib.parse.urljoin(url, link.decode()))

    def follow(self, url):
        if url in self.seen or len(self.seen) >= self.limit or urllib.parse.urlsplit(url).netloc != self.site:
            return
        self.seen.add(url)
        # Not through the pool from within it: a full pool would wait for itself.
        weald.spawn(self.pool.spawn, self.fetch, url)

    def run(self):
        while len(self.pages) < len(self.seen):
            weald.sleep(0.01)
        return self.pages


def forest(environ, start_response):
    """A site: each page has two below it, down to seven steps."""
    number = int(environ["PATH_INFO"].strip("/") or 1)
    weald.sleep(0.02)
    start_response("200 OK", [("Content-Type", "text/html")])
    below = [n for n in (2 * number, 2 * number + 1) if n < 128]
    return ["".join(f'<a href="/{n}">{n}</a>' for n in below).encode()]


def main():
    if len(sys.argv) > 1:
        url, limit = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100
    else:
        server = WSGIServer(("127.0.0.1", 0), forest, log=None)
        server.start()
        url, limit = f"http://127.0.0.1:{server.server_port}/1", 1000
    pages = Crawler(url, limit).run()
    failed = [url for url, what in pages.items() if isinstance(what, OSError)]
    print(f"{len(pages)} pages, {len(failed)} failed")


if __name__ == "__main__":
    main()
