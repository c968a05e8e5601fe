"""What people look at: tables in the terminal, pictures in the run."""
