"""Agents for worker processes that lack the packages which the environment variable `LACKING` names."""

import os
import sys
from importlib.abc import MetaPathFinder
from typing import Annotated, Any

from handfast import Agent, Effect, Plan, Script, Tier, tool
from handfast.inputs import CleanHtml, SelectOnly


class Missing(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname.partition(".")[0] in os.environ.get("LACKING", "").split():
            raise ModuleNotFoundError(f"No module named {fullname!r}")


sys.meta_path.insert(0, Missing())

READ: dict[str, Any] = {"version": "1.0.0", "effect": Effect.READ, "tier": Tier.READ_ONLY, "scope": "x:r"}


@tool(**READ)
async def look() -> int:
    """Look."""
    return 3


@tool(**READ)
async def select(statement: Annotated[str, SelectOnly(dialect="sqlite")] | None = None) -> str:
    """Select."""
    return statement or ""


@tool(**READ)
async def publish(text: CleanHtml) -> str:
    """Publish."""
    return text


desk = Agent(name="desk", tools=[look])
PLAN = Plan.model_validate(
    {
        "name": "conditional",
        "description": "Look if the number is large.",
        "agent": "desk",
        "request": {"n": "integer"},
        "steps": {"look": {"tool": "look", "when": "request.n > 2.5"}},
        "output": "${steps.look.result}",
    }
)
with_planner = Agent(name="boss", instructions="Test.", model=Script(["done"]), tools=[look], plans=True)
with_sql = Agent(name="sql", tools=[select])
with_html = Agent(name="html", tools=[publish])


def __getattr__(name: str) -> Agent:
    """What is refused where it is made, without its package."""
    if name != "with_plan":
        raise AttributeError(name)
    return Agent(name="boss", instructions="Test.", model=Script(["done"]), tools=[desk.as_tool(plan=PLAN)])
