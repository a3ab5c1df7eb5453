"""Games on coalitions of players, and the methods that play them."""

from pellucid.games import known
from pellucid.games.function import FunctionGame
from pellucid.games.retraining import RetrainingGame

__all__ = ["FunctionGame", "RetrainingGame", "known"]
