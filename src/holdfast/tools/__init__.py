"""What tool authors use."""
