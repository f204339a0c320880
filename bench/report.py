"""Report: what bench/report.h is, for the benchmarks that are scripts: figures, those with a target among them.

A figure keeps its name from run to run, since two revisions are compared by it: what varies goes into `note`.
finish() prints a line for each target and gives the exit status; where BENCH_FIGURES names a file, each figure is also
added to it as a line of JSON."""

import json
import os


class Report:
    def __init__(self):
        self.figures = []

    def at_most(self, what, measured, limit, unit="", note=""):
        self._add(what, measured, unit, False, limit, note)

    def at_least(self, what, measured, limit, unit="", note=""):
        self._add(what, measured, unit, True, limit, note)

    def figure(self, what, measured, unit="", more_is_better=False):
        self._add(what, measured, unit, more_is_better, None, "")

    def _add(self, what, measured, unit, more_is_better, limit, note):
        self.figures.append({"what": what, "measured": float(measured), "unit": unit,
                             "more_is_better": more_is_better, "note": note}
                            | ({} if limit is None else {"limit": limit}))

    def finish(self):
        if path := os.environ.get("BENCH_FIGURES"):
            with open(path, "a", encoding="utf-8") as file:
                for figure in self.figures:
                    print(json.dumps(figure), file=file)
        return 0 if print_targets(self.figures) else 1


def is_met(figure):
    measured, limit = figure["measured"], figure["limit"]
    return measured >= limit if figure["more_is_better"] else measured <= limit


def print_targets(figures):
    """True if every target is met."""
    targets = [figure for figure in figures if "limit" in figure]
    if targets:
        print("\ntargets")
    for each in targets:
        print(f"  {each['what']:66} {each['measured']:10.2f} {each['unit']:5} {'>=' if each['more_is_better'] else '<='} "
              f"{each['limit']:9.2f}   {'met' if is_met(each) else 'NOT MET'}{each.get('note', '')}")
    return all(is_met(figure) for figure in targets)
