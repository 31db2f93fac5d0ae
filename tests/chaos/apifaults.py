"""What goes wrong between the API server and the daemon: one function for each kind."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
from collections.abc import Iterator

from chaos.stage import UNCHANGED, Act, Stage

RESOURCES = ("services", "endpointslices", "nodes", "servicecidrs")
ELSEWHERE = "/elsewhere"
MOST_PAGES = 20
FAILED = "rest_client_requests_total"
_BOMB = gzip.compress(bytes(400 << 20), 9).decode("utf-8", "surrogateescape")


def _relist(stage: Stage) -> None:
    """Let the daemon list everything again."""
    stage.api.compact()
    stage.api.close_watches()


def cut_watches(stage: Stage) -> None:
    stage.api.close_watches(abort=stage.random.random() < 0.5)


def cut_an_event(stage: Stage) -> None:
    stage.api.cut_next_event(stage.random.choice(RESOURCES[:2]))


def expire_history(stage: Stage) -> None:
    _relist(stage)


def send_garbage(stage: Stage) -> None:
    stage.api.send_malformed(stage.random.choice(RESOURCES))


def restart(stage: Stage) -> None:
    stage.api.restart()


def be_down(stage: Stage) -> None:
    stage.api.stop()
    stage.live(0.7)
    stage.api.listen()


def freeze(stage: Stage) -> None:
    """Answer nothing, until nfproxy has given up a request."""
    failed = stage.metric(FAILED, code="<error>")
    stage.api.close_watches(abort=True)
    stage.api.freeze()
    stage.live(0.7)
    assert stage.waits_for(lambda: stage.metric(FAILED, code="<error>") > failed)
    stage.api.thaw()


def be_overloaded(stage: Stage) -> None:
    code = stage.random.choice([429, 500, 503])
    stage.api.fail_next("", code, verb="watch", times=2)
    stage.api.close_watches()


def ask_to_wait_for_years(stage: Stage) -> None:
    stage.api.fail_next("", 429, verb="watch", times=2, retry_after_s=10**9)
    stage.api.close_watches()


def miss_changes(stage: Stage) -> None:
    with stage.api.withheld():
        for _ in range(10):
            stage.churn.change()
    _relist(stage)


@contextlib.contextmanager
def _lists_in_pages(stage: Stage) -> Iterator[None]:
    """Let the daemon list everything again, in pages; faults end with that."""
    stage.api.configure(streaming_lists=False)
    _relist(stage)
    yield
    stage.api.end_faults()
    stage.api.configure(streaming_lists=True)


def drip(stage: Stage) -> None:
    """Send a list that would take minutes."""
    stage.api.slow_lists(200)
    with _lists_in_pages(stage):
        stage.live(0.7)


def page_without_end(stage: Stage) -> None:
    """Nothing but further pages: nfproxy does not ask for all of them."""
    page = {"metadata": {"resourceVersion": str(stage.api.version), "continue": "again"}}
    body = json.dumps({"kind": "ServiceList", "apiVersion": "v1", "items": [], **page})
    stage.api.fail_next("services", 200, verb="list", times=10_000, body=body)
    stage.api.forget_requests()
    with _lists_in_pages(stage):
        stage.live(0.7)
    assert len(stage.api.requests("services", "list")) <= MOST_PAGES


def go_back_in_versions(stage: Stage) -> None:
    stage.api.restart(reset_versions=True)


def repeat_events(stage: Stage) -> None:
    for resource in RESOURCES[:2]:
        for item in stage.api.objects(resource):
            for _ in range(stage.random.randint(1, 3)):
                kind = stage.random.choice(["MODIFIED", "ADDED"])
                stage.api.send_event(resource, kind, item)


def send_an_old_object(stage: Stage) -> None:
    """Of a Service that does not change otherwise."""
    item = copy.deepcopy(stage.api.get("services", "default", UNCHANGED))
    item["metadata"]["resourceVersion"] = "1"
    item["spec"]["ports"] = [{"port": 81, "protocol": "TCP"}]
    stage.api.send_event("services", "MODIFIED", item)


def send_unknown_events(stage: Stage) -> None:
    for resource in RESOURCES:
        stage.api.send_event(resource, "SUPERSEDED", {"kind": "Thing", "metadata": {}})
        stage.api.send_event(resource, "BOOKMARK", {"kind": "Service", "metadata": {}})


def redirect(stage: Stage) -> None:
    """To another server, which must not get the token, and whose answer must not count."""
    elsewhere = {"Location": f"https://localhost:{stage.api.port}{ELSEWHERE}"}
    code = stage.random.choice([301, 302, 307, 308])
    stage.api.fail_next("", code, times=3, body="", headers=elsewhere)
    _relist(stage)
    stage.live(0.5)
    assert [one for one in stage.api.requests() if one.path == ELSEWHERE] == []


def send_a_gzip_bomb(stage: Stage) -> None:
    packed = {"Content-Encoding": "gzip"}
    stage.api.fail_next("services", 200, times=2, body=_BOMB, headers=packed)
    _relist(stage)
    stage.live(0.7)
    stage.api.end_faults()


def refuse_the_token(stage: Stage) -> None:
    stage.api.revoke_token(stage.api.token)
    _relist(stage)
    stage.live(0.5)
    stage.api.add_token(stage.api.token)


def forbid_a_resource(stage: Stage) -> None:
    resource = stage.random.choice(RESOURCES)
    stage.api.forbid(resource, "list", "watch")
    _relist(stage)
    stage.live(0.5)
    stage.api.permit(resource, "list", "watch")


FAULTS: tuple[Act, ...] = (
    *(cut_watches, cut_an_event, expire_history, send_garbage, restart, be_down, freeze),
    *(be_overloaded, ask_to_wait_for_years, miss_changes, drip, page_without_end),
    *(go_back_in_versions, repeat_events, send_an_old_object, send_unknown_events, redirect),
    *(send_a_gzip_bomb, refuse_the_token, forbid_a_resource),
)
