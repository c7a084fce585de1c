"""Check, restore, rebuild and delete what was made."""
