"""The negative control: damages planted on purpose, each of which a check has to catch."""
