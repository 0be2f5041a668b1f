"""What a model call costs."""

from decimal import Decimal

from handfast.contracts.agent import Agent
from handfast.contracts.errors import ContractError
from handfast.contracts.messages import Usage
from handfast.contracts.price import Price


def own_price(agent: Agent) -> Price | None:
    """The price the agent or its model states, which goes before the list."""
    return agent.price or (None if isinstance(agent.model, str) else agent.model.price)


def cost_usd(agent: Agent, usage: Usage) -> Decimal:
    """US dollars for one call of the agent's model, cache reads and writes included.

    Source: the agent's own price, or the list of the genai-prices package.

    Raises:
        LookupError: The list does not know the model, and the agent states no price.
    """
    price = own_price(agent)
    if price is not None:
        return price.of(usage)
    # The list brings an HTTP client of its own along: only workers that need the list load it.
    from genai_prices import Usage as PricedUsage
    from genai_prices import calc_price

    priced = PricedUsage(
        input_tokens=usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    return calc_price(priced, model_ref=agent.model_id, provider_id="anthropic").total_price


def require_price(agent: Agent) -> None:
    """Refuse an agent whose cost can't be counted.

    Raises:
        ContractError: Its model is in no price list, and it states no price.
    """
    try:
        cost_usd(agent, Usage(input_tokens=1, output_tokens=1))
    except LookupError as error:
        fault = (
            f"model {agent.model_id!r} is in no price list, so its cost can't be limited: "
            "check the name, or state Agent(price=Price(input=..., output=...)) in USD per million tokens"
        )
        raise ContractError(f"agent {agent.name!r}", [fault]) from error
