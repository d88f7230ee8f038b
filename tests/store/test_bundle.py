"""The archive of a bundle: real tars, and hand-made hostile ones."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import mecha
from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import ConfigError, IntegrityError
from mecha.store.bundle import BundleReader, bundle_bytes, write_bundle
from mecha.store.bundle_index import AGAIN, BundledModel, Content, Index, serialised_index
from mecha.store.lockfile import LockedFile
from tests.store.example import fill

Members = list[tuple[tarfile.TarInfo, bytes]]


def bundled(folder: Path, name: str = "robot", version: str = "v1") -> tuple[BundledModel, dict[str, Path]]:
    """Return a model that was exported, and its files by content."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = fill(folder, name, version)
    files = {
        file: Content(sha256=record.sha256, size_bytes=record.size_bytes) for file, record in manifest.files.items()
    }
    fp32 = files["model.onnx"]
    lock = LockedFile(
        repo="a/b", filename="m.onnx", requested="main", revision=version, etag="e", sha256=fp32.sha256, size_bytes=1000
    )
    entry = ModelCatalogEntry(name=name, repo="a/b", filename="m.onnx")
    sources = {record.sha256: folder / file for file, record in manifest.files.items()}
    return BundledModel(entry=entry, manifest=manifest, files=files, locked=(lock,)), sources


def written(index: Index, sources: dict[str, Path]) -> bytes:
    stream = io.BytesIO()
    write_bundle(stream, index, sources, Path("b.tar"))
    return stream.getvalue()


def of(*models: BundledModel) -> Index:
    contents = dict.fromkeys(content for model in models for content in model.files.values())
    return Index(schema=1, mecha="1.0", models=models, files=tuple(contents))


@pytest.fixture
def index_and_sources(tmp_path: Path) -> tuple[Index, dict[str, Path]]:
    model, sources = bundled(tmp_path / "model")
    return of(model), sources


@pytest.fixture
def archive(index_and_sources: tuple[Index, dict[str, Path]]) -> bytes:
    return written(*index_and_sources)


def read(data: bytes, folder: Path) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    reader = BundleReader(io.BytesIO(data), "b.tar")
    return reader.extract({content.sha256 for content in reader.index.files}, folder)


def members_of(archive: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]  # plain files


def packed(members: Members) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, data


def with_index(archive: bytes, change: Callable[[Any], None]) -> bytes:
    """Return the archive with something else in its index."""
    (_, text), *files = members_of(archive)
    document = json.loads(text)
    change(document)
    return packed([member("index.json", json.dumps(document).encode()), *files])


def test_a_bundle_is_a_plain_tar_with_the_index_first_and_each_content_once(tmp_path: Path) -> None:
    first, sources = bundled(tmp_path / "a", "one")
    second, more = bundled(tmp_path / "b", "two")
    index = of(first, second)
    archive = written(index, sources | more)
    names = [info.name for info, _ in members_of(archive)]
    assert len(archive) == bundle_bytes(index)
    assert names == ["index.json", *(content.member for content in index.files)]
    assert len(set(names)) == len(names)
    assert sum(info.size == 1000 for info, _ in members_of(archive)) == 1, "both have the same model.onnx"


def test_the_same_models_give_the_same_bytes(tmp_path: Path) -> None:
    archives = {written(of(model), sources) for model, sources in (bundled(tmp_path / "a"), bundled(tmp_path / "b"))}
    assert len(archives) == 1


def test_what_was_written_is_read_back(index_and_sources: tuple[Index, dict[str, Path]], tmp_path: Path) -> None:
    index, sources = index_and_sources
    files = read(written(index, sources), tmp_path / "out")
    assert {digest: file.read_bytes() for digest, file in files.items()} == {
        digest: file.read_bytes() for digest, file in sources.items()
    }


def test_other_programs_may_have_packed_it_again_in_another_order(archive: bytes, tmp_path: Path) -> None:
    index, *files = members_of(archive)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in (index, *reversed(files)):
            tar.addfile(info, io.BytesIO(data))
    assert len(read(stream.getvalue(), tmp_path / "out")) == len(files)


