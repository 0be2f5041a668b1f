"""Ready types for the arguments of tools that are easily turned against whoever runs them.

Each stands in the type of a field of a tool's arguments. What does not fit is refused like every wrong argument: the call is not
executed, and the model reads why. It is looked at twice, when the model's turn is settled and right before the effect.

```python
class Args(BaseModel):
    report: Annotated[Path, SafePath("/srv/reports", suffixes=(".md",))]
    source: Annotated[str, AllowedUrl("example.com", "*.example.com")]
```
"""

import contextlib
import importlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, GetCoreSchemaHandler
from pydantic_core import core_schema
from typing_extensions import override

from handfast.contracts.errors import ContractError, SettingsError
from handfast.contracts.policy.globs import matches

LONGEST_PATH = 1024
LONGEST_URL = 2048
LONGEST_SQL = 20_000
PORTS = {"https": 443, "http": 80}
NO_URL = frozenset(" \\<>\"'`{}|^")
"""What a URL does not hold: others may read it differently."""


class Checked(ABC):
    """Something more that must be true of a value, once it has its type."""

    package: ClassVar[str] = ""
    """An optional package that it needs."""

    @abstractmethod
    def check(self, value: Any) -> Any:
        """The value as the tool gets it.

        Raises:
            ValueError: It does not fit.
        """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """How pydantic checks it."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))


class SafePath(Checked):
    """In the type of a `Path`: it is below one of these folders. The tool gets it absolute, with every link followed.

    A relative one is taken from the first folder. A tool should open what it gets at once: who can write to the folder may put a
    link in its place later.

    Args:
        roots: Folders.
        suffixes: Only names that end so, such as `.md`.
        exists: Whether it must be there, or must not be; None if either may be.

    Raises:
        ContractError: No folder is given, or one is the whole file system.
    """

    def __init__(self, *roots: str | Path, suffixes: Collection[str] = (), exists: bool | None = None) -> None:
        self._beneath = [Path(root).resolve() for root in roots]
        self._suffixes = suffixes
        self._exists = exists
        if not roots or any(root == Path(root.anchor) for root in self._beneath):
            raise ContractError("SafePath", ["give folders, and not the whole file system"])

    @override
    def check(self, value: Any) -> Path:
        text = str(value)
        if len(text) > LONGEST_PATH or any(not sign.isprintable() for sign in text):
            msg = f"a path has at most {LONGEST_PATH} printable characters"
            raise ValueError(msg)
        with contextlib.suppress(OSError, RuntimeError):
            path = (self._beneath[0] / text).resolve()
            # Behind a link that leads to itself, links are not followed: such a path has more than one end.
            if path.resolve() == path and any(path != root and path.is_relative_to(root) for root in self._beneath):
                self._require_wanted(path)
                return path
        msg = f"{text!r} is not below {' or '.join(map(str, self._beneath))}"
        raise ValueError(msg)

    def _require_wanted(self, path: Path) -> None:
        if self._suffixes and path.suffix not in self._suffixes:
            msg = f"the name must end with {' or '.join(sorted(self._suffixes))}"
            raise ValueError(msg)
        if self._exists is not None and path.exists() is not self._exists:
            msg = "there is no such file" if self._exists else "there is such a file already"
            raise ValueError(msg)


class AllowedUrl(Checked):
    """In the type of a text: a URL at one of these hosts.

    Use it with `ctx.http`, which looks at the address that a name stands for when it connects, and at every redirect.

    Args:
        hosts: Names, or patterns such as `*.example.com` for all below one. A number is none.
        schemes: `https` unless said.
        ports: Besides the usual one of the scheme.

    Raises:
        ContractError: No host is given, or a pattern that fits every one.
    """

    def __init__(self, *hosts: str, schemes: Sequence[str] = ("https",), ports: Collection[int] = ()) -> None:
        self._hosts = hosts
        self._schemes = schemes
        self._ports = ports
        if not hosts or any(not host.strip("*.?") for host in hosts):
            raise ContractError("AllowedUrl", ["name the hosts; a pattern that fits every host is none"])

    @override
    def check(self, value: Any) -> str:
        text = str(value)
        if len(text) > LONGEST_URL or any(s in NO_URL or not s.isprintable() or not s.isascii() for s in text):
            msg = f"a URL has at most {LONGEST_URL} characters, and none that others may read differently: encode them"
            raise ValueError(msg)
        try:
            told = urlsplit(text)
            port = told.port
        except ValueError as error:
            msg = f"it is no URL: {error}"
            raise ValueError(msg) from error
        host = (told.hostname or "").rstrip(".")
        faults = {
            f"the scheme must be {' or '.join(self._schemes)}": told.scheme not in self._schemes,
            "it names a user: leave that out": told.username is not None or told.password is not None,
            f"the host {host!r} is not among {', '.join(self._hosts)}": not matches(self._hosts, host),
            f"port {port} is not allowed": port not in {None, PORTS.get(told.scheme), *self._ports},
        }
        if fault := next((fault for fault, there in faults.items() if there), ""):
            raise ValueError(fault)
        return text


class AllowedCommand(Checked):
    """In the type of a list of texts: a command, whose first word is a program of this list. Run it without a shell.

    Args:
        programs: By program: patterns, one of which each further word must fit, such as `{"git": ("status", "log", "--oneline")}`.
            A word that begins with `-` fits only a pattern that does, so that no argument is taken for an option.
        most: How many words it may have.

    Raises:
        ContractError: A program is a shell, or something that runs others.
    """

    def __init__(self, programs: Mapping[str, Sequence[str]], *, most: int = 50) -> None:
        self._programs = programs
        self._most = most
        faults = [f"{program} runs whatever it is told" for program in programs if Path(program).name in RUNS_OTHERS]
        if faults or not programs:
            raise ContractError("AllowedCommand", faults or ["name the programs"])

    @override
    def check(self, value: Any) -> list[str]:
        words = [str(word) for word in value]
        if not 1 <= len(words) <= self._most:
            msg = f"a command has 1 to {self._most} words"
            raise ValueError(msg)
        program, *rest = words
        if program not in self._programs:
            msg = f"{program!r} is not among {', '.join(self._programs)}"
            raise ValueError(msg)
        for word in rest:
            self._require_fitting(program, word)
        return words

    def _require_fitting(self, program: str, word: str) -> None:
        if any(not sign.isprintable() for sign in word):
            msg = "a word holds a line break or another control character"
            raise ValueError(msg)
        fitting = [one for one in self._programs[program] if one.startswith("-") is word.startswith("-")]
        if not matches(fitting, word):
            allowed = ", ".join(self._programs[program]) or "no arguments"
            msg = f"{program} may not be given {word!r}: allowed are {allowed}"
            raise ValueError(msg)


RUNS_OTHERS = frozenset(
    {
        "sh", "bash", "zsh", "dash", "fish", "env", "sudo", "su", "xargs", "python", "python3", "perl", "ruby", "node", "ssh", "nohup",
        "eval", "busybox",
    }
)  # fmt: skip
"""Programs that are whatever they are told to be."""


class SelectOnly(Checked):
    """In the type of a text: one SQL statement that only reads. Needs the extra `inputs` (sqlglot).

    Values come as parameters, beside it: a text or number in the statement is refused unless `literals`. The connection should be a
    read-only one all the same: functions of a database can write.

    Args:
        tables: Which tables it may read, with their schema if they have one; all unless said.
        dialect: `postgres`, `sqlite` and so on, as sqlglot names it.
        literals: Whether values may stand in the statement.
    """

    package = "sqlglot"

    def __init__(self, *, tables: Collection[str] = (), dialect: str = "", literals: bool = False) -> None:
        self._tables = tables
        self._dialect = dialect or None
        self._literals = literals

    @override
    def check(self, value: Any) -> str:
        text = str(value)
        if len(text) > LONGEST_SQL:
            msg = f"a statement has at most {LONGEST_SQL} characters"
            raise ValueError(msg)
        sqlglot, expressions = _sqlglot()
        try:
            statements = [one for one in sqlglot.parse(text, dialect=self._dialect) if one is not None]
        except (sqlglot.errors.SqlglotError, RecursionError) as error:
            msg = f"it is no SQL that can be read: {str(error).splitlines()[0]}"
            raise ValueError(msg) from error
        if len(statements) != 1 or not isinstance(statements[0], expressions.Query):
            msg = "only one SELECT is allowed"
            raise ValueError(msg)
        _require_reading(statements[0], expressions)
        self._require_wanted(statements[0], expressions)
        return text

    def _require_wanted(self, statement: Any, expressions: Any) -> None:
        if not self._literals and (found := statement.find(expressions.Literal)) is not None:
            msg = f"the value {found.sql()} stands in the statement: write a parameter, and give the value beside it"
            raise ValueError(msg)
        common = {one.alias_or_name for one in statement.find_all(expressions.CTE)}
        for table in statement.find_all(expressions.Table):
            name = ".".join(part.name for part in table.parts)
            if self._tables and name not in self._tables and name not in common:
                msg = f"table {name!r} is not among {', '.join(sorted(self._tables))}"
                raise ValueError(msg)


def _require_reading(statement: Any, expressions: Any) -> None:
    """Refuse what writes inside of a SELECT: a data-changing WITH, SELECT INTO, locks."""
    writes = (
        expressions.Insert, expressions.Update, expressions.Delete, expressions.Merge, expressions.Create, expressions.Drop,
        expressions.Into, expressions.Lock, expressions.Command, expressions.Copy,
    )  # fmt: skip
    if (found := statement.find(*writes)) is not None:
        msg = f"it does more than read: {type(found).__name__.upper()}"
        raise ValueError(msg)


def _sqlglot() -> tuple[Any, Any]:
    try:
        import sqlglot
        from sqlglot import expressions
    except ImportError as error:
        msg = "SelectOnly needs the extra `inputs`: pip install 'handfast[inputs]'"
        raise SettingsError(msg) from error
    return sqlglot, expressions


def _clean(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        import nh3
    except ImportError as error:
        msg = "CleanHtml needs the extra `inputs`: pip install 'handfast[inputs]'"
        raise SettingsError(msg) from error
    return nh3.clean(
        value, tags={"p", "br", "b", "i", "em", "strong", "ul", "ol", "li", "a", "code", "pre", "blockquote"}
    )


CLEANING = BeforeValidator(_clean)
CleanHtml = Annotated[str, CLEANING]
"""A text that is shown as HTML: cleaned of scripts, handlers, styles and everything but a few tags. Needs the extra `inputs` (nh3)."""


class BoundedJson(Checked):
    """In the type of a JSON value: it is no deeper and no longer than this.

    Args:
        depth: Of lists and objects in each other.
        characters: Of the value as JSON.
    """

    def __init__(self, *, depth: int = 10, characters: int = 10_000) -> None:
        self._most_depth = depth
        self._characters = characters

    @override
    def check(self, value: Any) -> Any:
        if _depth(value, self._most_depth) > self._most_depth:
            msg = f"it is more than {self._most_depth} deep"
            raise ValueError(msg)
        if (length := len(json.dumps(value, ensure_ascii=False, default=str))) > self._characters:
            msg = f"it has {length} characters as JSON, allowed are {self._characters}"
            raise ValueError(msg)
        return value


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - JSON


def _depth(value: Any, most: int) -> int:
    """How deep it is, as far as that is allowed, and one more."""
    level: list[Any] = [value]
    found = 0
    while found <= most:
        deeper: list[Any] = [one for one in level if isinstance(one, (dict, list))]
        if not deeper:
            break
        found += 1
        level = [inner for one in deeper for inner in _inside(one)]
    return found


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _name(text: str) -> str:
    if not NAME.fullmatch(text) or ".." in text:
        msg = "a name has up to 100 letters, digits, '.', '_' or '-', and begins with a letter or a digit"
        raise ValueError(msg)
    return text


SafeName = Annotated[str, AfterValidator(_name)]
"""The type of a name that can be a part of a path, a URL or a shell word without meaning anything there."""


def missing_packages(model: type[BaseModel]) -> list[str]:
    """The optional packages that the types of this module need somewhere in a model, and that are not installed here."""
    found: set[str] = set()
    seen: set[Any] = set()

    def look(kind: Any, metadata: Iterable[Any] = ()) -> None:
        for one in metadata:
            found.update({one.package} if isinstance(one, Checked) else {"nh3"} if one is CLEANING else ())
        look_at(getattr(kind, "__metadata__", ()), get_args(kind))
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
            seen.add(kind)
            for field in kind.model_fields.values():
                look(field.annotation, field.metadata)

    def look_at(metadata: Iterable[Any], inner: Iterable[Any]) -> None:
        for number, kind in enumerate(inner):
            look(kind, metadata if number == 0 else ())

    look(model)
    return sorted(package for package in found if package and not _is_there(package))


def _is_there(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True
