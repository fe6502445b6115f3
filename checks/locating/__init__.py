"""Which rows differ, once it is known that some do."""
