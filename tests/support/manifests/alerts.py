"""
The alerts of deploy/kustomize/components/monitoring, and Prometheus' own judgement of them.

promtool is the one that tests/tools/promtool.sh fetches, once.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from support.manifests.kustomize import compose
from support.manifests.objects import find

#: What a target on a node has; series of alerts.yaml name it by the key.
TARGETS: Mapping[str, Mapping[str, str]] = {
    f"NODE-{number}": {
        "job": "nfproxy",
        "namespace": "kube-system",
        "pod": f"nfproxy-{number}",
        "instance": f"192.0.2.{number}:10249",
        "node": f"node-{number}",
    }
    for number in (1, 2, 3)
}


class Case(NamedTuple):
    """
    An hour of series, by name, with a sample a minute in promtool's notation; rules are evaluated
    every five.

    `expected` has, by an alert's name, an `expectation` for each instance of it that fires; alerts
    that are not in it are not looked at.
    """

    series: Mapping[str, str]
    expected: Mapping[str, Sequence[Mapping[str, Any]]]


@functools.cache
def rule_groups() -> list[dict[str, Any]]:
    """Return the groups of rules, which a rule file of Prometheus has in the same form."""
    groups: list[dict[str, Any]] = find(compose("monitoring"), "PrometheusRule")["spec"]["groups"]
    return groups


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerts by name."""
    return {rule["alert"]: rule for group in rule_groups() for rule in group["rules"]}


def promtool(*arguments: str | Path) -> None:
    """Run promtool. Raises AssertionError with what it says if it fails."""
    done = subprocess.run(
        [_command(), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr


@functools.cache
def _command() -> str:
    script = Path(__file__).parents[2] / "tools" / "promtool.sh"
    done = subprocess.run([script, "--path"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def check_rules(groups: Sequence[Mapping[str, Any]]) -> None:
    """Raise AssertionError with what promtool has against rules, warnings included."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "rules.yaml")
        file.write_text(yaml.safe_dump({"groups": groups}))
        promtool("check", "rules", "--lint-fatal", file)


def check_expressions(expressions: Iterable[str]) -> None:
    """Raise AssertionError with what promtool has against expressions."""
    rules = [{"record": f"r{n}", "expr": text} for n, text in enumerate(expressions)]
    check_rules([{"name": "expressions", "rules": rules}])


def expectation(name: str, labels: Mapping[str, str], description: str) -> dict[str, Any]:
    """Return what promtool is to find of an alert that fires."""
    rule = alerts()[name]
    return {
        "exp_labels": {**rule["labels"], **labels},
        "exp_annotations": {**rule["annotations"], "description": description},
    }


def check_alerts(*cases: Case) -> None:
    """Raise AssertionError unless exactly what each case expects fires after its hour."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "rules.yaml").write_text(yaml.safe_dump({"groups": rule_groups()}))
        file = Path(directory, "test.yaml")
        tests = [_test(case) for case in cases]
        content = {"rule_files": ["rules.yaml"], "evaluation_interval": "5m", "tests": tests}
        file.write_text(yaml.safe_dump(content))
        promtool("test", "rules", file)


def _test(case: Case) -> dict[str, Any]:
    given = [{"series": _written(name), "values": values} for name, values in case.series.items()]
    wanted = [
        {"eval_time": "60m", "alertname": name, "exp_alerts": list(each)}
        for name, each in case.expected.items()
    ]
    return {"interval": "1m", "input_series": given, "alert_rule_test": wanted}


def _written(series: str) -> str:
    for name, labels in TARGETS.items():
        series = series.replace(name, ",".join(f'{key}="{v}"' for key, v in labels.items()))
    return series
