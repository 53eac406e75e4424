"""One flow, one task: greet somebody."""

from __future__ import annotations

from prefect import flow, task


@task
def greeting(name: str) -> str:
    return f"Hello, {name}!"


@flow(name="hello", log_prints=True)
def hello(name: str = "world") -> str:
    words = greeting(name)
    print(words)
    return words


if __name__ == "__main__":
    hello()
