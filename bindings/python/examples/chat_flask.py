"""A chat in the browser with Flask: WebSocket, server-sent events and long poll, whichever a tab prefers.

    pip install flask
    python chat_flask.py [PORT]       and open the address that it prints

Each request is a greenlet, so those that wait for news cost a few kilobytes each. What was said has a number, and a tab
that was away asks for what came after the last one that it has; numbers begin with the time, so that they grow over a
restart of the server as well. The page is that of the same program in C, examples-c/50_chat.c.
"""
import json
import signal
import sys
import time
from collections import deque
from pathlib import Path

from flask import Flask, Response, request

import weald
from weald.event import Event
from weald.websocket import WebSocketServer

PAGE = Path(__file__).resolve().parents[3] / "examples-c" / "50_chat.html"

app = Flask(__name__)
room = deque(maxlen=100)
news = Event()
last = int(time.time() * 1000)


def say(name, text):
    global news, last
    last += 1
    room.append({"id": last, "name": name, "text": text})
    told, news = news, Event()
    told.set()


def wait_for(after, timeout=None):
    """What was said behind number `after`: waits until there is something, or for so many seconds."""
    with weald.Timeout(timeout, False):
        while after >= last or not room:
            news.wait()
    return [message for message in room if message["id"] > after]


def behind():
    return int(request.args.get("after", 0))


@app.get("/")
def page():
    return PAGE.read_text()


@app.post("/say")
def hear():
    say(request.form["name"][:20], request.form["text"][:1000])
    return "", 204


@app.get("/poll")
def poll():
    return wait_for(behind(), min(int(request.args.get("wait", 25)), 60))


@app.get("/events")
def events():
    def lines(after):
        yield ":\n\n"
        while True:
            messages = wait_for(after, 15)
            for message in messages:
                after = message["id"]
                yield f"data: {json.dumps(message)}\n\n"
            if not messages:
                yield ":\n\n"  # to notice that nobody listens any more

    return Response(lines(behind()), mimetype="text/event-stream")


@app.get("/socket", websocket=True)
def socket():
    connection, after = request.environ["wsgi.websocket"], behind()
    if connection is None:
        return "a WebSocket is to be asked for", 400

    def send(after):
        while True:
            for message in wait_for(after):
                after = message["id"]
                connection.send(json.dumps(message))

    sender = weald.spawn(send, after)
    try:
        for _ in connection:
            pass  # nothing is said here: it comes to /say
    finally:
        sender.kill()
    return ""


def main():
    server = WebSocketServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8000), app, log=None)
    server.start()
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    for sign in signal.SIGTERM, signal.SIGINT:
        weald.signal_handler(sign, server.stop, 0.1)
    server.serve_forever()


if __name__ == "__main__":
    main()
