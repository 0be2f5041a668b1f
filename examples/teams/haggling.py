"""Two runs that write to each other: a buyer and a seller, until they agree."""

from examples.teams.models import model

from handfast import Agent, Limits, ask
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step

LEAST, STEPS = 80, (50, 70, 90)


def letters(request: ModelRequest) -> list[str]:
    """What the other one has written, oldest first."""
    said = [
        part.text
        for message in request.messages[1:]
        if message.role == "user"
        for part in message.parts
        if part.kind == "text"
    ]
    return [text.rsplit(") ", 1)[-1] for text in said]


def sent(request: ModelRequest) -> int:
    """How many letters were sent."""
    return sum(call.tool == "send_message" for message in request.messages for call in message.calls)


def buy(request: ModelRequest) -> Step:
    """Offer more and more, and wait for an answer after each offer."""
    heard = letters(request)
    if heard and heard[-1].startswith("agreed"):
        return f"bought: {heard[-1]}"
    if sent(request) == len(heard) < len(STEPS):
        return ask("send_message", to="seller", text=f"{STEPS[len(heard)]} for the boat")
    return ask("wait_for_message", seconds=60)


def sell(request: ModelRequest) -> Step:
    """Refuse what is too little."""
    heard = letters(request)
    answered = sent(request)
    if answered and int(heard[answered - 1].split()[0]) >= LEAST:
        return f"sold for {heard[answered - 1].split()[0]}"
    if len(heard) > answered:
        offered = int(heard[answered].split()[0])
        word = f"agreed at {offered}" if offered >= LEAST else f"{offered} is too little"
        return ask("send_message", to="buyer", text=word)
    return ask("wait_for_message", seconds=60)


def bring_together(request: ModelRequest) -> Step:
    """Let both work at once."""
    if len(request.messages) == 1:
        return [ask("buyer", request="Buy the boat"), ask("seller", request="Sell the boat")]
    return "; ".join(result.text for result in request.messages[-1].results)


buyer = Agent(
    name="buyer",
    model=model(buy),
    instructions="You buy a boat. Begin with an offer of 50, never pay more than 90. After each message wait for the answer.",
    peers=("seller",),
    limits=Limits(turns=20, cost_usd=0.10),
)
seller = Agent(
    name="seller",
    model=model(sell),
    instructions="You sell a boat for no less than 80. Wait for offers, answer each; once you agree, say 'agreed at PRICE'.",
    peers=("buyer",),
    limits=Limits(turns=20, cost_usd=0.10),
)
broker = Agent(
    name="broker",
    model=model(bring_together),
    instructions="You bring a buyer and a seller together: ask both at once, and say what they agreed on.",
    tools=[
        buyer.as_tool(description="Let the buyer work. Ask the seller at the same time."),
        seller.as_tool(description="Let the seller work. Ask the buyer at the same time."),
    ],
    limits=Limits(turns=60, cost_usd=0.30),
)
