"""The programs of nodes: how they are found and loaded, and which are refused."""

from pathlib import Path

import pytest

from mecha.errors import ConfigError, NodeError, NotFoundError
from mecha.runtime.program import load_node, node_names
from tests.runtime.projects import COUNTER, TICKER, add_node, make_project


def test_the_nodes_of_a_project_are_found_and_loaded(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, frame_counter=COUNTER)
    (root / "nodes" / "notes").mkdir()

    assert node_names(root / "nodes") == ("frame-counter", "ticker")
    assert load_node(root / "nodes", "ticker").__name__ == "Ticker"
    assert list(load_node(root / "nodes", "frame-counter").inputs) == ["/camera/rgb"]


def test_a_node_imports_modules_beside_it(tmp_path: Path) -> None:
    root = make_project(tmp_path, sized="from size_of_sized import SIZE\nfrom mecha.runtime.node import Node\n")
    with (root / "nodes/sized/node.py").open("a") as stream:
        stream.write("class Sized(Node):\n    size = SIZE\n")
    (root / "nodes/sized/size_of_sized.py").write_text("SIZE = 7\n")

    assert vars(load_node(root / "nodes", "sized"))["size"] == 7


def test_of_nodes_that_derive_from_each_other_the_last_is_meant(tmp_path: Path) -> None:
    root = make_project(
        tmp_path,
        derived="""
        from mecha.runtime.node import Node

        class First(Node): ...

        class Second(First): ...
        """,
    )

    assert load_node(root / "nodes", "derived").__name__ == "Second"


def test_an_unknown_node_names_the_nearest(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)

    with pytest.raises(NotFoundError) as caught:
        load_node(root / "nodes", "tikcer")

    assert str(caught.value) == (f'no node "tikcer": {root}/nodes/tikcer/node.py is no file; did you mean "ticker"?')
    assert caught.value.hint == "The nodes here are counter or ticker."


def test_a_project_without_nodes_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        load_node(tmp_path / "nodes", "camera")

    assert caught.value.hint == "`mecha init` lays out a project with nodes."


@pytest.mark.parametrize(
    ("program", "expected", "sentence"),
    [
        ("x = (", NodeError, "cannot be imported: SyntaxError: '(' was never closed ({program}:1)"),
        ("import nonsense_of_a_node", NodeError, "cannot be imported: ModuleNotFoundError: No module named"),
        ("\nx = 1 / 0", NodeError, "cannot be imported: ZeroDivisionError: division by zero ({program}:2)"),
        (
            "x = 1",
            ConfigError,
            "got no class that derives from Node; expected one class that derives from mecha.Node",
        ),
        (
            "from mecha.runtime.node import Node\nclass A(Node): ...\nclass B(Node): ...",
            ConfigError,
            "got A or B; expected one class that derives from mecha.Node",
        ),
    ],
)
def test_a_program_that_is_no_node_is_refused_with_a_sentence(
    tmp_path: Path, program: str, expected: type[Exception], sentence: str
) -> None:
    root = make_project(tmp_path)
    file = add_node(root, "broken", program)

    with pytest.raises(expected) as caught:
        load_node(root / "nodes", "broken")

    assert str(caught.value).startswith(f"{file}: {sentence.format(program=file)}")
