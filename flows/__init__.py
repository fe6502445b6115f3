"""What runs when; the only home of Prefect."""
