"""A hierarchy three levels deep: a publisher asks editors, each of them asks writers; if it fails, what was filed is withdrawn."""

from datetime import timedelta

from examples.teams.models import asked, model, results
from pydantic import BaseModel, Field
from sqlalchemy import text

from handfast import Agent, Effect, Limits, Rate, RunStatus, Tier, ToolContext, ask, compensation, tool
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step


class Article(BaseModel):
    """An article."""

    title: str = Field(min_length=3, max_length=80, description="Example: Storm over the harbour")
    words: str = Field(min_length=10, max_length=2000, description="The article. Example: The storm came at nine.")


async def change(ctx: ToolContext, statement: str, **values: str) -> None:
    """Change the paper, together with the record of the call."""
    async with ctx.transaction() as connection:
        await connection.execute(text("CREATE TABLE IF NOT EXISTS paper (title TEXT, words TEXT)"))
        await connection.execute(text(statement), values)


@compensation()
async def withdraw(args: Article, result: str | None, ctx: ToolContext) -> None:
    """Take an article out of the paper."""
    await change(ctx, "DELETE FROM paper WHERE title = :title", title=args.title)


@tool(
    version="1.0.0",
    effect=Effect.TRANSACTIONAL,
    tier=Tier.REVERSIBLE,
    scope="paper:write",
    timeout=timedelta(seconds=5),
    compensate=withdraw,
    rates=(Rate(count=60),),
    owner="newsroom",
)
async def file_article(args: Article, ctx: ToolContext) -> str:
    """Put an article into tomorrow's paper. It can be withdrawn until the paper is printed."""
    await change(ctx, "INSERT INTO paper VALUES (:title, :words)", title=args.title, words=args.words)
    return f"filed: {args.title}"


def write(request: ModelRequest) -> Step:
    """Write it and file it."""
    title = asked(request)
    return title if results(request) else ask("file_article", title=title, words=f"About {title}: it happened.")


def edit(request: ModelRequest) -> Step:
    """Two articles for a page."""
    page = asked(request)
    filed = results(request)
    return f"{page}: {', '.join(filed)}" if filed else [ask("writer", request=f"{page} {n}") for n in ("one", "two")]


def publish(request: ModelRequest) -> Step:
    """Two pages."""
    pages = results(request)
    return "\n".join(pages) if pages else [ask("editor", request=page) for page in ("Harbour", "Weather")]


writer = Agent(
    name="writer",
    model=model(write),
    instructions="You write one short article with the title you are given, and file it. Answer with its title.",
    tools=[file_article],
    limits=Limits(turns=4, cost_usd=0.05),
)
editor = Agent(
    name="editor",
    model=model(edit),
    instructions="You fill one page of a small paper with two articles: have both written at once, then list them.",
    tools=[writer.as_tool(description="Have one article written and filed. The request is its title.")],
    limits=Limits(turns=12, cost_usd=0.15),
)
publisher = Agent(
    name="publisher",
    model=model(publish),
    instructions="You publish a paper with two pages, Harbour and Weather. Have both filled at once, then list what is in them.",
    tools=[editor.as_tool(description="Have one page filled. The request is its name.")],
    undo_on=(RunStatus.FAILED, RunStatus.LIMIT_REACHED, RunStatus.REFUSED, RunStatus.CANCELLED),
    limits=Limits(turns=50, tokens=200_000, cost_usd=0.50),
)
