"""What `mecha dev --fault` takes, and how a run with faults is told."""

from pathlib import Path

import pytest

from mecha.errors import UsageError
from mecha.runtime.faults import FAULTS_VARIABLE, KINDS, Fault, FaultKind, fault_environ, faults_of, require_nodes

KIND_WORDS = "camera-drop, node-crash, node-hang, slow-inference, bad-config or disk-full"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("camera-drop@5s:3s", ("camera-drop", "camera", 5.0, 3.0)),
        ("camera-drop@5", ("camera-drop", "camera", 5.0, 3.0)),
        ("node-crash@0s", ("node-crash", "object-detector", 0.0, None)),
        ("node-crash@2m,node=cone-alarm", ("node-crash", "cone-alarm", 120.0, None)),
        ("node-hang@1.5s", ("node-hang", "object-detector", 1.5, None)),
        ("node-hang@1h:20s,node=camera", ("node-hang", "camera", 3600.0, 20.0)),
        ("slow-inference@5s", ("slow-inference", "object-detector", 5.0, 5.0)),
        ("bad-config@5s:0.5s", ("bad-config", "object-detector", 5.0, 0.5)),
        ("disk-full@5s", ("disk-full", "object-detector", 5.0, 10.0)),
    ],
)
def test_a_fault_is_a_kind_a_time_and_maybe_a_length_and_a_node(
    request_: str, expected: tuple[str, str, float, float | None]
) -> None:
    fault = Fault.parsed(request_)

    assert (fault.kind, fault.node, fault.at_s, fault.for_s) == expected
    assert fault.request == request_


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            "camera-drop",
            '--fault: got "camera-drop"; expected KIND@AT[:FOR][,node=NAME], as in camera-drop@5s:3s',
        ),
        (
            "node-hang@5s,nod=camera",
            '--fault: got "node-hang@5s,nod=camera"; expected KIND@AT[:FOR][,node=NAME], as in camera-drop@5s:3s',
        ),
        (
            "camera-drob@5s",
            f'--fault camera-drob@5s: got "camera-drob"; expected {KIND_WORDS}; did you mean "camera-drop"?',
        ),
        ("node-hang@soon", '--fault node-hang@soon: got "soon"; expected a time such as 5s, 2m or 0s'),
        ("node-hang@-5s", '--fault node-hang@-5s: got "-5s"; expected a time such as 5s, 2m or 0s'),
        ("disk-full@5s:0s", '--fault disk-full@5s:0s: got "0s"; expected a length such as 3s or 2m'),
        ("disk-full@5s:long", '--fault disk-full@5s:long: got "long"; expected a length such as 3s or 2m'),
        ("node-crash@5s:3s", "--fault node-crash@5s:3s: node-crash takes no length; expected node-crash@AT"),
    ],
)
def test_what_is_no_fault_is_told_with_what_was_expected(request_: str, message: str) -> None:
    with pytest.raises(UsageError) as told:
        Fault.parsed(request_)

    assert str(told.value) == message


def test_a_fault_of_a_node_that_does_not_run_is_refused() -> None:
    with pytest.raises(UsageError) as told:
        require_nodes([Fault.parsed("node-crash@5s,node=camra")], ("camera", "object-detector"))

    assert str(told.value) == (
        '--fault node-crash@5s,node=camra: no node "camra" runs; expected camera or object-detector; '
        'did you mean "camera"?'
    )
    assert told.value.hint == "`--fault node-crash@5s,node=camera` gives it to camera."


def test_faults_reach_the_process_of_their_node_and_no_other() -> None:
    faults = [Fault.parsed(one) for one in ("node-hang@9s", "camera-drop@5s", "slow-inference@2s:1s")]

    own = fault_environ(faults, "object-detector")

    assert faults_of(own, "object-detector") == (faults[2], faults[0])
    assert list(own) == [FAULTS_VARIABLE]
    assert fault_environ(faults, "cone-alarm") == {}
    assert faults_of({}, "cone-alarm") == ()


def test_a_fault_lasts_from_its_time_for_its_length() -> None:
    drop, hang = Fault.parsed("camera-drop@5s:3s"), Fault.parsed("node-hang@5s")

    assert [drop.lasts(at) for at in (4.9, 5.0, 7.9, 8.0)] == [False, True, True, False]
    assert [hang.lasts(at) for at in (4.9, 5.0, 1e6)] == [False, True, True]


def test_every_kind_says_what_it_does_where_nobody_says_more() -> None:
    for name, kind in KINDS.items():
        fault = Fault.parsed(f"{name}@1s")
        assert (fault.node, fault.for_s) == (kind.node, kind.for_s)


def test_the_page_has_a_row_for_each_kind_with_its_node_and_length() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "dev.md").read_text(encoding="utf-8")
    section = page.split("\n## Faults on request\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]

    def length(kind: FaultKind) -> str:
        if kind.momentary:
            return ""
        return ", no end" if kind.for_s is None else f", {kind.for_s:g}s"

    assert {row[0].strip("`"): row[1] for row in rows} == {
        name: f"{kind.node}{length(kind)}" for name, kind in KINDS.items()
    }
