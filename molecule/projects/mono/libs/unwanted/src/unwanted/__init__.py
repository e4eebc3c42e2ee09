"""What the top of the workspace needs, and the application does not."""
