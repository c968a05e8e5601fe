"""Where time series stand in time: zones, steps of calendars and clocks, even grids of these."""
