#!/usr/bin/env python3
"""Measures weald and its peers side by side and says which targets are met.

    run.py                        everything but the million rows, five repetitions
    run.py --slow                 the million rows as well (about 10 GB of memory)
    run.py --quick                a smoke test of every program, under a minute
    run.py --rows yield,queue --peers st,go --reps 9

Programs take turns (repetition 1 of each, repetition 2 of each ...), on one core, timed
by their own CPU clock. Tables go to stdout, progress to stderr, the single runs to
target/bench/raw.jsonl. Exit status: 1 if a program of ours failed, else 0; a missed target
is a result, not a failure, and a peer that fails is left out and named.
"""

import sys

sys.dont_write_bytecode = True  # nothing is to appear in the source tree

import argparse
import json
import os
import shutil

from harness import build, measure, report
from harness.build import say
from harness.peers import CLIENT, OURS, PEERS
from harness.rows import JOBS

KINDS = {peer.name: peer.kind for peer in PEERS}
SLOW_MEMORY = 12e9  # bytes that a million stacks of the most generous peer need


def chosen(word_list, name):
    """Whether a --rows or --peers list names this one; a prefix is enough for rows."""
    return not word_list or any(name == w or name.startswith(w + "-") for w in word_list.split(","))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reps", type=int, help="repetitions (5; 1 with --quick)")
    parser.add_argument("--rows", help="some of: " + ", ".join(job.name for job in JOBS))
    parser.add_argument("--peers", help="some of: " + ", ".join(KINDS) + " (weald always runs)")
    parser.add_argument("--quick", action="store_true", help="small counts: does everything work?")
    parser.add_argument("--slow", action="store_true", help="the million rows too")
    parser.add_argument("--out", help="write the summary in Markdown to this file")
    parser.add_argument("--core", type=int, help="the core to run on (the last one)")
    parser.add_argument("--no-install", action="store_true", help="leave out what is not installed")
    parser.add_argument("--verbose", action="store_true", help="say each run")
    options = parser.parse_args()
    unknown = [w for w in (options.peers or "").split(",") if w and w not in KINDS]
    unknown += [w for w in (options.rows or "").split(",") if w and not any(chosen(w, j.name) for j in JOBS)]
    if unknown:
        parser.error("unknown: " + ", ".join(unknown))
    return options


def available_memory():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable:"))


def is_wanted(job, options):
    """A slow job runs with --slow, or when --rows gives its whole name."""
    by_name = job.name in (options.rows or "").split(",")
    return chosen(options.rows, job.name) and (options.slow or by_name or not job.slow)


def pick_jobs(options):
    jobs = [job for job in JOBS if is_wanted(job, options)]
    if any(job.slow for job in jobs) and available_memory() < SLOW_MEMORY:
        say("the million rows are left out: they need 12 GB of free memory")
        jobs = [job for job in jobs if not job.slow]
    if any(job.client == "calls" for job in jobs) and not shutil.which("strace"):
        say("system calls are not counted: there is no strace")
        jobs = [job for job in jobs if job.client != "calls"]
    return jobs


def pick_peers(options, jobs):
    names = {job.name for job in jobs}
    return [p for p in PEERS if (p.name == OURS or chosen(options.peers, p.name)) and names & set(p.jobs)]


def run_once(peer, program, job, options):
    numbers = job.command(options.quick, peer.scale)
    command = [program, peer.words.get(job.name, job.word)]
    if job.client:
        command = [build.path(CLIENT), job.client, *numbers, "--", *command]
    else:
        command += numbers
    if not options.quick:
        measure.wait_for_quiet(0.5)
    if job.word == "idle":
        times = {"seconds": 0.2, "settle": 0.1} if options.quick else {"seconds": 1}
        return measure.run_idle(command, peer.env, options.core, **times)
    return measure.run(command, peer.env, options.core, job.timeout)


class Session:
    """All runs of one invocation."""

    def __init__(self, options, programs):
        self.options, self.programs = options, programs
        self.failures = {}  # (job, peer): why
        self.raw = open(os.path.join(build.OUT, "raw.jsonl"), "w")

    def run_job(self, job, peers):
        """{peer: [Run]}, in turns."""
        able = [p for p in peers if job.name in p.jobs and p.name in self.programs]
        runs = {peer.name: [] for peer in able}
        for rep in range(self.options.reps):
            say(f"{job.name}: {rep + 1}/{self.options.reps}")
            for peer in able:
                if (job.name, peer.name) not in self.failures:
                    self.run_peer(job, peer, rep, runs[peer.name])
        return runs

    def run_peer(self, job, peer, rep, runs):
        run = run_once(peer, self.programs[peer.name], job, self.options)
        self.record(job, peer, rep, run)
        if run.failure:
            self.failures[job.name, peer.name] = run.failure
            say(f"  {peer.name} failed: {run.failure}")
        else:
            runs.append(run)

    def record(self, job, peer, rep, run):
        line = {"job": job.name, "peer": peer.name, "rep": rep, "metrics": run.metrics,
                "failure": run.failure, "foreign": round(run.foreign, 3)}
        print(json.dumps(line), file=self.raw, flush=True)
        if self.options.verbose:
            say("  " + json.dumps(line))


def judge_job(job, runs):
    for row in job.rows:
        samples = {name: [(r.foreign, r.metrics[row.metric]) for r in rs if row.metric in r.metrics]
                   for name, rs in runs.items()}
        yield report.judge(job, row, samples, KINDS)


def remarks(options, missing, failures):
    lines = [f"{name} is left out: {' '.join(why.split())[:200]}" for name, why in missing.items()]
    lines += [f"{peer} failed on {job}: {why}" for (job, peer), why in failures.items()]
    if options.quick:
        lines.append("A smoke test: the counts are too small to judge speed by.")
    return lines


def measure_all(options):
    jobs = pick_jobs(options)
    peers = pick_peers(options, jobs)
    programs, missing = build.build_all(peers, CLIENT, not options.no_install)
    for name, why in missing.items():
        say(f"{name} is left out: {why}")
    session, verdicts = Session(options, programs), []
    for job in jobs:
        for verdict in judge_job(job, session.run_job(job, peers)):
            print(report.row_table(verdict, KINDS), end="\n\n", flush=True)
            verdicts.append(verdict)
    notes = remarks(options, missing, session.failures)
    text = report.summary(verdicts, notes) + "\n" + report.peers_table(verdicts, [p.name for p in peers])
    return text, OURS in missing or any(peer == OURS for _, peer in session.failures)


def main():
    options = arguments()
    options.reps = options.reps or (1 if options.quick else 5)
    if options.core is None:
        options.core = max(os.sched_getaffinity(0))
    text, failed = measure_all(options)
    print(text)
    if options.out:
        with open(options.out, "w") as f:
            f.write(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
