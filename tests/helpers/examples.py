"""How many examples a property is tried on where each of them takes long."""

from __future__ import annotations

from hypothesis import settings

FEW = settings(max_examples=max(10, settings.default.max_examples // 4))
