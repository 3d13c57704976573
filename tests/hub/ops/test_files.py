"""The files of the Ops page: how they are served, that they need nothing from elsewhere, and that they fit together."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from hub.ops import files
from hub.ops.conditions import CONDITIONS
from tests.hub.world import World

STATIC = Path(files.__file__).parent / "static"
ANONYMOUS = {"Authorization": ""}


@cache
def text(name: str) -> str:
    return (STATIC / name).read_text()


def names(suffix: str) -> list[str]:
    return sorted(path.name for path in STATIC.glob(f"*.{suffix}"))


MODULES = names("js")
EVERYTHING = sorted(path.name for path in STATIC.iterdir())


def test_the_page_is_served_to_anybody_under_a_strict_policy(bare: World) -> None:
    answer = bare.client.get("/", headers=ANONYMOUS)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["trusted-types"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_every_file_has_its_type_and_is_fetched_again_only_when_it_changed(bare: World) -> None:
    for name in EVERYTHING:
        path = "/" if name == files.PAGE else f"/ops/{name}"
        answer = bare.client.get(path, headers=ANONYMOUS)
        assert (answer.status_code, answer.content) == (200, (STATIC / name).read_bytes())
        assert answer.headers["content-type"].partition(";")[0] == files.TYPES[name.rpartition(".")[2]]
        assert answer.headers["cache-control"] == "no-cache"
        known = {**ANONYMOUS, "If-None-Match": answer.headers["etag"]}
        again = bare.client.get(path, headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("nothing.js", id="unknown"),
        pytest.param("..%2froutes.py", id="beside the folder"),
        pytest.param("..%2f..%2fhub.db", id="above the folder"),
        pytest.param("", id="the folder itself"),
    ],
)
def test_nothing_but_the_files_is_served(bare: World, name: str) -> None:
    assert bare.client.get(f"/ops/{name}", headers=ANONYMOUS).status_code == 404


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_file_names_an_address_elsewhere(name: str) -> None:
    found = re.findall(r"""(?:https?:|wss?:|["'(])//[\w.]+[^\s"')]*""", text(name))
    assert [each for each in found if not each.startswith("http://www.w3.org/2000/svg")] == []


@pytest.mark.parametrize("name", MODULES)
def test_no_module_turns_text_into_markup_or_code(name: str) -> None:
    danger = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|javascript:"
    )
    assert re.findall(danger, text(name)) == []


def test_the_page_has_neither_styles_nor_scripts_in_it() -> None:
    page = text(files.PAGE)
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", page) == []


def test_everything_that_the_page_loads_is_there() -> None:
    wanted = re.findall(r'(?:href|src)="ops/([^"]+)"', text(files.PAGE))
    assert len(wanted) > 4
    assert set(wanted) <= set(EVERYTHING)


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_imports_is_exported(name: str) -> None:
    for wanted, source in re.findall(r'^import \{\s*([^}]+?),?\s*\} from "\./([^"]+)";', text(name), re.M):
        exported = set(re.findall(r"^export (?:async )?(?:function|const|class) (\w+)", text(source), re.M))
        assert {each.strip() for each in wanted.split(",")} <= exported


def test_every_module_is_used() -> None:
    imported = set(re.findall(r'from "\./([^"]+)";', "".join(text(name) for name in MODULES)))
    assert set(MODULES) - imported == {"app.js"}


def test_every_element_that_scripts_look_up_exists() -> None:
    used = {each for name in MODULES for each in re.findall(r'byId\("([^"]+)"\)', text(name))}
    assert len(used) > 8
    assert used <= set(re.findall(r'\sid="([^"]+)"', text(files.PAGE)))


def test_every_condition_has_a_name_a_shape_and_a_colour_in_each_scheme() -> None:
    script, base = text("conditions.js"), text("base.css")
    for name in CONDITIONS:
        assert script.count(f"  {name}: ") == 2
        assert base.count(f"--{name}: ") == 3
        assert f".c-{name} " in text("parts.css")
