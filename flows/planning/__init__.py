"""What a migration would take, found out before anything is written."""
