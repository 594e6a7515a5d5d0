"""How good the rules are: `python -m tests.detection.evaluate --seeds 1 2 3`.

Prints, for each rule over the labelled months of those seeds, how many of the incidents that it has
to find it found, how many of its alerts were of an incident, and false alerts for each 10,000
events. Seed 3 was never looked at while rules were tuned.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from audit.detection.engine import Engine, delivered
from audit.detection.raising import Raised
from audit.detection.rules import RULES
from tests.detection.month import Incident, Month, fact, make_month, planted


@dataclass(slots=True)
class Score:
    """What came of a month; the counters are by rule."""

    events: int = 0
    seconds: float = 0.0
    to_find: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    true: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    missed: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[Raised] = field(default_factory=list)

    @property
    def false_in_10_000(self) -> float:
        return 10_000 * self.false.total() / self.events


def judged(month: Month) -> tuple[Engine, float]:
    """The engine after it has seen the month, and the seconds that took."""
    facts = [fact(index, row) for index, row in enumerate(month.rows)]
    engine = Engine(delivered())
    begin = time.perf_counter()
    for each in facts:
        engine.see(each)
    engine.pass_to(facts[-1].recorded + 2 * 3_600_000)
    return engine, time.perf_counter() - begin


def score(month: Month) -> Score:
    """Compare the alerts with what was planted."""
    engine, seconds = judged(month)
    result = Score(events=len(month.rows), seconds=seconds)
    incidents = list(planted(month))
    hits = {id: list(_incidents_of(alert, incidents)) for id, alert in engine.alerts.items()}
    for id, alert in engine.alerts.items():
        rule = alert.setting.rule.slug
        right = [each for each in hits[id] if rule in each.must | each.may]
        (result.true if right else result.false)[rule] += 1
        if not right:
            result.wrong.append(alert)
    for incident, _ in incidents:
        for rule in incident.must:
            result.to_find[rule] += 1
            if any(
                incident in hits[id] and alert.setting.rule.slug == rule
                for id, alert in engine.alerts.items()
            ):
                result.found[rule] += 1
            else:
                result.missed.append((incident.kind, rule))
    return result


def _incidents_of(
    alert: Raised, incidents: Iterable[tuple[Incident, set[int]]]
) -> Iterable[Incident]:
    named = {index for index, _ in alert.named}
    return (incident for incident, indexes in incidents if named & indexes)


def table(result: Score) -> str:
    """The figures of each rule in a line."""
    lines = [f"{'rule':32} planted  found  recall  alerts  false  precision"]
    for rule in RULES:
        slug = rule.slug
        alerts = result.true[slug] + result.false[slug]
        recall = f"{result.found[slug] / result.to_find[slug]:.2f}" if result.to_find[slug] else "-"
        precision = f"{result.true[slug] / alerts:.2f}" if alerts else "-"
        lines.append(
            f"{slug:32} {result.to_find[slug]:7} {result.found[slug]:6} {recall:>7}"
            f" {alerts:7} {result.false[slug]:6} {precision:>10}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--events", type=int, default=300_000)
    options = parser.parse_args()
    for seed in options.seeds:
        month = make_month(seed, events=options.events)
        result = score(month)
        print(f"\nseed {seed}: {result.events:,} events, {len(month.incidents)} incidents planted")
        print(table(result))
        print(
            f"incidents missed: {result.missed or 'none'};"
            f" false alerts: {result.false.total()}, {result.false_in_10_000:.2f} in 10,000 events;"
            f" judged at {result.events / result.seconds:,.0f} events/s"
        )


if __name__ == "__main__":
    main()
