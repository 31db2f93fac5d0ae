"""The text of ``nfproxy explain --from``: the client's steps, and what it gets elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from nfproxy.cli.textlayout import paragraph, table_lines
from nfproxy.insight.explanation import ClientPath, ClientTarget, Reaction
from nfproxy.text import plural

_STEP_TEXT = 16  # the column where a step's text begins


def client_lines(client: ClientPath, width: int) -> Iterator[str]:
    """Yield the lines for a terminal."""
    if client.steps:
        yield ""
        yield from _steps(client, width)
    if client.elsewhere:
        yield ""
        titles = ("THIS CLIENT ELSEWHERE", "ADDRESS", "ANSWER", "SOURCE")
        yield from table_lines(titles, map(_cells, client.elsewhere), width)


def _steps(client: ClientPath, width: int) -> Iterator[str]:
    """Yield a table; where it is too wide, each step as a text behind its number and hook."""
    ends = [f"{step.result} ← here" if step.is_end else step.result for step in client.steps]
    rows = [
        (str(number), step.at, step.rule, end)
        for number, (step, end) in enumerate(zip(client.steps, ends, strict=True), 1)
    ]
    lines = table_lines(("STEP", "HOOK", "WHAT HAPPENS", "END"), rows, 1 << 16)
    if max(map(len, lines)) <= width:
        yield from lines
        return
    for number, at, rule, end in rows:
        text = f"{rule}: {end}" if end else rule
        yield from paragraph(f"{number}  {at}", text, width, _STEP_TEXT)


def _cells(target: ClientTarget) -> tuple[str, ...]:
    answer, source = target.answer.value, ""
    if target.answer is Reaction.ENDPOINTS:
        answer = plural(len(target.endpoints), "endpoint")
        source = "node's" if target.source_changed else "kept"
    elif target.answer is Reaction.ROUTED:
        answer = "by the node's routes"
    return (target.what or target.asked, target.asked, answer, source)


def client_rows(client: ClientPath) -> Iterator[tuple[str, ...]]:
    """Yield the cells of tab-separated lines."""
    asked = client.target.asked if client.target else "-"
    yield ("client", client.address, client.what, client.name, asked)
    for number, step in enumerate(client.steps, 1):
        end = "here" if step.is_end else "-"
        yield ("step", str(number), step.at or "-", step.rule, step.result or "-", end)
    for target in client.elsewhere:
        yield ("elsewhere", *(cell or "-" for cell in _cells(target)))