def test_a_file_that_changes_while_it_is_written_ends_the_export(
    index_and_sources: tuple[Index, dict[str, Path]],
) -> None:
    index, sources = index_and_sources
    changed = sources[index.models[0].fp32.sha256]
    changed.write_bytes(bytes(1000))
    with pytest.raises(IntegrityError) as caught:
        written(index, sources)
    assert str(caught.value) == f"{changed}: was changed while it was exported"


class Trickle(io.RawIOBase):
    """A pipe: gives what it has, never what was asked for, and cannot go back."""

    def __init__(self, data: bytes) -> None:
        self._left = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._left.read(min(size, 7))

    def seekable(self) -> bool:
        return False


def test_a_pipe_that_gives_a_few_bytes_at_a_time_will_do(archive: bytes, tmp_path: Path) -> None:
    reader = BundleReader(Trickle(archive), "-")  # type: ignore[arg-type]  # no more of a stream is needed
    assert reader.extract((), tmp_path) == {}


STRANGERS = [
    (member("/etc/passwd", b"x"), '"/etc/passwd" is an absolute path; expected files of the index only'),
    (member("files/../../x", b"x"), '"files/../../x" leads out of the bundle; expected files of the index only'),
    (member("evil", kind=tarfile.SYMTYPE, link="/etc"), '"evil" is a symbolic link; expected plain files only'),
    (member("evil", kind=tarfile.LNKTYPE, link="index.json"), '"evil" is a hard link; expected plain files only'),
    (member("evil", kind=tarfile.CHRTYPE), '"evil" is a device; expected plain files only'),
    (member("evil", kind=tarfile.BLKTYPE), '"evil" is a device; expected plain files only'),
    (member("evil", kind=tarfile.FIFOTYPE), '"evil" is a pipe; expected plain files only'),
    (member("files", kind=tarfile.DIRTYPE), '"files" is a folder; expected plain files only'),
    (member("evil", kind=b"x"), "\"evil\" is of kind b'x'; expected plain files only"),
    (member("evil\x1b[2J", b"x"), '"evil\\u001b[2J" is not in the index'),
    (member("index.json", b"{}"), '"index.json" is not in the index'),
]


@pytest.mark.parametrize(("stranger", "said"), STRANGERS, ids=[said[:30] for _, said in STRANGERS])
@pytest.mark.parametrize("place", [1, 2, 99])
def test_a_member_that_has_no_business_there_is_refused(
    archive: bytes, tmp_path: Path, stranger: tuple[tarfile.TarInfo, bytes], said: str, place: int
) -> None:
    members = members_of(archive)
    members.insert(place, stranger)
    with pytest.raises(IntegrityError) as caught:
        read(packed(members), tmp_path / "out")
    assert (str(caught.value), caught.value.hint) == (f"b.tar: {said}", AGAIN)


def test_a_member_that_is_there_twice_is_refused(archive: bytes, tmp_path: Path) -> None:
    members = members_of(archive)
    with pytest.raises(IntegrityError, match=rf"^b\.tar: {members[1][0].name} is there twice$"):
        read(packed([*members, members[1]]), tmp_path / "out")


def test_a_member_that_is_missing_is_told(archive: bytes, tmp_path: Path) -> None:
    *members, (last, _) = members_of(archive)
    with pytest.raises(IntegrityError, match=rf"^b\.tar: {last.name} is missing$"):
        read(packed(members), tmp_path / "out")


def test_more_bytes_than_the_index_says_are_refused(archive: bytes, tmp_path: Path) -> None:
    index, (first, data), *rest = members_of(archive)
    with pytest.raises(IntegrityError) as caught:
        read(packed([index, member(first.name, data + b"more"), *rest]), tmp_path / "out")
    size = f"{len(data) + 4} bytes"
    assert str(caught.value).startswith(f"b.tar: {first.name} has ")
    assert str(caught.value).endswith(f"({size}); the index says {len(data)} bytes")


