from mecha.quantize.key import build_key
from mecha.quantize.options import StaticOptions


def test_equal_builds_have_equal_keys() -> None:
    keys = {build_key("a" * 64, "static_int8", {"range": "auto", "scheme": "uniform"}, "b" * 64) for _ in range(2)}
    assert len(keys) == 1
    assert build_key("a" * 64, "static_int8", {"scheme": "uniform", "range": "auto"}, "b" * 64) in keys


def test_everything_a_build_depends_on_changes_its_key() -> None:
    options = StaticOptions()
    keys = {
        build_key("a" * 64, "static_int8", options, "b" * 64),
        build_key("c" * 64, "static_int8", options, "b" * 64),
        build_key("a" * 64, "dynamic_int8", options, "b" * 64),
        build_key("a" * 64, "static_int8", StaticOptions(range="minmax"), "b" * 64),
        build_key("a" * 64, "static_int8", options, "d" * 64),
        build_key("a" * 64, "static_int8", None, "b" * 64),
    }
    assert len(keys) == 6
    assert all(len(key) == 64 for key in keys)
