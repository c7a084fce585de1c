"""Promotion: score versions on a yardstick, decide, move the champion alias."""