def test_another_content_under_the_right_name_is_refused(archive: bytes, tmp_path: Path) -> None:
    index, (first, data), *rest = members_of(archive)
    with pytest.raises(IntegrityError) as caught:
        read(packed([index, member(first.name, bytes(len(data))), *rest]), tmp_path / "out")
    assert str(caught.value) == f"b.tar: {first.name}: the content has sha256 {sha256(bytes(len(data))).hexdigest()}"


def test_a_bundle_that_was_cut_off_anywhere_is_refused(archive: bytes, tmp_path: Path) -> None:
    for end in range(0, len(archive) - 512, 131):
        out = tmp_path / str(end)
        with pytest.raises(IntegrityError, match=r"^b\.tar: .*(cut off|empty|not a tar)"):
            read(archive[:end], out)


def test_a_bundle_that_was_cut_off_says_where(archive: bytes, tmp_path: Path) -> None:
    index, (first, data), *_ = members_of(archive)
    start = 512 + index[0].size + -index[0].size % 512 + 512
    with pytest.raises(IntegrityError) as caught:
        read(archive[: start + 10], tmp_path / "out")
    assert str(caught.value) == (f"b.tar: ends in {first.name}, after 10 of {len(data)} bytes: the bundle was cut off")


def test_bytes_behind_the_end_are_refused_and_zeros_are_not(archive: bytes, tmp_path: Path) -> None:
    assert read(archive + bytes(10240), tmp_path / "zeros")
    with pytest.raises(IntegrityError, match=r"^b\.tar: there are bytes behind the end of the archive$"):
        read(archive + bytes(10240) + b"x", tmp_path / "out")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "b.tar: the file is empty; expected a bundle"),
        (b"hello" * 400, "b.tar: not a tar; expected a bundle"),
        (bytes(10240), "b.tar: not a tar; expected a bundle"),
        (gzip.compress(b"x", mtime=0), "b.tar: packed with gzip; expected a bundle as it was written, a plain tar"),
        (
            packed([member("model.onnx", b"x")]),
            'b.tar: begins with "model.onnx"; expected index.json, as in every bundle',
        ),
        (packed([member("index.json")]), "b.tar: index.json has 0 bytes; expected 1 to 16000000"),
    ],
)
def test_what_is_no_bundle_is_told_apart(data: bytes, said: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        BundleReader(io.BytesIO(data), "b.tar")
    assert str(caught.value) == said


def test_an_index_of_gigabytes_is_not_read() -> None:
    info = tarfile.TarInfo("index.json")
    info.size = 5 * 10**9
    with pytest.raises(IntegrityError, match=r"^b\.tar: index\.json has 5000000000 bytes; expected 1 to 16000000$"):
        BundleReader(io.BytesIO(info.tobuf(tarfile.USTAR_FORMAT)), "b.tar")


def test_a_file_that_is_too_large_is_refused_by_its_header(archive: bytes, tmp_path: Path) -> None:
    huge = tarfile.TarInfo("files/x")
    huge.size = 2**31 + 1
    index, *_ = members_of(archive)
    start = 512 + index[0].size + -index[0].size % 512
    with pytest.raises(IntegrityError) as caught:
        read(archive[:start] + huge.tobuf(tarfile.USTAR_FORMAT), tmp_path / "out")
    assert str(caught.value) == 'b.tar: "files/x" has 2147483649 bytes; at most 2147483648 are taken'


def test_a_newer_format_is_refused_whatever_else_it_says() -> None:
    text = json.dumps({"schema": 2, "mecha": "9.0", "robots": []}).encode()
    with pytest.raises(ConfigError) as caught:
        BundleReader(io.BytesIO(packed([member("index.json", text)])), "b.tar")
    assert str(caught.value) == (f"b.tar: format 2, written by mecha 9.0; mecha {mecha.__version__} reads format 1")
    assert caught.value.hint == "Nothing was imported. Install a newer mecha here, or export with an older one."


@pytest.mark.parametrize(
    "text", [b"{", b"[" * 100_000, b"\xff\xfe", b"[]", b'{"schema": "1"}', b'{"schema": 1}', b"NaN"]
)
def test_an_index_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"^b\.tar: index\.json: "):
        BundleReader(io.BytesIO(packed([member("index.json", text)])), "b.tar")


