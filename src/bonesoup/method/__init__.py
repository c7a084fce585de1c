"""The method as arithmetic on weight rows, preferences and fronts. Needs numpy, never torch."""
