"""Results for users: tables on the terminal, JSON, loss curves and HTML pages."""
