"""Games on coalitions of players, and the methods that play them."""
