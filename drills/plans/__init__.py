"""The parts of a plan, one file each; `drills.plan` puts them together."""
