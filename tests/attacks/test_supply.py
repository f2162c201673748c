"""Supply: what is installed is what was looked at, and nothing in this repository is a secret or a way around that."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from app.change.secretscan import find
from tests.claims import case, claim

GROUP = "Supply"
ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "webhooks", "embeddings", "infra", "client")
LOCKS = (
    "requirements.lock",
    "torch.lock",
    "sdists.lock",
    "infra/container/runtime.lock",
    "infra/aws/requirements.lock",
)
INSTALLERS = ("infra/container/install", "infra/container/build", "infra/container/Dockerfile")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)(?:\s*;[^\\]+)?\s*\\?$")
_HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")


def named(requirement: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/"""
    name = re.split(r"[\[<>=!~; (]", requirement.strip(), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes, by name. Raises ValueError for a line that is neither a pin nor one of its hashes."""
    found: dict[str, tuple[str, int]] = {}
    name = ""
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if pin := _PIN.match(line):
            name = named(pin[1])
            if name in found:
                raise ValueError(f"{name} twice")
            found[name] = (pin[2], 0)
        elif _HASH.match(line) and name:
            found[name] = (found[name][0], found[name][1] + 1)
        else:
            raise ValueError(line)
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        named(line): line.partition("==")[2].strip()
        for line in lines
        if line.strip() and not line.startswith("#")
    }


def everything_locked() -> dict[str, str]:
    return {
        name: version
        for lock in ("requirements.lock", "torch.lock")
        for name, (version, _) in locked((ROOT / lock).read_text()).items()
    }


# --- pinned, with hashes ---------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "Every line of every lock",
    "One exact version, and at least one SHA-256; nothing else stands there",
)
def test_every_line_of_a_lock_has_a_hash() -> None:
    for lock in LOCKS:
        found = locked((ROOT / lock).read_text())
        assert found
        assert not [name for name, (_, hashes) in found.items() if hashes == 0], lock


@claim(
    GROUP,
    "The lock against the versions that were tested",
    "They name the same packages in the same versions",
)
def test_the_lock_is_what_was_tested() -> None:
    assert everything_locked() == pins(), "run .ci/lock"


@claim(GROUP, "What pyproject.toml asks for", "Each has its version and its hashes")
def test_all_that_is_asked_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
        *project["build-system"]["requires"],
    ]
    assert {named(one) for one in asked} <= everything_locked().keys()


@claim(
    GROUP,
    "How it is installed, on a developer's machine and in the image",
    "By hash and nothing else, by one program for both; no address of an index stands anywhere",
)
def test_everything_is_installed_by_hash_alone() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "infra/container/install .venv requirements.lock --editable" in makefile
    assert (
        "infra/container/install /opt/magicode infra/container/runtime.lock"
        in (ROOT / "infra/container/Dockerfile").read_text()
    )
    ours = (
        "--no-deps --no-build-isolation --editable .",
        "--no-deps --no-build-isolation --wheel-dir",
        "--no-deps --no-index",
    )
    program = (ROOT / "infra/container/install").read_text()
    setup = makefile[makefile.index("$(READY):") : makefile.index("audit: $(READY)")] + program
    commands = [
        line
        for line in setup.splitlines()
        if re.search(r"\bpip\b.* (?:install|download|wheel) |PIP\) ", line)
    ]
    assert len(commands) >= 6
    for line in commands:
        assert "--require-hashes" in line or any(one in line for one in ours), line
    for lock in (*LOCKS, "constraints.txt", "Makefile", ".ci/run", ".ci/lock", *INSTALLERS):
        text = (ROOT / lock).read_text()
        assert not re.search(r"--(?:extra-)?index-url|--find-links|--trusted-host|https://pypi", text), lock


@pytest.mark.parametrize(
    "line",
    [
        case(GROUP, f"A lock with {what}", "The test of the locks fails", line)
        for what, line in {
            "a version range": "idna>=3",
            "a package from a repository": "idna @ git+https://github.com/kjd/idna",
            "an MD5 in the place of a SHA-256": "    --hash=md5:" + "0" * 32,
            "the address of another index": "--extra-index-url https://evil.example/simple",
        }.items()
    ],
)
def test_a_lock_that_pins_nothing_is_noticed(line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(line.strip()[:10])):
        locked(f"anyio==1.0 \\\n    --hash=sha256:{'0' * 64}\n{line}\n")


def wheel(folder: Path, content: str) -> Path:
    """A wheel that holds one module, made by hand."""
    path = folder / "amberwillow-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("amberwillow.py", content)
        archive.writestr(
            "amberwillow-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: amberwillow\nVersion: 1.0\n"
        )
        archive.writestr(
            "amberwillow-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("amberwillow-1.0.dist-info/RECORD", "")
    return path


def installed(folder: Path, lock: str) -> subprocess.CompletedProcess[str]:
    (folder / "lock").write_text(lock)
    arguments = ["install", "--no-index", "--find-links", str(folder), "--target", str(folder / "into")]
    return subprocess.run(
        [sys.executable, "-m", "pip", "--isolated", *arguments, "--no-deps", "--require-hashes", "-r", str(folder / "lock")],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


@claim(
    GROUP,
    "A package whose file was changed after it was locked",
    "It is not installed; the file that was locked is",
)
def test_a_changed_artefact_is_refused(tmp_path: Path) -> None:
    good = hashlib.sha256(wheel(tmp_path, "said = 'what was looked at'\n").read_bytes()).hexdigest()
    lock = f"amberwillow==1.0 \\\n    --hash=sha256:{good}\n"
    assert installed(tmp_path, lock).returncode == 0
    wheel(tmp_path, "said = 'something else'\n")
    (tmp_path / "into" / "amberwillow.py").unlink()
    refused = installed(tmp_path, lock)
    assert refused.returncode != 0
    assert "DO NOT MATCH" in refused.stderr
    assert not (tmp_path / "into" / "amberwillow.py").exists()


@claim(GROUP, "A package that the lock names without a hash", "Nothing at all is installed")
def test_one_line_without_a_hash_installs_nothing(tmp_path: Path) -> None:
    wheel(tmp_path, "")
    assert installed(tmp_path, "amberwillow==1.0\n").returncode != 0
    assert not (tmp_path / "into").exists()


@claim(
    GROUP,
    "npm packages that the tests read",
    "Exact versions with npm's own SHA-512, compared before they are unpacked",
)
def test_npm_packages_are_pinned_by_hash() -> None:
    makefile = (ROOT / "Makefile").read_text()
    packages = re.search(r"^OCTOKIT := ((?:\\\n|[^\n])+)", makefile, re.MULTILINE)
    assert packages is not None
    for package in packages[1].replace("\\\n", " ").split():
        name, _, digest = package.partition("=")
        assert re.fullmatch(r"[a-z-]+@\d+\.\d+\.\d+", name)
        assert len(base64.b64decode(digest.removeprefix("sha512-"), validate=True)) == 64
    recipe = makefile[makefile.index("$(OCTOKIT_READY):") : makefile.index("$(SDISTS_READY):")]
    assert recipe.index("$(SHA512)") < recipe.index("tar -xzf")


# --- actions and images ----------------------------------------------------------------------------------------------

_USES = re.compile(r"^\s*(?:-\s*)?uses:\s*['\"]?([^\s'\"#]+)", re.MULTILINE)
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.MULTILINE | re.IGNORECASE)
_IMAGE = re.compile(r"^\s*(?:-\s*)?(?:image|container):\s*['\"]?((?:\$\{[^}]*\}|[^\s'\"#])+)", re.MULTILINE)
# A digest that whoever builds or starts it has to give: nothing that is no digest can stand behind the @.
_GIVEN = re.compile(r"@\$\{([A-Z_]+_DIGEST)(:\?[^}]*)?\}$")
OURS = "${IMAGE:?"


def unpinned(path: str, text: str) -> list[str]:
    """What a workflow, a Dockerfile or a composition takes from elsewhere without saying which bytes."""
    found: list[str] = []
    stages: set[str] = set()
    for image, stage in (
        _FROM.findall(text) if "dockerfile" in path.lower() or "containerfile" in path.lower() else ()
    ):
        given = _GIVEN.search(image)
        asked = given is not None and re.search(rf"^ARG {given[1]}$", text, re.MULTILINE)
        if (
            image not in stages
            and image.lower() != "scratch"
            and not asked
            and not re.search(r"@sha256:[0-9a-f]{64}$", image)
        ):
            found.append(image)
        stages.add(stage)
    if path.endswith((".yml", ".yaml")):
        for used in _USES.findall(text):
            pinned = re.search(r"@[0-9a-f]{40}$|@sha256:[0-9a-f]{64}$", used)
            if not pinned and not used.startswith("./"):
                found.append(used)
        for one in _IMAGE.findall(text):
            given = _GIVEN.search(one)
            if (
                not re.search(r"@sha256:[0-9a-f]{64}$", one)
                and not one.startswith(OURS)
                and not (given and given[2])
            ):
                found.append(one)
    return found


def tracked() -> list[str]:
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [path for path in out.decode().split("\0") if path and (ROOT / path).is_file()]


@claim(
    GROUP,
    "Every workflow, Dockerfile and composition of this repository",
    "Takes actions by commit and images by digest",
)
def test_actions_and_images_are_pinned() -> None:
    for path in tracked():
        last = path.rpartition("/")[2].lower()
        elsewhere = path.startswith((".github/workflows/", ".github/actions/")) or "compose" in last
        if elsewhere or "dockerfile" in last or "containerfile" in last:
            assert unpinned(path, (ROOT / path).read_text()) == [], path


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        case(GROUP, f"Were there {what}", "The test above would fail and name it", *given)
        for what, given in {
            "an action by its tag": (".github/workflows/a.yml", "- uses: actions/checkout@v5\n", "actions/checkout@v5"),
            "an action by a branch": (".github/workflows/a.yml", "  uses: 'a/b@main'\n", "a/b@main"),
            "a job in an image by its tag": (".github/workflows/a.yml", "container: python:3.11\n", "python:3.11"),
            "a Dockerfile from a tag": ("infra/container/Dockerfile", "FROM --platform=x python:3.11 AS build\nFROM build\n", "python:3.11"),
            "a composition with an image by its name": ("compose.yaml", "  image: postgres\n", "postgres"),
            "a composition whose digest may be left out": ("compose.yaml", "  image: postgres@${POSTGRES_DIGEST}\n", "postgres@${POSTGRES_DIGEST}"),
            "a composition that takes any image": ("compose.yaml", "  image: ${ANY:?x}\n", "${ANY:?x}"),
            "a Dockerfile whose digest has a default": ("Dockerfile", "ARG A_DIGEST=x\nFROM a@${A_DIGEST}\n", "a@${A_DIGEST}"),
        }.items()
    ],
)  # fmt: skip
def test_what_is_not_pinned_would_be_noticed(path: str, text: str, told: str) -> None:
    assert unpinned(path, text) == [told]
    digest = "a" * 40 if "uses" in text else f"sha256:{'a' * 64}"
    assert unpinned(path, text.replace(told, f"{told.partition('@')[0]}@{digest}")) == []


# --- secrets ---------------------------------------------------------------------------------------------------------

DELIBERATE = ROOT / "tests" / "attacks" / "deliberate.json"


def secrets_in(path: str, text: str) -> set[tuple[str, str]]:
    """What looks like a secret: the file, and the SHA-256 of what was found, since it is not to be written here again."""
    if path.endswith(".lock"):
        return set()
    return {(path, hashlib.sha256(secret.encode()).hexdigest()[:16]) for _, secret in find(text)}


@pytest.mark.long
@claim(
    GROUP,
    "Every file of this repository, searched with the product's own patterns for keys",
    "Nothing but the made-up ones that tests and models of GitHub need, each listed by its hash",
)
def test_no_secret_stands_in_this_repository() -> None:
    found: set[tuple[str, str]] = set()
    for path in tracked():
        data = (ROOT / path).read_bytes()
        if b"\0" not in data[:8000] and len(data) < 2_000_000:
            found |= secrets_in(path, data.decode("utf-8", "replace"))
    known = {(path, one) for path, ones in json.loads(DELIBERATE.read_text()).items() for one in ones}
    assert found - known == set(), "a new one: is it made up? then list it"


@pytest.mark.long
@claim(
    GROUP,
    "Every line that any commit ever added, searched for private keys and providers' tokens",
    "Nothing that is not made up",
)
def test_no_secret_ever_stood_in_this_repository() -> None:
    forms = r"-----BEGIN [A-Z ]*PRIVATE KEY-----$|AKIA[A-Z2-7]{16}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60}|sk-ant-[A-Za-z0-9_-]{60}"
    out = subprocess.run(
        ["git", "log", "--all", "--no-color", "-E", f"-G{forms}", "--format=%H", "--name-only"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    touched = {line for line in out.splitlines() if line and not re.fullmatch(r"[0-9a-f]{40}", line)}
    assert not {
        path
        for path in touched
        if not path.startswith(("tests/", "infra/simulator/", "app/change/secretscan"))
    }


@claim(GROUP, "A key of each provider put into a file", "It is found: the search is not blind")
def test_the_search_is_not_blind() -> None:
    made = (
        "AKIA" + "QWERTYUIOPASDFGH".replace("0", "2"),
        "ghp_" + "a1B2" * 9,
        "-----BEGIN RSA PRIVATE" + " KEY-----",
    )
    for one in made:
        assert secrets_in("x.py", f"key = {one}\n"), one[:8]


# --- our own code ----------------------------------------------------------------------------------------------------

FORBIDDEN = {
    "eval": "eval", "exec": "exec", "compile": "compile", "__import__": "__import__",
    "pickle.load": "pickle", "pickle.loads": "pickle", "marshal.loads": "marshal", "shelve.open": "shelve",
    "yaml.load": "yaml.load", "yaml.unsafe_load": "yaml.load", "yaml.full_load": "yaml.load",
    "tempfile.mktemp": "mktemp", "os.system": "a shell", "os.popen": "a shell", "subprocess.getoutput": "a shell",
    "torch.load": "torch.load", "ssl._create_unverified_context": "no verification",
    "asyncio.create_subprocess_shell": "a shell", "random.seed": "a seed for all",
}  # fmt: skip
_KEYWORDS = {
    "shell": True,
    "verify": False,
    "verify_ssl": False,
    "allow_pickle": True,
    "check_hostname": False,
}
ALLOWED = {
    ("app/repofile.py", "yaml.load"): "with a SafeLoader that was made stricter",
    (
        "embeddings/training/train.py",
        "torch.load",
    ): "weights alone, which the same program has written; no part of the service",
}


def forbidden(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in FORBIDDEN:
            yield name
        for keyword in node.keywords:
            value = keyword.value
            if (
                keyword.arg in _KEYWORDS
                and isinstance(value, ast.Constant)
                and value.value is _KEYWORDS[keyword.arg]
            ):
                yield f"{keyword.arg}={value.value}"


@claim(
    GROUP,
    "Every call in the product's own code",
    "None evaluates text, unpickles, starts a shell, or talks to a host without verifying it",
)
def test_no_call_of_ours_runs_what_it_reads() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            where = str(path.relative_to(ROOT))
            if "simulator/sample" in where:
                continue
            for one in forbidden(path.read_text("utf-8")):
                assert (where, one) in ALLOWED, f"{where}: {one}"


@pytest.mark.parametrize(
    "text",
    [
        case(GROUP, f"Were there a call like {text}", "The test above would fail", text)
        for text in (
            "eval(x)",
            "subprocess.run(x, shell=True)",
            "httpx.get(x, verify=False)",
            "pickle.loads(x)",
            "yaml.load(x)",
        )
    ],
)
def test_such_a_call_would_be_noticed(text: str) -> None:
    assert list(forbidden(text))


@claim(GROUP, "Every YAML file of ours", "Read by a loader that builds nothing but plain values")
def test_our_own_yaml_is_plain() -> None:
    for path in tracked():
        if path.endswith((".yml", ".yaml")):
            list(yaml.safe_load_all((ROOT / path).read_text("utf-8")))


@claim(
    GROUP,
    "What the package would hold",
    "The five rooms and their data; no test, no key, no cache, no absolute link",
)
def test_the_package_holds_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert project["packages"]["find"]["include"] == [f"{name}*" for name in PACKAGES]
    strange = re.compile(
        r"\.(?:pem|key|p12|pfx|env|sqlite3?|db|log|pyc|ipynb)$|(?:^|/)\.env|id_rsa|credentials"
    )
    for path in tracked():
        if path.startswith(tuple(f"{name}/" for name in PACKAGES)):
            assert not strange.search(path), path
            assert not (ROOT / path).is_symlink() or not Path(ROOT / path).readlink().is_absolute(), path
