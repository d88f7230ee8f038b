"""From a file to a parsed ONNX model, or to a sentence that says what the file is instead."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mecha.errors import DiskError, IntegrityError, NotFoundError, UnsupportedModelError
from mecha.graph.bounds import check_parts, check_tensors, tensors_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

# Protocol buffers cannot hold more; larger models keep their weights in other files.
_LARGEST_MODEL = 2**31 - 1
_SIZE_HINT = "Export a smaller model; weights beyond 2 GB need files of their own, which mecha does not read."
_EXTERNAL_HINT = (
    "Put both files into one folder and make them one: "
    "python -c \"import onnx; onnx.save_model(onnx.load_model('{graph}'), 'whole.onnx')\""
)


def what_it_is_instead(start: bytes) -> str | None:
    """Return what a file is when its first bytes show that it is no ONNX model, None when they do not.

    Args:
        start: the first bytes of the file; 512 are plenty.
    """
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "an empty file"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<!--")):
        return "a web page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")):
        return "a PyTorch checkpoint or another archive"
    if text.startswith((b"{", b"[")):
        return "a JSON text"
    return None


def check_start(start: bytes, *, where: str) -> None:
    """Refuse a file by its first bytes, before the rest of it is fetched or parsed.

    Raises:
        IntegrityError: the bytes are those of something else.
    """
    found = what_it_is_instead(start)
    if found is not None:
        raise IntegrityError(
            f"{where}: got {found}; expected an ONNX model",
            hint="Check the repo and file name; a server may answer with a page where a login is needed.",
        )


def parse_model(data: bytes, *, where: str) -> "ModelProto":
    """Parse the bytes of an ONNX file. Nodes without a name of their own get one, so that every node can be named.

    Raises:
        IntegrityError: the bytes are no ONNX model, or not all of one, or a tensor is not as large as it says.
        UnsupportedModelError: the weights are kept in other files, or there are far more parts than a model has.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types

    check_start(data[:512], where=where)
    check_parts(data, where=where)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise IntegrityError(
            f"{where}: got {len(data)} bytes that cannot be parsed; expected an ONNX model; "
            "the file is cut short, damaged or no ONNX",
            hint="Fetch the file again.",
        ) from error
    if not model.ir_version or not model.opset_import or not model.graph.node or not model.graph.output:
        raise IntegrityError(
            f"{where}: got {len(data)} bytes without an ONNX graph; expected an ONNX model; "
            "the file is cut short, damaged or no ONNX",
            hint="Fetch the file again.",
        )
    check_tensors(model.graph, where=where)
    if elsewhere := sorted(set(_other_files(model.graph))):
        raise UnsupportedModelError(
            f"{where}: got a graph whose weights are in {', '.join(elsewhere)}; "
            "expected one file that holds graph and weights",
            hint=_EXTERNAL_HINT.format(graph=PurePosixPath(where).name),
        )
    name_nodes(model.graph)
    return model


def load_model(path: Path) -> "ModelProto":
    """Read an ONNX file.

    Raises:
        NotFoundError: there is no such file.
        DiskError: the file cannot be read.
        IntegrityError: the bytes are no ONNX model, or not all of one.
        UnsupportedModelError: the model is larger than 2 GB or keeps its weights in other files.
    """
    return parse_model(read_bytes(path), where=str(path))


def check_size(size_bytes: int, *, where: str) -> None:
    """Refuse a file by its size, before it is fetched or read.

    Raises:
        UnsupportedModelError: it is larger than 2 GB.
    """
    if size_bytes > _LARGEST_MODEL:
        raise UnsupportedModelError(
            f"{where}: got {size_bytes} bytes; expected an ONNX model of at most 2 GB", hint=_SIZE_HINT
        )


def read_bytes(path: Path, *, where: str = "") -> bytes:
    """Return the bytes of a file that may be a model; errors as for `load_model`, those of its content apart.

    Args:
        where: what messages call the file; its path by default.
    """
    try:
        check_size(path.stat().st_size, where=where or str(path))
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file; expected an ONNX model") from error
    except OSError as error:
        raise DiskError(f"{path}: cannot be read: {error.strerror or error}") from error


def _other_files(graph: "GraphProto") -> "Iterator[str]":
    """Yield the names of the files that hold a graph's tensors, those of its nodes' attributes and subgraphs too."""
    for tensor in tensors_of(graph):
        if tensor.data_location == tensor.EXTERNAL:
            yield next((entry.value for entry in tensor.external_data if entry.key == "location"), "another file")


def name_nodes(graph: "GraphProto") -> None:
    """Give every node without a unique name one, in place: `Conv_12`, from its type and position."""
    taken: set[str] = set()
    for position, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = _free_name(f"{node.op_type}_{position}", taken)
        taken.add(node.name)


def _free_name(wanted: str, taken: Iterable[str]) -> str:
    name = wanted
    while name in taken:
        name += "_"
    return name
