"""weald and gevent side by side: the same programs in the same run, in turns, each in a process of its own.

    python bench.py [--rounds N] [ROW ...]              a table of medians and ratios; `--list` names the rows
    python bench.py --one ROW weald|gevent|PEER         what a process does: prints one number

Figures are CPU time per operation, unless a row says otherwise. A row's target is the most that weald may take of what
gevent takes. Some rows have others beside them: asyncio and uvloop, which weald is to be ahead of, and servers that are
not Python. What a row needs (gevent, peers, Redis, PostgreSQL, ab) is installed where that may be done; otherwise the
row is skipped, and says why.
"""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import unittest

from rows import LOOPS
import servers  # after rows: the table has them in this order
from table import ROWS, Skipped

SKIPPED = 77  # the status that says so


def one(name, who):
    try:
        print(ROWS[name].work(who))
    except Skipped as reason:
        print(reason, file=sys.stderr)
        sys.exit(SKIPPED)


def run(name, who, env):
    command = [sys.executable, __file__, "--one", name, who]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    if done.returncode == SKIPPED:
        raise Skipped(done.stderr.strip())
    if done.returncode != 0:
        print(f"{name}: {who} failed: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return float(done.stdout)


@contextlib.contextmanager
def serviced(service):
    """The environment of a row, whose service runs meanwhile."""
    if service is None:
        yield os.environ
        return
    try:
        running = getattr(servers.support, service)()
    except unittest.SkipTest as reason:
        raise Skipped(str(reason)) from None
    try:
        yield {**os.environ, "WEALD_BENCH_PORT": str(running.port)}
    finally:
        running.stop()


def medians(name, rounds):
    """By who, in turns. Skipped: weald or gevent can not be had; a peer is left out."""
    row = ROWS[name]
    figures = {who: [] for who in ("weald", "gevent", *row.beside)}
    with serviced(row.service) as env:
        for _ in range(rounds):
            for who in list(figures):
                try:
                    figure = run(name, who, env)
                except Skipped:
                    if who in ("weald", "gevent"):
                        raise
                    figure = None
                if figure is None:
                    del figures[who]
                else:
                    figures[who].append(figure)
    return {who: statistics.median(of_one) for who, of_one in figures.items()}


def shown(figure, unit):
    if unit == "bytes":
        return f"{figure / 1024:,.1f} KiB" if figure < 1 << 20 else f"{figure / (1 << 20):,.1f} MiB"
    return f"{figure:,.1f} {unit}" if figure < 100 else f"{figure:,.0f} {unit}"


def main():
    if sys.argv[1:2] == ["--one"]:
        return one(*sys.argv[2:4])
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("rows", nargs="*", help="parts of the names of rows")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--list", action="store_true")
    arguments.add_argument("--json", help="a file for the medians")
    arguments = arguments.parse_args()
    names = [name for name in ROWS if not arguments.rows or any(part in name for part in arguments.rows)]
    if arguments.list:
        return print("\n".join(names))
    import gevent

    print(f"CPython {sys.version.split()[0]}, gevent {gevent.__version__}; medians of {arguments.rounds}\n")
    print(f"| {'work':43} | {'weald':>12} | {'gevent':>12} | ratio | target | beside\n|---|---:|---:|---:|---:|---|")
    kept, met, skipped, behind = {}, 0, 0, []
    for name in names:
        try:
            found = medians(name, arguments.rounds)
        except Skipped as reason:
            skipped += 1
            print(f"| {name:43} | skipped: {reason} |", flush=True)
            continue
        if not {"weald", "gevent"} <= set(found):
            continue
        row = ROWS[name]
        ratio = found["weald"] / found["gevent"] if found["gevent"] else float("inf")
        kept[name] = {**found, "ratio": ratio, "target": row.target}
        met += ratio <= row.target
        behind += [f"{name} ({who})" for who in found if who.partition("-")[0] in LOOPS and found[who] < found["weald"]]
        beside = ", ".join(f"{who} {shown(found[who], row.unit)}" for who in row.beside if who in found)
        print(f"| {name:43} | {shown(found['weald'], row.unit):>12} | {shown(found['gevent'], row.unit):>12} |"
              f" {ratio:5.3f} | {row.target:5.3f}{'' if ratio <= row.target else ' *'} | {beside} |", flush=True)  # fmt: skip
    late = len(names) - met - skipped
    print(f"\n{met} of {len(names) - skipped} rows meet their target" + (" (* does not)" if late else ""))
    if behind:
        print(f"behind a loop of coroutines: {'; '.join(behind)}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(kept, file, indent=1)


if __name__ == "__main__":
    main()
