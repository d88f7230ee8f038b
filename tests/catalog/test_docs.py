"""What docs/catalog.md says is so."""

import re
from pathlib import Path

import pytest

from mecha.catalog.catalog import parse_catalog
from mecha.catalog.schema import CalibrationConfig, ModelCatalogEntry, QuantizeConfig

PAGE = (Path(__file__).parents[2] / "docs/catalog.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n", maxsplit=1)[1].split("\n## ", maxsplit=1)[0]


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("Keys of an entry", ModelCatalogEntry),
        ("Keys of `[models.quantize]`", QuantizeConfig),
        ("Keys of `[models.quantize.calibration]`", CalibrationConfig),
    ],
)
def test_every_key_is_on_the_page(
    title: str, model: type[ModelCatalogEntry] | type[QuantizeConfig] | type[CalibrationConfig]
) -> None:
    documented = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\|[^|]*\|", section(title), re.MULTILINE))))
    also_in_text = {"files", "repo_type"}
    assert documented == set(model.model_fields) - {"quantize", "calibration"} - also_in_text


def test_the_examples_are_valid() -> None:
    entry, calibration, own = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    parsed = parse_catalog(entry + calibration, where="docs/catalog.md")
    assert parsed[0].quantize.calibration is not None
    assert parse_catalog(own, where="docs/catalog.md")[0].path == "custom/cones.onnx"
