"""The static import graph, module names and module bodies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.modules import MAX_SOURCE_BYTES, check_endpoint_body, check_module_body, check_module_name, imported_names, parse, resolve
from domain.sandbox import Diagnostic


def test_a_module_is_loaded_after_what_it_imports() -> None:
    modules = {"a": "import b\nfrom c import x", "b": "from c import y", "c": "", "unused": "import a"}
    assert resolve("import json\nimport a", modules) == ["c", "b", "a"]


def test_imports_inside_functions_count() -> None:
    assert resolve("def handler(ctx):\n    import a", {"a": ""}) == ["a"]


def test_a_cycle_is_refused_with_its_path() -> None:
    with pytest.raises(Invalid) as caught:
        resolve("import a", {"a": "import b", "b": "import c", "c": "import a"})
    assert caught.value.code == "import_cycle"
    assert "a -> b -> c -> a" in caught.value.detail


def test_a_module_that_imports_itself_is_a_cycle() -> None:
    with pytest.raises(Invalid, match="a -> a"):
        resolve("import a", {"a": "import a"})


@pytest.mark.parametrize(("length", "allowed"), [(8, True), (9, False), (500, False)])
def test_chains_end_at_eight(length: int, *, allowed: bool) -> None:
    modules = {f"m{index}": f"import m{index + 1}" for index in range(length - 1)} | {f"m{length - 1}": ""}
    if allowed:
        assert len(resolve("import m0", modules)) == length
    else:
        with pytest.raises(Invalid) as caught:
            resolve("import m0", modules)
        assert caught.value.code == "import_depth"


def test_a_long_chain_is_found_behind_a_short_one() -> None:
    modules = {f"m{index}": f"import m{index + 1}" for index in range(8)} | {"m8": ""}
    with pytest.raises(Invalid, match="deeper than 8"):
        resolve("import m4\nimport m0", modules)


@pytest.mark.parametrize(
    "source", ["x = '\x00'", "(" * 5000 + ")" * 5000, "-" * 100_000 + "1", "x = \ud800", "1" * 10_000, "x" * (MAX_SOURCE_BYTES + 1), "def f(:"]
)
def test_hostile_sources_become_diagnostics(source: str) -> None:
    assert isinstance(parse(source), Diagnostic)
    assert imported_names(source) == []
    assert [finding.severity for finding in check_module_body(source)] == ["error"]
    assert [finding.severity for finding in check_endpoint_body(source)] == ["error"]


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_raise(source: str) -> None:
    assert isinstance(check_module_body(source), list)
    assert isinstance(resolve(source, {"a": source}) if "import" not in source else [], list)


def test_module_bodies_declare_and_nothing_else() -> None:
    assert (
        check_module_body('"""Doc."""\nimport json\nfrom a import b\nX = {"a": [1, -2]}\nY: int = 3\n\ndef f():\n    return g()\n\nclass C:\n    z = 1\n') == []
    )
    found = check_module_body("X = 1\nprint(X)\nfor i in X:\n    pass\nY = f()\nZ = [i for i in X]\nif X:\n    pass\n")
    assert [(finding.line, finding.code) for finding in found] == [
        (2, "module_body"),
        (3, "module_body"),
        (5, "module_body"),
        (6, "module_body"),
        (7, "module_body"),
    ]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("x = 1", "handler_missing"),
        ("async def handler(ctx): pass", "handler_async"),
        ("def handler(): pass", "handler_arguments"),
        ("def handler(a, b): pass", "handler_arguments"),
        ("def handler(ctx, *, b): pass", "handler_arguments"),
        ("if True:\n    def handler(ctx): pass", "handler_missing"),
    ],
)
def test_endpoints_define_handler(source: str, code: str) -> None:
    assert [finding.code for finding in check_endpoint_body(source)] == [code]


@pytest.mark.parametrize("source", ["def handler(ctx): pass", "def handler(ctx, x=1): pass", "def handler(*args): pass", "def handler(ctx: Ctx) -> None: pass"])
def test_handlers_that_take_ctx(source: str) -> None:
    assert check_endpoint_body(source) == []


@pytest.mark.parametrize("name", ["helpers", "_x", "a" * 64, "Order2"])
def test_module_names(name: str) -> None:
    check_module_name(name)


@pytest.mark.parametrize("name", ["", "2a", "a-b", "a" * 65, "é", "a\n", "kv", "json", "secrets", "webhook", "abort"])
def test_module_names_that_cannot_be_imported(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_module_name(name)
    assert caught.value.field == "name"
