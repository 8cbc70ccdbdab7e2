"""What is wrong on purpose: model repositories that a rule has to find, and servers that the probe has to catch."""
