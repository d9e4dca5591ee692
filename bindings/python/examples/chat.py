"""A chat in the browser, by long polling: a request waits until somebody says something.

    python chat.py [PORT]       and open http://127.0.0.1:8000/

A waiting request is a greenlet with a queue, which costs a few kilobytes. Thousands may wait.
"""
import json
import sys
from urllib.parse import parse_qs

from weald.pywsgi import WSGIServer
from weald.queue import Empty, Queue

PAGE = """<!doctype html><meta charset="utf-8"><title>weald chat</title>
<style>body { font: 16px sans-serif; max-width: 40em; margin: 2em auto } #said { white-space: pre-wrap }</style>
<div id="said"></div><form><input id="text" size="60" autofocus autocomplete="off"></form>
<script>
const me = "guest" + Math.floor(Math.random() * 1000);
async function listen() {
  for (;;) {
    try {
      for (const line of await (await fetch("/poll?me=" + me)).json()) {
        document.getElementById("said").append(line + "\\n");
      }
    } catch (problem) { await new Promise(next => setTimeout(next, 1000)); }
  }
}
document.forms[0].onsubmit = event => {
  event.preventDefault();
  const text = document.getElementById("text");
  fetch("/say?me=" + me, { method: "POST", body: text.value });
  text.value = "";
};
listen();
</script>
"""


class Room:
    """Who listens, and what was said lately."""

    def __init__(self):
        self.inboxes = {}
        self.latest = []

    def listener(self, name):
        if name not in self.inboxes:
            self.inboxes[name] = Queue()
            for line in self.latest[-20:]:
                self.inboxes[name].put(line)
        return self.inboxes[name]

    def say(self, line):
        self.latest.append(line)
        del self.latest[:-20]
        for inbox in self.inboxes.values():
            inbox.put(line)

    def hear(self, name, wait=30):
        """What was said since the last time; waits for it, and returns nothing if nobody speaks."""
        inbox = self.listener(name)
        try:
            lines = [inbox.get(timeout=wait)]
        except Empty:
            return []
        while not inbox.empty():
            lines.append(inbox.get())
        return lines


room = Room()


def application(environ, start_response):
    path, me = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"]).get("me", ["nobody"])[0]
    if path == "/poll":
        kind, body = "application/json", json.dumps(room.hear(me))
    elif path == "/say" and environ["REQUEST_METHOD"] == "POST":
        room.say(f"{me}: {environ['wsgi.input'].read().decode(errors='replace')[:500]}")
        kind, body = "text/plain", ""
    else:
        kind, body = "text/html; charset=utf-8", PAGE
    start_response("200 OK", [("Content-Type", kind), ("Cache-Control", "no-store")])
    return [body.encode()]


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    print(f"http://127.0.0.1:{port}/", flush=True)
    WSGIServer(("127.0.0.1", port), application, log=None).serve_forever()


if __name__ == "__main__":
    main()
