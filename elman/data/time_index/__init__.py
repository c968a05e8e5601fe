"""The time axis of time series: time zones, steps of calendars and clocks, and regular grids of steps."""
