"""Types of arguments that are easily turned against whoever runs them, and what people try with them."""

import os
import sqlite3
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from handfast import ContractError, Effect, Tier, tool
from handfast.contracts.arguments import Arguments, parse_arguments
from handfast.inputs import AllowedCommand, AllowedUrl, BoundedJson, Checked, CleanHtml, SafeName, SafePath, SelectOnly


def taken(kind: Any, check: Checked, value: Any) -> Any:
    """What a tool gets for a value of a field of that type."""
    annotated: Any = Annotated
    return TypeAdapter(annotated[kind, check]).validate_python(value)


def refused(kind: Any, check: Checked, value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        taken(kind, check, value)
    return str(caught.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Reports, a secret beside them, and links from one to the other."""
    folder = tmp_path / "reports"
    (folder / "may").mkdir(parents=True)
    (folder / "may" / "one.md").write_text("1")
    (tmp_path / "reports-secret").mkdir()
    (tmp_path / "reports-secret" / "key.md").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "reports-secret")
    (folder / "key.md").symlink_to(tmp_path / "reports-secret" / "key.md")
    (folder / "in.md").symlink_to(folder / "may" / "one.md")
    (folder / "loop").symlink_to(folder / "loop")
    return folder


def test_a_path_stays_below_its_folder(root: Path) -> None:
    one = SafePath(root, suffixes=(".md",))
    for told in ("may/one.md", "./may/../may/one.md", str(root / "may" / "one.md"), "in.md"):
        assert taken(Path, one, told) == root / "may" / "one.md"
    assert taken(Path, one, "new.md") == root / "new.md"
    for hostile in (
        "../reports-secret/key.md", str(root.parent / "reports-secret" / "key.md"), "out/key.md", "key.md", "/etc/passwd",
        "may/../../reports-secret/key.md", "", ".", str(root), "/", "~/x.md", "loop/x.md", "loop/../out/key.md", "//etc/passwd",
    ):  # fmt: skip
        if hostile == "~/x.md":
            # A tilde is a name like any other.
            assert taken(Path, one, hostile) == root / "~" / "x.md"
            continue
        assert "is not below" in refused(Path, one, hostile), hostile
    for odd in ("a\0b.md", "a\nb.md", "a\u202eb.md", "x" * 2000 + ".md"):
        assert "printable characters" in refused(Path, one, odd)
    assert "must end with .md" in refused(Path, one, "may/one.md.sh")
    assert "no such file" in refused(Path, SafePath(root, exists=True), "new.md")
    assert "already" in refused(Path, SafePath(root, exists=False), "in.md")
    for roots in ((), ("/",), (root, "/")):
        with pytest.raises(ContractError, match="not the whole file system"):
            SafePath(*roots)


@settings(max_examples=300, deadline=None)
@example(["loop", "..", "out"])
@given(st.lists(st.sampled_from(["..", ".", "may", "out", "key.md", "in.md", "", "x", "loop"]), max_size=7))
def test_no_way_through_names_leads_out(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    base = tmp_path_factory.getbasetemp() / "ways"
    if not base.exists():
        (base / "reports" / "may").mkdir(parents=True)
        (base / "secret").mkdir()
        (base / "reports" / "out").symlink_to(base / "secret")
        (base / "reports" / "loop").symlink_to("loop")
    try:
        found = taken(Path, SafePath(base / "reports"), "/".join(steps))
    except ValidationError:
        return
    assert os.path.realpath(found).startswith(str(base / "reports") + os.sep)


def test_a_url_stays_at_its_hosts() -> None:
    one = AllowedUrl("example.com", "*.example.com", ports=(8443,))
    for told in (
        "https://example.com/a?b=c#d",
        "https://a.example.com:8443/",
        "https://EXAMPLE.com",
        "https://example.com.:443/",
    ):
        assert taken(str, one, told) == told
    for hostile in (
        "http://example.com", "https://example.com.evil.com", "https://example.com@evil.com/", "https://u:p@example.com/",
        "https://evil.com\\@example.com/", "https://evil.com/@example.com", "https://[::1]/", "https://127.0.0.1/", "file:///etc/passwd",
        "https://example.com:22/", "https://example.com:99999/", "https://exa\tmple.com/", "https://example.com /", "//example.com",
        "https://\u0435xample.com", "javascript:alert(1)", "https://evil.com#.example.com", "https://evil.com?.example.com", "",
        "https://2130706433/", "https://example.com%2eevil.com", "https://" + "a" * 3000 + ".example.com",
    ):  # fmt: skip
        refused(str, one, hostile)
    for hosts in ((), ("*",), ("*.*",), ("**",), ("?*",)):
        with pytest.raises(ContractError, match="fits every host"):
            AllowedUrl(*hosts)


def test_a_command_is_one_of_a_list_with_arguments_of_a_list() -> None:
    one = AllowedCommand({"git": ("status", "log", "--oneline", "-n[0-9]", "src/*"), "ls": ()})
    for told in (["git", "status"], ["git", "log", "--oneline", "-n3"], ["git", "log", "src/a.py"], ["ls"]):
        assert taken(list[str], one, told) == told
    for hostile in (
        ["rm", "-rf"], ["/bin/git", "status"], ["git", "-c", "core.pager=sh"], ["git", "status; rm -rf /"], ["git", "--upload-pack=x"],
        ["git", "push"], ["ls", "x"], ["git", "log\nrm"], ["git", "src/a\0b"], [], ["git"] + ["status"] * 60, ["GIT", "status"],
        ["git", "-n3;sh"],
    ):  # fmt: skip
        refused(list[str], one, hostile)
    # An argument is never taken for an option, even where a pattern fits everything.
    assert "may not be given" in refused(list[str], AllowedCommand({"grep": ("*",)}), ["grep", "--file=/etc/passwd"])
    with pytest.raises(ContractError, match="runs whatever it is told"):
        AllowedCommand({"/bin/sh": ("*",)})


def test_sql_only_reads_and_its_values_come_beside_it() -> None:
    one = SelectOnly(tables=("orders", "shop.items"), dialect="postgres")
    for told in (
        "SELECT id FROM orders WHERE customer = %(customer)s", "select * from orders join shop.items i on i.o = orders.id limit %(n)s",
        "WITH o AS (SELECT id FROM orders) SELECT count(*) FROM o", "SELECT id FROM orders UNION SELECT id FROM shop.items",
    ):  # fmt: skip
        assert taken(str, one, told) == told
    for hostile, why in (
        ("SELECT 1; DROP TABLE orders", "only one SELECT"),
        ("DROP TABLE orders", "only one SELECT"),
        ("UPDATE orders SET a = b", "only one SELECT"),
        ("WITH x AS (DELETE FROM orders RETURNING id) SELECT id FROM x", "more than read"),
        ("SELECT id INTO other FROM orders", "more than read"),
        ("SELECT id FROM orders FOR UPDATE", "more than read"),
        ("SELECT id FROM orders WHERE name = 'x' OR 'a' = 'a'", "write a parameter"),
        ("SELECT id FROM orders WHERE id = 1", "write a parameter"),
        ("SELECT id FROM users", "table 'users' is not among"),
        ("SELECT id FROM orders WHERE id IN (SELECT id FROM pg_shadow)", "table 'pg_shadow'"),
        ("SELECT id FROM other.orders", "table 'other.orders'"),
        ("COPY orders TO PROGRAM 'sh'", "only one SELECT"),
        ("SELECT FROM WHERE (", "no SQL that can be read"),
        ("", "only one SELECT"),
        ("VACUUM", "only one SELECT"),
        ("SELECT id FROM orders -- " + "x" * 30_000, "at most"),
        ("SELECT " + "(" * 5000 + "id" + ")" * 5000 + " FROM orders", "no SQL that can be read"),
    ):
        assert why in refused(str, one, hostile), hostile
    free = SelectOnly(dialect="sqlite", literals=True)
    connection = sqlite3.connect(":memory:")
    assert connection.execute(taken(str, free, "SELECT 1 + 1")).fetchone() == (2,)
    for hostile in ("PRAGMA writable_schema = 1", "ATTACH 'x' AS y", "INSERT INTO t VALUES (1)", "SELECT 1; SELECT 2"):
        refused(str, free, hostile)


def test_html_is_cleaned() -> None:
    def clean(text: str) -> str:
        cleaned: str = TypeAdapter(CleanHtml).validate_python(text)
        return cleaned

    assert clean("<p>Hello <b>you</b></p>") == "<p>Hello <b>you</b></p>"
    for hostile in (
        "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<a href='javascript:alert(1)'>x</a>", "<svg onload=alert(1)>",
        "<p style='position:fixed' onclick=x>x</p>", "<iframe src=//evil.com></iframe>", "<scr<script>ipt>alert(1)</script>",
        "<form action=//evil.com><input></form>", "<a href='data:text/html,x'>x</a>", "<p><style>*{display:none}</style></p>",
    ):  # fmt: skip
        told = clean(hostile).lower()
        signs = (
            "<script",
            "onerror",
            "javascript:",
            "onload",
            "onclick",
            "style",
            "<iframe",
            "<form",
            "data:",
            "<img",
            "<svg",
        )
        assert not any(sign in told for sign in signs), told
    with pytest.raises(ValidationError):
        clean(7)  # type: ignore[arg-type]


def test_json_is_no_deeper_and_no_longer_than_said() -> None:
    one = BoundedJson(depth=3, characters=100)
    for told in ({"a": [{"b": 1}]}, [1, "x", None], "x" * 98, {}):
        assert taken(Any, one, told) == told
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    for hostile, why in (
        ([[[[1]]]], "more than 3 deep"),
        (deep, "more than 3 deep"),
        ("x" * 101, "characters as JSON"),
    ):
        assert why in refused(Any, one, hostile)


def test_a_name_means_nothing_anywhere() -> None:
    names = TypeAdapter(SafeName)
    assert [names.validate_python(name) for name in ("report-1.md", "A_b")] == ["report-1.md", "A_b"]
    for hostile in ("", "..", "a/b", "a..b", "-rf", ".env", "a b", "a\n", "a%2fb", "ä", "x" * 101, "a;b", "$(x)"):
        with pytest.raises(ValidationError):
            names.validate_python(hostile)


def test_a_contract_just_uses_them_and_the_model_reads_why_a_value_is_refused(root: Path) -> None:
    class Args(BaseModel):
        report: Annotated[Path, SafePath(root)]
        source: Annotated[str, AllowedUrl("example.com")]
        words: Annotated[list[str], AllowedCommand({"wc": ("-l",)})] = ["wc", "-l"]

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="files:read")
    async def read(args: Args) -> str:
        """Read a report."""
        return args.report.read_text()

    properties = read.schema.parameters["properties"]
    assert (properties["report"]["type"], properties["source"]["type"]) == ("string", "string")
    told = parse_arguments(read, {"report": "../reports-secret/key.md", "source": "https://evil.com"})
    assert told == {
        "report": f"Value error, '../reports-secret/key.md' is not below {root}",
        "source": "Value error, the host 'evil.com' is not among example.com",
    }
    fits = parse_arguments(read, {"report": "in.md", "source": "https://example.com/"})
    assert isinstance(fits, Arguments)
    assert isinstance(fits.value, Args)
    assert fits.value.report == root / "may" / "one.md"
