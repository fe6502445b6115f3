"""The stages of a drill, each a plain function: what is said to the journal around what is done by the hands.

Each stage takes the drill and what the stage before it returned. None of them knows Prefect.
"""
