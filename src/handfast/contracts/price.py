"""What tokens cost."""

from decimal import Decimal

from handfast.contracts.messages import Frozen, Usage


class Price(Frozen):
    """US dollars per million tokens, for a model that the price list does not know."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    """Of a cached token read; the input price unless said."""
    cache_write: Decimal | None = None
    """Of a token written to the cache; the input price unless said."""

    def of(self, usage: Usage) -> Decimal:
        """US dollars for one model call."""
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        parts = (
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (usage.cache_read_tokens, read),
            (usage.cache_write_tokens, write),
        )
        return sum((tokens * price for tokens, price in parts), Decimal(0)) / 1_000_000


FREE = Price(input=Decimal(0), output=Decimal(0))
