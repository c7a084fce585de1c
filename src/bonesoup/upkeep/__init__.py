"""Keeping what was made: check it, restore it, make it again, and delete what nothing needs."""
