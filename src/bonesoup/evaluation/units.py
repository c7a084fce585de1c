"""Name the kinds of scores; apart from the samples, since serving needs no more of them than this."""

# The most trustworthy first: the task's true score, the judges that trained no policy, and the learned rewards that
# did.
UNITS = {"gold": "gold (true) score", "judge": "judge (held-out) score", "reward": "learned reward"}
