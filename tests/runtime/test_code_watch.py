"""A node whose code changes while it runs."""

from pathlib import Path

import psutil

from mecha.runtime.code_watch import REMEDY, code_files
from tests.runtime.projects import COUNTER, TICKER, add_node, configure, make_project
from tests.runtime.supervision import PATIENCE_S, Played
from tests.runtime.waiting import wait_for

CONFIGURED = """
    from mecha.runtime.messages import FrameMessage
    from mecha.runtime.node import Node, NodeConfig
    from words_of_this import WORD

    class Config(NodeConfig):
        limit: int = 1

    class Configured(Node[Config]):
        config_model = Config
        inputs = {"/camera/rgb": FrameMessage}

        def setup(self) -> None:
            self.log.info("begins with %s", WORD)

        def step(self, message: FrameMessage) -> None:
            self.report_inference(1.0, "FP32", message.seq)
"""


def test_a_broken_file_is_told_with_its_line_and_a_good_one_starts_that_node_only(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    program = root / "nodes/counter/node.py"
    good = program.read_text()
    run = Played(root)
    pids: list[int] = []

    def then() -> None:
        run.wait_for_more("inference", node="counter")
        pids.extend([run.pid("counter"), run.pid("ticker")])
        program.write_text(good + "\nx = (\n")
        wait_for(lambda: run.said(REMEDY), timeout_s=PATIENCE_S)
        run.wait_for_more("inference", node="counter")
        assert run.pid("counter") == pids[0]
        program.write_text(good.replace("1.0,", "2.0,"))
        run.wait_until("running", "restarting", "starting", "running", node="counter")
        wait_for(lambda: run.of("counter", "inference")[-1]["ms"] == 2.0, timeout_s=PATIENCE_S)

    summary = run.go(then)

    assert summary.exit_code == 0
    line = len(good.splitlines()) + 2
    fault = f"{program}: cannot be imported: SyntaxError: '(' was never closed ({program}:{line})"
    assert [text for text in run.lines if text.startswith("[ERROR] ")] == [
        f"[ERROR] counter: {fault}",
        f"[ERROR] counter: {REMEDY}",
    ]
    assert [event["message"] for event in run.of("counter", "error")] == [f"{fault}\n{REMEDY}"]
    assert "[INFO] counter: is started again: its code changed" in run.lines
    assert run.pid("counter") != pids[0]
    assert run.pid("ticker") == pids[1]
    assert {name: stats.restarts for name, stats in summary.nodes.items()} == {"counter": 1, "ticker": 0}
    assert not any(psutil.pid_exists(pid) for pid in (*pids, run.pid("counter")))


def test_modules_beside_the_program_count_and_new_code_waits_for_a_config_that_it_takes(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER)
    program = add_node(root, "configured", CONFIGURED)
    words = program.with_name("words_of_this.py")
    words.write_text('WORD = "one"\n')
    configure(root, "configured", limit=3)
    run = Played(root)

    def then() -> None:
        wait_for(lambda: run.said("begins with one"), timeout_s=PATIENCE_S)
        run.wait_until("running", node="configured")
        words.write_text('WORD = "two"\n')
        wait_for(lambda: run.said("begins with two"), timeout_s=PATIENCE_S)
        run.wait_until("running", "restarting", "running", node="configured")
        program.write_text(program.read_text().replace("limit: int", "bound: int"))
        wait_for(lambda: run.said(REMEDY), timeout_s=PATIENCE_S)
        configure(root, "configured", bound=3)
        run.wait_until("running", "restarting", "running", "restarting", "running", node="configured")

    summary = run.go(then)

    assert summary.exit_code == 0
    assert "[ERROR] configured: configs/common/nodes/configured/config.json:2: limit: unknown key" in run.lines
    assert summary.nodes["configured"].restarts == 2


def test_tests_beside_a_program_are_no_part_of_it(tmp_path: Path) -> None:
    for name in ("node.py", "test_node.py", "notes.txt", "parts/inner.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()

    assert code_files(tmp_path) == (tmp_path / "node.py", tmp_path / "parts/inner.py")
