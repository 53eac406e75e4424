"""Three steps: read measurements, summarise them by place, report. The first step is retried when it fails."""

from __future__ import annotations

import random
from collections import defaultdict
from statistics import mean

from prefect import flow, task

PLACES = ("harbour", "hill", "station")


@task(retries=3, retry_delay_seconds=1)
def extract(size: int) -> list[tuple[str, float]]:
    if random.random() < 0.2:
        raise ConnectionError("the sensor did not answer")
    return [(random.choice(PLACES), round(random.gauss(15, 4), 1)) for _ in range(size)]


@task
def transform(measured: list[tuple[str, float]]) -> dict[str, float]:
    by_place: dict[str, list[float]] = defaultdict(list)
    for place, celsius in measured:
        by_place[place].append(celsius)
    return {place: round(mean(values), 2) for place, values in sorted(by_place.items())}


@task
def load(means: dict[str, float]) -> int:
    for place, celsius in means.items():
        print(f"{place:<8} {celsius:6.2f} °C")
    return len(means)


@flow(name="etl", log_prints=True)
def etl(size: int = 100) -> int:
    return load(transform(extract(size)))


if __name__ == "__main__":
    etl()
