"""Games on coalitions of players, and the methods that play them."""

from pellucid.games.function import FunctionGame

__all__ = ["FunctionGame"]
