"""What can be asked for; imports nothing, for a command that has to name it in its help."""

METRICS = ("bleu", "chrf", "ter", "comet")
DEFAULT_METRICS = METRICS[:3]
# Would another test set say the same, or another seed?
QUESTIONS = ("sentences", "seeds")
FORMATS = ("text", "markdown", "csv", "json")
