"""Medians, ratios, verdicts, and the tables that show them."""

import statistics
from dataclasses import dataclass

from .peers import OURS
from .rows import BEST

QUIET = 0.15  # a run with more than this of a core used by others is noisy


@dataclass
class Verdict:
    """One row's outcome."""

    job: object
    row: object
    medians: dict  # peer name: (median, lowest, highest, runs used, runs)
    best: str  # the best peer's name, "" if none
    word: str  # met, missed, no target, not measured
    target: str

    @property
    def ours(self):
        return self.medians[OURS][0] if OURS in self.medians else None

    def ratio(self, name):
        reference = self.medians[name][0]
        if self.ours is None or not reference:
            return None
        return self.ours / reference


def settle(samples):
    """Medians of the quiet runs; of the quieter half if there are not enough of those."""
    quiet = [value for foreign, value in samples if foreign <= QUIET]
    if len(quiet) < 3:
        quieter = sorted(samples)[: max(3, len(samples) // 2)]
        quiet = [value for _, value in quieter]
    return statistics.median(quiet), min(quiet), max(quiet), len(quiet), len(samples)


def best_peer(job, medians, kinds):
    able = [name for name in medians if name != OURS and kinds[name] in job.best_of]
    return min(able, key=lambda name: medians[name][0], default="")


def judge_limits(limits, medians, best):
    """met, missed, or not measured when we or what we compare with did not run."""
    words = []
    for limit in limits:
        against = best if limit.against == BEST else limit.against
        if OURS not in medians:
            words.append("not measured")
        elif limit.against and against not in medians:
            words.append("not measured")
        else:
            reference = medians[against][0] if limit.against else None
            words.append("met" if limit.allows(medians[OURS][0], reference) else "missed")
    for word in ("missed", "not measured", "met"):
        if word in words:
            return word
    return "no target"


def judge(job, row, samples, kinds):
    """`samples`: {peer name: [(foreign share, value)]} of this row's metric."""
    medians = {name: settle(runs) for name, runs in samples.items() if runs}
    best = best_peer(job, medians, kinds)
    target = " and ".join(map(str, row.limits)) or "-"
    return Verdict(job, row, medians, best, judge_limits(row.limits, medians, best), target)


# ---- showing ----


def number(value):
    if value is None:
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def row_table(verdict, kinds):
    """The row's own table: every peer, the fastest first."""
    unit = f" ({verdict.row.unit})" if verdict.row.unit else ""
    lines = [f"{verdict.row.title}{unit}"]
    for name, (median, low, high, used, runs) in sorted(verdict.medians.items(), key=lambda m: m[1][0]):
        against = verdict.ratio(name)
        ours = "" if name == OURS or against is None else f"weald is {against:.2f} of it"
        kind = "" if kinds[name] == "green" else f" [{kinds[name]}]"
        lines.append(f"  {name + kind:18} {number(median):>12}  {number(low)} .. {number(high)}"
                     f"  {used}/{runs} runs  {ours}".rstrip())
    lines.append(f"  target {verdict.target}: {verdict.word}")
    return "\n".join(lines)


def summary(verdicts, remarks):
    """The whole result in Markdown."""
    lines = ["| work | unit | weald | best peer | ratio | target | |", "|---|---|---:|---|---:|---|---|"]
    for v in verdicts:
        best = f"{v.best} {number(v.medians[v.best][0])}" if v.best else "-"
        against = v.ratio(v.best) if v.best else None
        share = "-" if against is None else f"{against:.2f}"
        lines.append(f"| {v.row.title} | {v.row.unit or 'count'} | {number(v.ours)} | {best} | {share} "
                     f"| {v.target} | {v.word} |")
    tally = {word: sum(v.word == word for v in verdicts) for word in ("met", "missed", "not measured")}
    lines += ["", ", ".join(f"{n} {word}" for word, n in tally.items())]
    return "\n".join(lines + [""] + remarks if remarks else lines) + "\n"


def peers_table(verdicts, names):
    """Every peer's median, one line a row."""
    lines = ["| work | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for v in verdicts:
        cells = [number(v.medians[n][0]) if n in v.medians else "" for n in names]
        lines.append(f"| {v.row.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
