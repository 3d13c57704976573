"""Building a release: the same commit gives the same bytes, and what cannot be built is refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.cli.conftest import (
    COMPOSE,
    CREATED_AT,
    DIGEST,
    GIT_ENV,
    GOOD,
    INFO,
    FakeHub,
    Flaghoist,
    Ran,
    Repo,
)
from topics import bundle, codec
from topics.documents import Release

FILES = ("bundle.tar.gz", "checksums.json", "release.msgpack", "policy.json")


def build(flaghoist: Flaghoist, repo: Path, out: Path, *more: object) -> Ran:
    return flaghoist(
        "release", "build", "--role", "kiosk", "--repo", repo, "--sequence", 7, "--fleet", "acme", "--out", out, *more
    )  # fmt: skip


def release_of(folder: Path) -> Release:
    return codec.decode_signed((folder / "release.msgpack").read_bytes(), Release, limit=6144)


def test_the_release_says_what_was_built(built: Path, repo: Repo) -> None:
    data = (built / "bundle.tar.gz").read_bytes()
    release = release_of(built)
    commit = repo.git("rev-parse", "HEAD")
    assert built.name == release.id == f"kiosk-7-{commit[:12]}"
    assert (release.fleet, release.role, release.sequence, release.commit) == ("acme", "kiosk", 7, commit)
    assert (release.version, release.hook, release.changelog) == ("1.0.0", "exec", "Open the kiosk")
    assert release.created_at == CREATED_AT
    assert (release.bundle.sha256, release.bundle.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert release.compose_sha256 == hashlib.sha256(b"").hexdigest()
    checksums = (built / "checksums.json").read_bytes()
    assert release.checksums == hashlib.sha256(checksums).hexdigest()
    assert [file.path for file in bundle.parse_checksums(checksums).files] == [
        "bundle.json", "env/app.env.tmpl", "files/app.py", "validate/10-health",
    ]  # fmt: skip
    assert json.loads((built / "policy.json").read_text()) == {"failure": {"max_ratio": 0.2}}


def test_members_are_sorted_and_carry_no_time_owner_or_odd_mode(built: Path) -> None:
    with tarfile.open(built / "bundle.tar.gz") as archive:
        members = archive.getmembers()
    assert [(member.name, member.mode) for member in members] == [
        ("bundle.json", 0o644), ("env/app.env.tmpl", 0o644), ("files/app.py", 0o644), ("validate/10-health", 0o755),
    ]  # fmt: skip
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }
    # Bytes 4 to 8 are gzip's time; flags 0 mean no file name.
    assert (built / "bundle.tar.gz").read_bytes()[3:8] == b"\0" * 5


def test_two_clones_on_machines_that_differ_give_the_same_bytes(
    flaghoist: Flaghoist, repo: Repo, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another umask, other file times, another work tree, attributes that `git archive` would obey."""
    clone = tmp_path / "clone"
    before = os.umask(0o077)
    try:
        subprocess.run(["git", "clone", "-q", repo.path, clone], check=True, env=os.environ | GIT_ENV)
        for path in clone.rglob("*"):
            if ".git" not in path.parts:
                os.utime(path, (1, 1))
        (clone / ".git/info/attributes").write_text("* text eol=crlf export-subst\n*.py export-ignore\n")
        (clone / "roles/kiosk/files/app.py").write_text("print('not committed')\n")
        (clone / "roles/kiosk/files/new.py").write_text("print('not even added')\n")
        monkeypatch.setenv("TZ", "Pacific/Auckland")
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
        again = build(flaghoist, clone, tmp_path / "again", "--json")
    finally:
        os.umask(before)
    assert again.code == 0, again.err
    for name in FILES:
        assert Path(again.json["folder"], name).read_bytes() == (built / name).read_bytes(), name


def test_building_again_keeps_what_is_there_with_its_signatures(
    flaghoist: Flaghoist, repo: Repo, built: Path, tmp_path: Path
) -> None:
    (built / "release.dsse").write_bytes(b"signatures")
    again = build(flaghoist, repo.path, tmp_path / "out", "--json")
    assert (again.code, again.json["new"]) == (0, False)
    assert (built / "release.dsse").read_bytes() == b"signatures"


