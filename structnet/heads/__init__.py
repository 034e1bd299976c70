"""Attention heads: how they are looked at, gated, removed and grown again, in any model that tells where they lie."""
