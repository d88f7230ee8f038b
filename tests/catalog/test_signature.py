"""A catalog that must be signed; the signatures are made here, with keys made here."""

import subprocess
import sys
from pathlib import Path

import minisign
import pytest

from mecha.catalog.catalog import Catalog, load_catalog
from mecha.errors import ConfigError, IntegrityError
from mecha.project import find_project

CATALOG = """[[models]]
name = "theirs"
repo = "owner/name"
filename = "model.onnx"
"""
HINT = (
    "`minisign -S -m model_catalog.toml` signs it; whoever holds the secret key of public_key has to do so after each "
    "change."
)
KEYS = minisign.KeyPair.generate()
KEY = KEYS.public_key.to_base64().decode()
OTHER = minisign.KeyPair.generate()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "model_catalog.toml").write_text(CATALOG)
    (tmp_path / "configs/common").mkdir(parents=True)
    (tmp_path / "configs/common/mecha.toml").write_text(f'[catalog]\npublic_key = "{KEY}"\n')
    return tmp_path


def signed(root: Path, keys: minisign.KeyPair = KEYS, content: bytes | None = None) -> Path:
    data = (root / "model_catalog.toml").read_bytes() if content is None else content
    signature = keys.secret_key.sign(data, trusted_comment="of the fleet")
    file = root / "model_catalog.toml.minisig"
    file.write_bytes(bytes(signature) + b"\n")
    return file


def load(root: Path, **environ: str) -> Catalog:
    return load_catalog(find_project(root, environ))


def test_a_signed_catalog_is_used(root: Path) -> None:
    signed(root)

    assert load(root).get("theirs").repo == "owner/name"


def test_one_without_a_signature_is_refused(root: Path) -> None:
    with pytest.raises(IntegrityError) as refusal:
        load(root)

    assert str(refusal.value) == f"model_catalog.toml: not signed: {root / 'model_catalog.toml.minisig'} is not there"
    assert refusal.value.hint == HINT
    assert refusal.value.exit_code == 6


def test_a_change_after_signing_is_refused(root: Path) -> None:
    signed(root)
    (root / "model_catalog.toml").write_text(CATALOG.replace("owner", "thief"))

    with pytest.raises(IntegrityError) as refusal:
        load(root)

    assert str(refusal.value) == (
        f"model_catalog.toml: model_catalog.toml.minisig is not a signature of these bytes by the key {KEY[:12]}… "
        "(signature verification failed); nothing of the catalog was used"
    )
    assert refusal.value.hint == HINT


def test_a_signature_by_another_key_is_refused(root: Path) -> None:
    signed(root, OTHER)

    with pytest.raises(IntegrityError, match=r"\(incompatible key identifiers\); nothing of the catalog was used"):
        load(root)


def test_a_changed_comment_that_the_signature_covers_is_refused(root: Path) -> None:
    file = signed(root)
    file.write_bytes(file.read_bytes().replace(b"of the fleet", b"of the thief"))

    with pytest.raises(IntegrityError, match=r"\(signature verification failed\)"):
        load(root)


@pytest.mark.parametrize("content", [b"", b"untrusted comment: x\nRWQ=\n", b"\xff" * 100, b"\n" * 4, b"x" * 100_000])
def test_what_is_no_signature_is_refused(root: Path, content: bytes) -> None:
    file = root / "model_catalog.toml.minisig"
    file.write_bytes(content)

    with pytest.raises(IntegrityError) as refusal:
        load(root)

    assert str(refusal.value).startswith(f"{file}: got ")
    assert str(refusal.value).endswith("; expected a signature of minisign")


def test_a_signature_of_the_old_form_is_refused(root: Path) -> None:
    file = root / "model_catalog.toml.minisig"
    signature = KEYS.secret_key.sign((root / "model_catalog.toml").read_bytes(), prehash=False)
    file.write_bytes(bytes(signature))

    with pytest.raises(IntegrityError) as refusal:
        load(root)

    assert str(refusal.value) == f"{file}: got a signature of the old form; expected one of the hashed form"


def test_the_key_of_the_environment_goes_before_that_of_the_settings(root: Path) -> None:
    signed(root, OTHER)

    assert load(root, MECHA_CATALOG_KEY=OTHER.public_key.to_base64().decode()).get("theirs").name == "theirs"


def test_a_key_that_is_none_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(root, MECHA_CATALOG_KEY="RWnone")

    assert str(refusal.value) == (
        'catalog.public_key: got "RWnone"; expected a public key of minisign, 56 letters that begin with RW'
    )


def test_a_key_of_the_settings_that_is_none_is_refused(root: Path) -> None:
    (root / "configs/common/mecha.toml").write_text('[catalog]\npublic_key = "none"\n')

    with pytest.raises(ConfigError) as refusal:
        load(root)

    assert str(refusal.value) == (
        'configs/common/mecha.toml:2: catalog.public_key: got "none"; '
        "expected a public key of minisign, 56 letters that begin with RW"
    )


def test_a_catalog_of_the_user_must_be_signed_too(root: Path) -> None:
    signed(root)
    user = find_project(root, {}).user_root
    user.mkdir(parents=True, exist_ok=True)
    (user / "model_catalog.toml").write_text(CATALOG)

    with pytest.raises(IntegrityError, match="not signed"):
        load(root)


def test_without_the_library_a_signed_catalog_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed(root)
    monkeypatch.setitem(sys.modules, "minisign", None)

    with pytest.raises(ConfigError) as refusal:
        load(root)

    assert str(refusal.value) == (
        "model_catalog.toml: a signature is asked for (catalog.public_key, or MECHA_CATALOG_KEY), and nothing here can "
        "check one"
    )
    assert refusal.value.hint == "pip install 'mecha[signed]'"


def test_the_command_ends_with_the_code_of_integrity(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mecha", "models", "list"], cwd=root, capture_output=True, text=True, check=False
    )

    assert done.returncode == 6
    assert done.stderr == (
        f"error: model_catalog.toml: not signed: {root / 'model_catalog.toml.minisig'} is not there\n  next: {HINT}\n"
    )


def test_nothing_is_added_to_a_catalog_that_must_be_signed(root: Path) -> None:
    signed(root)
    (root / "mine.onnx").write_bytes(b"")

    done = subprocess.run(
        [sys.executable, "-m", "mecha", "models", "add", "mine.onnx", "--name", "mine"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 3
    assert done.stderr == (
        f"error: {root / 'model_catalog.toml'}: a catalog must be signed here (catalog.public_key, or "
        "MECHA_CATALOG_KEY), and mecha cannot sign it\n"
        "  next: Write the entry where the secret key is, sign the catalog, and bring both files here.\n"
    )
