#!/usr/bin/env python3
"""Drives the chat with a real browser: two tabs talk, a reload catches up, a restart of the server is survived.

    tests/browser/chat.py [--shot FILE] PROGRAM ARGUMENTS...

PROGRAM is a server that takes a port as its last argument (0: any) and prints its URL. Needs chromium, chromedriver
and selenium. Prints a line for each claim that it saw hold; exit status 1 at the first that does not.
"""
import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from selenium import webdriver
from selenium.webdriver.common.by import By

WAYS = ("socket", "events", "poll")
PATIENCE = 30
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage")


class Server:
    def __init__(self, command):
        self.command, self.port, self.process = command, 0, None

    def start(self):
        self.process = subprocess.Popen([*self.command, str(self.port)], stdout=subprocess.PIPE, text=True)
        found = re.search(r"http://[^:/]+:(\d+)", self.process.stdout.readline())
        if not found:
            raise SystemExit("the server printed no URL")
        self.port = int(found[1])
        return found[0]

    def stop(self):
        """As systemd would; it must end by itself, whoever is connected."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        if status != 0:
            raise SystemExit(f"the server ended with status {status}")


class Tab:
    def __init__(self, browser, url, name, way):
        self.browser, self.name = browser, name
        browser.switch_to.new_window("tab")
        self.handle = browser.current_window_handle
        browser.get(f"{url}/?name={name}&via={way}")

    def look(self):
        self.browser.switch_to.window(self.handle)

    def find(self, name):
        self.look()
        return self.browser.find_element(By.ID, name)

    def state(self):
        return self.find("state").text.split()[-1]

    def lines(self):
        self.look()
        return [(line.find_element(By.TAG_NAME, "b").text, line.text)
                for line in self.browser.find_elements(By.CSS_SELECTOR, "#room li")]

    def say(self, text):
        self.find("text").send_keys(text + "\n")

    def reload(self):
        self.look()
        self.browser.refresh()


def becomes(what, now, wanted):
    """Waits for it, and says that it has come."""
    end = time.monotonic() + PATIENCE
    seen = None
    while time.monotonic() < end:
        try:
            seen = now()
        except Exception as error:  # a page in the middle of a reload
            seen = error
        if seen == wanted:
            return print(f"ok {what}", flush=True)
        time.sleep(0.05)
    raise SystemExit(f"not ok {what}: {seen!r}, not {wanted!r}")


def spoken(tab):
    return [(name, text.removeprefix(name).strip()) for name, text in tab.lines()]


def talk(way, browser, server, shot):
    url = server.start()
    tabs = [Tab(browser, url, name, way) for name in ("ann", "bob")]
    ann, bob = tabs
    said = []

    def say(tab, text):
        tab.say(text)
        said.append((tab.name, text))
        for one in tabs:
            becomes(f"{way}: {one.name} sees {text!r}", lambda one=one: spoken(one), said)

    for tab in tabs:
        becomes(f"{way}: {tab.name} is connected", tab.state, "connected")
    say(ann, "hello")
    say(bob, "hello ann")
    say(bob, "<b>not</b> & bold")
    ann.reload()
    becomes(f"{way}: after a reload ann has it all", lambda: spoken(ann), said)
    if shot:
        browser.save_screenshot(shot)
    server.stop()
    for tab in tabs:
        becomes(f"{way}: {tab.name} notices that the server has gone", tab.state, "reconnecting")
    server.start()
    for tab in tabs:
        becomes(f"{way}: {tab.name} finds the new one", tab.state, "connected")
    say(ann, "still there?")
    for tab in tabs:
        tab.look()
        browser.close()
    browser.switch_to.window(browser.window_handles[0])
    server.stop()
    server.port = 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", default=shutil.which("chromium"))
    parser.add_argument("--driver", default=shutil.which("chromedriver"))
    parser.add_argument("--shot", help="write a picture of the page to this file")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    options = webdriver.ChromeOptions()
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.binary_location = arguments.browser
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(arguments.driver))
        server = Server(arguments.command)
        try:
            for way in WAYS:
                talk(way, browser, server, arguments.shot)
        finally:
            browser.quit()
            if server.process and server.process.poll() is None:
                server.process.kill()


if __name__ == "__main__":
    sys.exit(main())
