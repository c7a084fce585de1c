"""Soups for other engines: a base, adapters to scale, and the request that asks for a preference there."""
