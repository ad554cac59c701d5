"""How soon are missed cases noticed, and how often is there an alarm without cause? Simulated hospitals.

Each hospital meets diseased studies one after the other; a share of them is missed. Prints, for each share,
how many hospitals ever alarmed and after how many diseased studies half of them had:

    python benchmarks/watching.py
"""

from __future__ import annotations

import argparse
import random
import statistics

from carina.serving.monitoring import Evidence

PROMISED, ALPHA = 0.95, 0.01


def alarmed_after(rng: random.Random, cases: int, rate: float, good: int = 0) -> int | None:
    """After how many diseased studies it alarms; the first ``good`` are missed half as often as promised."""
    evidence = Evidence(PROMISED)
    for number in range(1, cases + 1):
        evidence.see(rng.random() < ((1 - PROMISED) / 2 if number <= good else rate))
        if evidence.value >= 1 / ALPHA:
            return number
    return None


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--hospitals", type=int, default=200)
    asked.add_argument("--cases", type=int, default=500)
    given = asked.parse_args()
    print(
        f"promised {PROMISED:.0%}, alarm at {1 / ALPHA:g}; {given.hospitals} hospitals of {given.cases} cases"
    )
    for rate, good in ((0.05, 0), (0.10, 0), (0.15, 0), (0.30, 0), (0.15, 300), (0.30, 300)):
        rng = random.Random(int(1000 * rate) + good)
        found = [alarmed_after(rng, given.cases, rate, good) for _ in range(given.hospitals)]
        alarmed = sorted(each - good for each in found if each is not None)
        half = f"{statistics.median(alarmed):.0f}" if len(alarmed) > given.hospitals / 2 else "-"
        after = f" after {good} good ones" if good else ""
        print(
            f"missed {rate:.0%}{after}: {len(alarmed) / given.hospitals:.1%} alarmed; "
            f"half of them by case {half}"
        )


if __name__ == "__main__":
    main()
