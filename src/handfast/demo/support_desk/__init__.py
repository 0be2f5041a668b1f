"""A support desk: an agent with tools over an order service and a payment service."""
