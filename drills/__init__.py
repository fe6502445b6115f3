"""What a drill is, and what it does to databases."""
