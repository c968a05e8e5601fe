"""Public holidays as a covariate, from the package holidays."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.time_index.grid import EPOCH
from elman.errors import BadInput
from elman.extras import needs
from elman.tasks.forecast.numerals import Values


def calendar(country: str) -> Any:
    """Return the holidays of a country, or of a part of it such as "DE-BY".

    Raises:
        BadInput: for a country that the package does not know.
    """
    with needs("forecast", "--holidays"):
        import holidays
    code, _, part = country.partition("-")
    try:
        return holidays.country_holidays(code, subdiv=part or None)
    except NotImplementedError:
        expected = "a country, as DE, US or US-CA" if not part else f"a part of {code}"
        raise BadInput(f"--holidays: expected {expected}, got {country!r:.60}") from None


@lru_cache(maxsize=4)
def _known(country: str) -> tuple[Any, dict[int, bool]]:
    return calendar(country), {}


def is_holiday(days: NDArray[np.int64], country: str) -> Values:
    """Return 1 for each day that is a holiday, else 0.

    Args:
        days: days since 1970, (N,).
        country: as for `calendar`.

    >>> is_holiday(np.array([19723, 19724]), "DE")      # the first and the second of January 2024
    array([1., 0.])
    """
    of_country, known = _known(country)
    for day in np.unique(days).tolist():
        if day not in known:
            known[day] = (EPOCH + day).item() in of_country
    return np.array([float(known[day]) for day in days.tolist()])
