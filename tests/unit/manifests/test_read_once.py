"""render -f and diff -f: manifests read once."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from nfproxy.errors import InputError
from nfproxy.manifests.once import read_once
from nfproxy.model.changes import Changes
from nfproxy.model.service import ObjectName

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}


def service(name: str, cluster_ip: str = "10.96.0.1") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": cluster_ip, "ports": [{"port": 80}]},
    }


def write(path: Path, *objects: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n---\n".join(json.dumps(obj) for obj in objects))
    return str(path)


def lines(problems: Any) -> list[str]:
    return [str(problem) for problem in problems]


def addresses(changes: Changes) -> dict[str, bytes]:
    return {n.name: s.cluster_ips[0] for n, s in changes.services.items() if s}


def test_files_and_directories_together(tmp_path):
    one = write(tmp_path / "one.yaml", service("one"))
    write(tmp_path / "d/two.json", service("two"))
    write(tmp_path / "d/e/node.yml", NODE)
    changes, problems, *_ = read_once([one, str(tmp_path / "d")], "n1")

    assert [ObjectName("default", "one"), ObjectName("default", "two")] == [*changes.services]
    assert changes.node is not None
    assert problems == ()


def test_the_node_is_chosen_by_name(tmp_path):
    path = write(tmp_path / "a.yaml", NODE)

    assert read_once([path], "n2")[0].node is None


def test_standard_input(monkeypatch):
    data = io.BytesIO(json.dumps(service("web")).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    changes, *_ = read_once(["-"], "")

    assert [*changes.services] == [ObjectName("default", "web")]


def test_problems_of_standard_input_say_so(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a: [")))
    _, (problem,), *_ = read_once(["-"], "")

    assert str(problem).startswith("standard input: not valid YAML")


def test_a_path_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(InputError, match="nowhere: No such file or directory"):
        read_once([str(tmp_path / "nowhere")], "")


def test_of_an_object_in_two_files_the_first_by_path_counts(tmp_path):
    first = write(tmp_path / "a.yaml", service("web", "10.96.0.1"))
    second = write(tmp_path / "b.yaml", service("web", "10.96.0.2"))
    for order in ([first, second], [second, first], [str(tmp_path)], [str(tmp_path), second]):
        changes, problems, *_ = read_once(order, "")

        assert addresses(changes) == {"web": b"\x0a\x60\0\x01"}
        assert [f"{second}: Service default/web: is also in {first}, which counts"] == lines(
            problems
        )


def test_a_headless_first_one_hides_the_second(tmp_path):
    """Otherwise, deleting the one that counts would bring back a forgotten one."""
    first = write(tmp_path / "a.yaml", service("web", "None"))
    write(tmp_path / "b.yaml", service("web"))
    changes, problems, *_ = read_once([str(tmp_path)], "")

    assert not changes
    assert first in str(problems[0])


def test_order_does_not_matter(tmp_path):
    objects = [service(f"s{number % 7}", f"10.96.0.{number}") for number in range(1, 10)]
    results = set()
    for seed in range(5):
        random.Random(seed).shuffle(objects)
        paths = [write(tmp_path / f"{o['spec']['clusterIP']}.json", o) for o in objects]
        changes, problems, *_ = read_once(paths, "")
        results.add((repr(changes), problems))

    assert len(results) == 1


def test_bad_files_cost_only_themselves(tmp_path):
    write(tmp_path / "good.yaml", service("good"))
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    (tmp_path / "huge.yaml").write_text("a: b\n")
    os.truncate(tmp_path / "huge.yaml", 100 << 20)
    os.mkfifo(tmp_path / "pipe.yaml")
    bomb = "\n".join(f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12))
    (tmp_path / "bomb.yaml").write_text(f"l0: &l0 [x]\n{bomb}\n")
    changes, problems, *_ = read_once([str(tmp_path)], "")

    assert [name.name for name in changes.services] == ["good"]
    files = [problem.source_file.rpartition("/")[2] for problem in problems]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "good.yaml") == files


def test_a_hostile_file_name_is_escaped(tmp_path):
    (tmp_path / "x\n\x1b[2J.yaml").write_text("a: [")
    _, (problem,), *_ = read_once([str(tmp_path)], "")

    assert str(problem).isprintable()


@pytest.mark.parametrize("wrapped", [*itertools.product([True, False], repeat=2)])
def test_json_and_yaml_lists_and_documents_say_the_same(tmp_path, wrapped):
    as_list, as_json = wrapped
    objects = [service("a"), service("b", "10.96.0.2"), NODE]
    plain, *_ = read_once([write(tmp_path / "plain.yaml", *objects)], "n1")
    if as_list or as_json:
        objects = [{"apiVersion": "v1", "kind": "List", "items": objects}]
    path = write(tmp_path / ("x.json" if as_json else "x.yaml"), *objects)

    assert (plain, ()) == read_once([path], "n1")[:2]