def changed(path: str, value: object) -> Callable[[Any], None]:
    """Return what puts a value at a key path of an index, given with dots."""

    def change(document: Any) -> None:
        *parts, last = [int(part) if part.isdigit() else part for part in path.split("/")]
        for part in parts:
            document = document[part]
        document[last] = value

    return change


ROBOT = "b.tar: index.json: robot: "


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("models/0/manifest/name", "other"), f'{ROBOT}the manifest is of "other"'),
        (changed("models/0/entry/name", "../evil"), "b.tar: index.json: models.0.entry.name: a name of lower-case"),
        (
            changed("models/0/files/..%2Fx", {"sha256": "0" * 64, "size_bytes": 1}),
            f"{ROBOT}'..%2Fx' is no file of a model",
        ),
        (
            changed("models/0/files/model-int8.onnx", {"sha256": "0" * 64, "size_bytes": 1}),
            f"{ROBOT}INT8 is pending, and",
        ),
        (
            changed("models/0/files/model.onnx/sha256", "../../x"),
            "b.tar: index.json: models.0.files.model.onnx.sha256: ",
        ),
        (
            changed("models/0/files/model.onnx/sha256", "0" * 64),
            f"{ROBOT}model.onnx: {'0' * 64} of 1.0 kB is not among",
        ),
        (
            changed("models/0/files/model.onnx/size_bytes", 2**40),
            "b.tar: index.json: models.0.files.model.onnx.size_bytes: ",
        ),
        (changed("models/0/locked/0/filename", "other.onnx"), f"{ROBOT}locked: 'other.onnx' is no file of this model"),
        (changed("models/0/locked/0/repo", "bank/vault"), f"{ROBOT}locked: 'm.onnx' is no file of this model"),
        (changed("models/0/locked", []), f"{ROBOT}locked: expected one entry of model.onnx, with its sha256"),
        (changed("models/0/manifest/int8/message", "\x1b[2J"), f"{ROBOT}a text that is shown to people has control"),
        (
            changed("models/0/entry", {"name": "robot", "path": "/etc/passwd"}),
            f"{ROBOT}path: got '/etc/passwd'; expected a",
        ),
        (
            changed("models/0/entry", {"name": "robot", "path": "../x"}),
            f"{ROBOT}path: got '../x'; expected a path within",
        ),
        (
            changed("models/0/entry/quantize", {"calibration": {"path": "/home"}}),
            f"{ROBOT}calibration: names photos of another device",
        ),
        (changed("models", []), "b.tar: index.json: models: "),
        (changed("surprise", 1), "b.tar: index.json: surprise: "),
    ],
)
def test_an_index_that_contradicts_itself_or_leads_elsewhere_is_refused(
    archive: bytes, tmp_path: Path, change: Callable[[Any], None], said: str
) -> None:
    with pytest.raises(IntegrityError) as caught:
        read(with_index(archive, change), tmp_path / "out")
    assert str(caught.value).startswith(said)


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    model, sources = bundled(tmp_path / "a")
    with pytest.raises(IntegrityError, match=r"^b\.tar: index\.json: models: a name is there twice$"):
        read(written(of(model, model), sources), tmp_path / "out")


def test_a_file_that_belongs_to_no_model_is_refused(archive: bytes, tmp_path: Path) -> None:
    def change(document: Any) -> None:
        document["files"].append({"sha256": "0" * 64, "size_bytes": 1})

    with pytest.raises(IntegrityError, match=rf"^b\.tar: index\.json: files: {'0' * 64} belongs to no model$"):
        read(with_index(archive, change), tmp_path / "out")


def test_an_index_says_what_it_was_made_of(index_and_sources: tuple[Index, dict[str, Path]]) -> None:
    index, _ = index_and_sources
    assert Index.model_validate_json(serialised_index(index), strict=True) == index
