"""What goes wrong between the API server and the daemon: one function for each kind."""

from __future__ import annotations

import copy
import gzip
import json

from chaos.stage import Act, Stage

RESOURCES = ("services", "endpointslices", "nodes", "servicecidrs")
_HOUR_S = 3600
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
    stage.api.freeze()
    stage.live(0.7)
    stage.api.thaw()


def be_overloaded(stage: Stage) -> None:
    code = stage.random.choice([429, 500, 503])
    stage.api.fail_next("", code, verb="watch", times=2)
    stage.api.close_watches()


def ask_to_wait_for_years(stage: Stage) -> None:
    # Of a minute, at most, that the daemon waits then, nothing that changes is kept away.
    stage.api.fail_next("servicecidrs", 429, times=2, retry_after_s=10**9)
    stage.api.close_watches("servicecidrs")


def miss_changes(stage: Stage) -> None:
    with stage.api.withheld():
        for _ in range(10):
            stage.churn.change()
    _relist(stage)


def drip(stage: Stage) -> None:
    stage.api.slow_lists(200)
    _relist(stage)
    stage.live(0.7)
    stage.api.end_faults()
    stage.api.restart()


def page_without_end(stage: Stage) -> None:
    page = {"metadata": {"resourceVersion": str(stage.api.version), "continue": "again"}}
    body = json.dumps({"kind": "ServiceList", "apiVersion": "v1", "items": [], **page})
    for verb in ("list", "watch"):  # a list may be a watch
        stage.api.fail_next("services", 200, verb=verb, times=10_000, body=body)
    _relist(stage)
    stage.live(0.7)
    stage.api.end_faults()


def go_back_in_versions(stage: Stage) -> None:
    stage.api.restart(reset_versions=True)


def repeat_events(stage: Stage) -> None:
    for resource in RESOURCES[:2]:
        for item in stage.api.objects(resource)[:5]:
            stage.api.send_event(resource, "MODIFIED", item)
            stage.api.send_event(resource, "ADDED", item)


def send_an_old_object(stage: Stage) -> None:
    found = stage.api.objects("services")
    item = copy.deepcopy(stage.random.choice([one for one in found if stage.may_lie_about(one)]))
    item["metadata"]["resourceVersion"] = "1"
    item["spec"]["ports"] = [{"port": 81, "protocol": "TCP"}]
    stage.api.send_event("services", "MODIFIED", item)
    stage.api.close_watches()


def send_unknown_events(stage: Stage) -> None:
    for resource in RESOURCES:
        stage.api.send_event(resource, "SUPERSEDED", {"kind": "Thing", "metadata": {}})
        stage.api.send_event(resource, "BOOKMARK", {"kind": "Service", "metadata": {}})


def redirect(stage: Stage) -> None:
    elsewhere = {"Location": "https://192.0.2.1/api/v1/services"}
    code = stage.random.choice([301, 302, 307, 308])
    stage.api.fail_next("", code, times=3, body="", headers=elsewhere)
    _relist(stage)


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