def test_another_build_under_the_same_name_is_refused(
    flaghoist: Flaghoist, repo: Repo, built: Path, tmp_path: Path
) -> None:
    (built / "bundle.tar.gz").write_bytes(b"other")
    again = build(flaghoist, repo.path, tmp_path / "out")
    assert again.code == 1
    assert again.err == (
        f"flaghoist: {built} holds another build of this release; delete it, or choose another --out\n"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == [built.name]


def test_an_older_commit_builds_as_it_was(
    flaghoist: Flaghoist, repo: Repo, built: Path, tmp_path: Path
) -> None:
    repo.git("tag", "first")
    repo.commit({"roles/kiosk/files/app.py": "print('later')\n"})
    old = build(flaghoist, repo.path, tmp_path / "old", "--commit", "first", "--json")
    assert Path(old.json["folder"], "bundle.tar.gz").read_bytes() == (built / "bundle.tar.gz").read_bytes()


def test_a_fleet_may_live_in_a_folder_of_a_larger_repository(
    flaghoist: Flaghoist, tmp_path: Path, built: Path
) -> None:
    whole = Repo(tmp_path / "mono")
    whole.commit({f"ops/fleet/{name}": content for name, content in GOOD.items()})
    inside = build(flaghoist, whole.path / "ops/fleet", tmp_path / "inside", "--json")
    assert inside.code == 0, inside.err
    assert Path(inside.json["folder"], "bundle.tar.gz").read_bytes() == (built / "bundle.tar.gz").read_bytes()


def test_long_and_foreign_names_survive(flaghoist: Flaghoist, repo: Repo, tmp_path: Path) -> None:
    long = "files/" + "/".join(["a-rather-long-folder-name"] * 8) + "/file.txt"
    repo.commit({f"roles/kiosk/{long}": "x", "roles/kiosk/files/Überprüfung.txt": "y"})
    made = build(flaghoist, repo.path, tmp_path / "out", "--json")
    assert made.code == 0, made.err
    checksums = bundle.parse_checksums(Path(made.json["folder"], "checksums.json").read_bytes())
    assert {long, "files/Überprüfung.txt"} <= {file.path for file in checksums.files}


def test_a_large_file_is_packed_whole(flaghoist: Flaghoist, repo: Repo, tmp_path: Path) -> None:
    content = "0123456789abcdef" * 200_000
    repo.commit({"roles/kiosk/files/big.txt": content})
    made = build(flaghoist, repo.path, tmp_path / "out", "--json")
    assert made.code == 0, made.err
    files = bundle.parse_checksums(Path(made.json["folder"], "checksums.json").read_bytes()).files
    big = next(file for file in files if file.path == "files/big.txt")
    assert (big.size, big.sha256) == (len(content), hashlib.sha256(content.encode()).hexdigest())


def test_a_long_commit_message_is_cut_to_what_a_release_holds(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path
) -> None:
    repo.commit({}, message="ä" * 2000)
    made = build(flaghoist, repo.path, tmp_path / "out", "--json")
    changelog = release_of(Path(made.json["folder"])).changelog
    assert changelog.endswith("ä…")
    assert 1020 < len(changelog.encode()) <= 1024


def test_the_sequence_follows_the_hubs_highest(
    flaghoist: Flaghoist, repo: Repo, hub: FakeHub, tmp_path: Path
) -> None:
    hub.on(
        "GET /releases?role=kiosk", (200, {"items": [{"sequence": 3}, {"sequence": 11}], "next_cursor": "c"})
    )
    hub.on("GET /releases?role=kiosk&cursor=c", (200, {"items": [{"sequence": 5}], "next_cursor": None}))
    made = flaghoist(
        "release", "build", "--role", "kiosk", "--repo", repo.path, "--fleet", "acme", "--out", tmp_path, "--json"
    )  # fmt: skip
    assert made.code == 0, made.err
    assert made.json["release"]["sequence"] == 12


def info(**changes: object) -> dict[str, str | None]:
    content = {key: value for key, value in (INFO | changes).items() if value is not None}
    return {"roles/kiosk/bundle.json": json.dumps(content)}


def compose(text: str, **changes: object) -> dict[str, str | None]:
    return info(hook="compose", exec=None, **changes) | {"roles/kiosk/compose.yaml": text}


REFUSED_CONTENT = [
    pytest.param(
        {"roles/kiosk/bundle.json": None},
        "roles/kiosk/bundle.json is missing; it says how the role runs",
        id="no-bundle-json",
    ),
    pytest.param(
        {"roles/kiosk/bundle.json": "{"},
        "roles/kiosk/bundle.json is not right (Input data was truncated); docs/bundle.md lists its fields",
        id="bundle-json-malformed",
    ),
    pytest.param(
        info(probation="30"),
        "roles/kiosk/bundle.json is not right (Object contains unknown field `probation`); "
        "docs/bundle.md lists its fields",
        id="bundle-json-unknown-field",
    ),
    pytest.param(
        info(role="gateway"),
        "roles/kiosk/bundle.json is of role 'gateway'; make it 'kiosk', or build --role gateway",
        id="other-role",
    ),
    pytest.param(
        info(hook="compose"),
        "roles/kiosk/compose.yaml is missing; the hook 'compose' needs it",
        id="no-compose-yaml",
    ),
    pytest.param(
        info(exec=None),
        "roles/kiosk/bundle.json has no \"exec\"; the hook 'exec' needs its command",
        id="no-exec",
    ),
    pytest.param(
        info(hook="systemd", exec=None),
        "roles/kiosk/bundle.json names the hook 'systemd', and files/systemd/ has no unit; "
        "docs/hooks.md says what that hook runs",
        id="no-units",
    ),
    pytest.param(
        info(hook="swupdate", exec=None) | {"roles/kiosk/files/a.swu": "1", "roles/kiosk/files/b/c.swu": "2"},
        "roles/kiosk/bundle.json names the hook 'swupdate', and files/ has 2 images *.swu where it needs one; "
        "docs/hooks.md says what that hook runs",
        id="two-images",
    ),
    pytest.param(
        info(exec={"command": ["files/run"]}),
        "roles/kiosk/bundle.json runs 'files/run', which is missing; add it with git update-index --chmod=+x",
        id="command-missing",
    ),
    pytest.param(
        info(exec={"command": ["./files/app.py"]}),
        "roles/kiosk/bundle.json runs './files/app.py', which is not executable; "
        "add it with git update-index --chmod=+x",
        id="command-not-executable",
    ),
    pytest.param(
        info(floor=8),
        "floor 8 in bundle.json is above sequence 7, so no device could take the release; lower the floor",
        id="floor-above-sequence",
    ),
    pytest.param(
        info(feature_flags={f"flag-{number:0100}": True for number in range(60)}),
        None,
        id="release-too-large",
    ),
    pytest.param(
        {"roles/kiosk/extra.txt": "x"},
        "roles/kiosk/extra.txt has no place in a bundle; put it below files/ "
        "(env/ holds *.env.tmpl, validate/ scripts)",
        id="file-outside-the-layout",
    ),
    pytest.param(
        {"roles/kiosk/env/app.env": "PORT=1"},
        "roles/kiosk/env/app.env has no place in a bundle; put it below files/ "
        "(env/ holds *.env.tmpl, validate/ scripts)",
        id="env-file-that-is-no-template",
    ),
    pytest.param(
        {"roles/kiosk/files/App.py": "x"},
        "roles/kiosk/files/app.py and files/App.py differ only by case; rename one of them",
        id="paths-that-differ-by-case",
    ),
    pytest.param(
        {"roles/kiosk/files/a": "x", "roles/kiosk/files/A/b": "x"},
        None,
        id="file-and-folder-that-differ-by-case",
    ),
    pytest.param(
        {"roles/kiosk/files/a\\b": "x"},
        "'roles/kiosk/files/a\\\\b' cannot be a path in a bundle; "
        "use printable, normalised names, 512 characters at most",
        id="backslash",
    ),
    pytest.param(
        {"roles/kiosk/files/a\nb": "x"},
        "'roles/kiosk/files/a\\nb' cannot be a path in a bundle; "
        "use printable, normalised names, 512 characters at most",
        id="newline-in-a-name",
    ),
    pytest.param(
        {
            "roles/kiosk/files/model.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
        },
        "roles/kiosk/files/model.bin is a Git LFS pointer, not the file; commit the file itself",
        id="lfs-pointer",
    ),
    pytest.param(
        {"roles/kiosk/env/app.env.tmpl": "PORT=${PORT}\nHOME=$HOME\n"},
        "roles/kiosk/env/app.env.tmpl:2 is not NAME=value; write ${NAME} for what the device fills in, $$ for a dollar",
        id="template-bare-variable",
    ),
    pytest.param(
        {"roles/kiosk/env/app.env.tmpl": "# costs $5\n"},
        "roles/kiosk/env/app.env.tmpl:1 is not NAME=value; write ${NAME} for what the device fills in, $$ for a dollar",
        id="template-dollar-in-a-comment",
    ),
    pytest.param(
        {"roles/kiosk/env/app.env.tmpl": "export PORT=1\n"},
        "roles/kiosk/env/app.env.tmpl:1 is not NAME=value; write ${NAME} for what the device fills in, $$ for a dollar",
        id="template-not-an-assignment",
    ),
    pytest.param(
        {"roles/kiosk/validate/10-health!": "exit 0\n"},
        "roles/kiosk/validate/10-health has no shebang; begin it with a line like #!/bin/sh",
        id="script-without-shebang",
    ),
    pytest.param(
        {"roles/kiosk/validate/10-health": "#!/bin/sh\n"},
        "roles/kiosk/validate/10-health is not executable; "
        "run git update-index --chmod=+x roles/kiosk/validate/10-health and commit",
        id="script-not-executable",
    ),
    pytest.param(
        {"roles/kiosk/rollout.json": "[]"},
        "roles/kiosk/rollout.json is not a JSON object; docs/bundle.md shows a rollout policy",
        id="policy-not-an-object",
    ),
    pytest.param(
        compose("services:\n  web:\n    image: nginx:1.27\n"),
        "roles/kiosk/compose.yaml:3 names an image without a digest; write NAME:TAG@sha256:… "
        "(docker buildx imagetools inspect NAME:TAG shows it), or set allow_unpinned_images",
        id="image-without-digest",
    ),
    pytest.param(
        compose(COMPOSE + "    volumes:\n    - ${DATA}:/data\n", allow_unpinned_images=True),
        "roles/kiosk/compose.yaml:5 has a variable in 'volumes'; "
        "write the value out, or pass it to the container in its environment",
        id="variable-in-volumes",
    ),
]


@pytest.mark.parametrize(("files", "message"), REFUSED_CONTENT)
def test_a_role_that_cannot_be_a_release_is_refused(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path, files: dict[str, str | None], message: str | None
) -> None:
    repo.commit(files)
    ran = build(flaghoist, repo.path, tmp_path / "out")
    assert (ran.code, ran.out) == (1, ""), ran.err
    assert ran.err.count("\n") == 1
    assert message is None or ran.err == f"flaghoist: {message}\n"
    assert not any((tmp_path / "out").glob("*")), "nothing half-built is left"


def test_files_that_only_case_sets_apart_from_a_folder_are_named(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path
) -> None:
    repo.commit({"roles/kiosk/files/a": "x", "roles/kiosk/files/A/b": "x"})
    ran = build(flaghoist, repo.path, tmp_path / "out")
    assert ran.err.startswith("flaghoist: roles/kiosk makes no bundle that a hub would take: ")
    assert "'files/a'" in ran.err


def test_an_unpinned_image_builds_where_the_role_opts_out(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path
) -> None:
    repo.commit(compose("services:\n  web:\n    image: nginx:1.27\n", allow_unpinned_images=True))
    assert build(flaghoist, repo.path, tmp_path / "out").code == 0


def test_a_pinned_compose_file_builds_and_its_hash_is_signed(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path
) -> None:
    repo.commit(compose(COMPOSE))
    ran = build(flaghoist, repo.path, tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert DIGEST in COMPOSE
    assert ran.json["release"]["compose_sha256"] == hashlib.sha256(COMPOSE.encode()).hexdigest()


def _link(repo: Repo) -> None:
    blob = repo.git("hash-object", "-w", "--stdin", stdin="app.py")
    repo.git("update-index", "--add", "--cacheinfo", f"120000,{blob},roles/kiosk/files/link")


def _submodule(repo: Repo) -> None:
    commit = repo.git("rev-parse", "HEAD")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{commit},roles/kiosk/files/sub")


@pytest.mark.parametrize(
    ("add", "message"),
    [
        pytest.param(
            _link,
            "roles/kiosk/files/link is a symbolic link; commit the file it points to in its place",
            id="symbolic-link",
        ),
        pytest.param(
            _submodule,
            "roles/kiosk/files/sub is a submodule; commit its files in its place",
            id="submodule",
        ),
    ],
)
def test_what_is_not_a_regular_file_is_refused(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path, add: Callable[[Repo], None], message: str
) -> None:
    add(repo)
    repo.record()
    ran = build(flaghoist, repo.path, tmp_path / "out")
    assert (ran.code, ran.err) == (1, f"flaghoist: {message}\n")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        pytest.param(
            ["--commit", "nowhere"], 1,
            "{repo} has no revision 'nowhere'; fetch it first, or look for its name with git log",
            id="no-such-revision",
        ),
        pytest.param(
            ["--commit", "--help"], 1,
            "{repo} has no revision '--help'; fetch it first, or look for its name with git log",
            id="revision-like-an-option",
        ),
        pytest.param(
            ["--commit", "HEAD:roles"], 1,
            "{repo} has no revision 'HEAD:roles'; fetch it first, or look for its name with git log",
            id="revision-that-is-a-folder",
        ),
        pytest.param(
            ["--role", "gateway"], 1,
            "commit {commit} of {repo} has no folder roles/gateway; check --role, --repo and --commit",
            id="no-such-role",
        ),
        pytest.param(
            ["--repo", "{tmp}/empty"], 3,
            "{tmp}/empty is not a git repository; give the fleet repository with --repo",
            id="not-a-repository",
        ),
        pytest.param(
            ["--repo", "{tmp}/nowhere"], 3,
            "{tmp}/nowhere is not a folder; give the path of a git repository",
            id="no-such-folder",
        ),
        pytest.param(
            ["--out", "{repo}/roles/kiosk/README.md"], 3,
            "cannot write below {repo}/roles/kiosk/README.md (File exists); choose another --out or free some space",
            id="out-is-a-file",
        ),
        pytest.param(
            ["--role", "Kiosk"], 2,
            "Invalid value for '--role': 'Kiosk' is not a role; use 1 to 32 of a-z, 0-9 and '-', "
            "starting with a letter (see `flaghoist release build --help`)",
            id="bad-role",
        ),
        pytest.param(
            ["--fleet", "a/b"], 2,
            "Invalid value for '--fleet': 'a/b' is not a fleet name; use 1 to 32 of a-z, 0-9 and '-', "
            "starting with a letter (see `flaghoist release build --help`)",
            id="bad-fleet",
        ),
        pytest.param(
            ["--sequence", "0"], 2,
            "Invalid value for '--sequence': 0 is not in the range 1<=x<=9007199254740992 "
            "(see `flaghoist release build --help`)",
            id="bad-sequence",
        ),
    ],
)  # fmt: skip
def test_a_build_that_cannot_begin_says_why(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path, args: list[str], code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    names = {"repo": repo.path, "tmp": tmp_path, "commit": repo.git("rev-parse", "HEAD")[:12]}
    ran = build(flaghoist, repo.path, tmp_path / "out", *(arg.format(**names) for arg in args))
    assert (ran.code, ran.out, ran.err) == (code, "", f"flaghoist: {message.format(**names)}\n")


def test_without_a_hub_the_sequence_has_to_be_given(flaghoist: Flaghoist, repo: Repo, tmp_path: Path) -> None:
    ran = flaghoist(
        "release", "build", "--role", "kiosk", "--repo", repo.path, "--fleet", "acme", "--out", tmp_path
    )
    assert (ran.code, ran.err) == (
        2,
        "flaghoist: no sequence is given; give --sequence, or set FLAGHOIST_URL to ask the hub "
        "(see `flaghoist release build --help`)\n",
    )


def test_without_git_the_way_out_is_named(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    ran = build(flaghoist, repo.path, tmp_path / "out")
    assert (ran.code, ran.err) == (
        3,
        "flaghoist: git is not installed; install it, releases are built from git commits\n",
    )
