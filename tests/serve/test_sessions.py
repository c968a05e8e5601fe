"""Sessions end when they are not used, are few, and are continued by one request at a time."""

from typing import Any

import pytest

from elman.serve.refused import Refused
from elman.serve.sessions import Sessions


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


GENERATION: Any = object()


def test_an_idle_session_ends() -> None:
    clock = Clock()
    sessions = Sessions(2, 10.0, clock)
    first, second = sessions.open(GENERATION), sessions.open(GENERATION)
    clock.now = 9
    sessions.release(sessions.take(first))
    clock.now = 10
    assert len(sessions) == 1
    with pytest.raises(Refused, match="expected an open session") as refusal:
        sessions.take(second)
    assert refusal.value.status_code == 404
    session = sessions.take(first)
    clock.now = 99
    assert len(sessions) == 1  # it is in use
    sessions.release(session)
    clock.now = 109
    assert len(sessions) == 0


def test_sessions_are_few() -> None:
    sessions = Sessions(1, 10.0, Clock())
    name = sessions.open(GENERATION)
    with pytest.raises(Refused, match="expected at most 1 sessions, got one more") as refusal:
        sessions.open(GENERATION)
    assert refusal.value.status_code == 429
    sessions.close(name)
    assert sessions.open(GENERATION) != name


def test_a_session_is_continued_by_one_request_at_a_time() -> None:
    sessions = Sessions(1, 10.0, Clock())
    name = sessions.open(GENERATION)
    session = sessions.take(name)
    with pytest.raises(Refused, match="another request") as refusal:
        sessions.take(name)
    assert refusal.value.status_code == 409
    sessions.release(session)
    assert sessions.take(name) is session


def test_an_ended_session_is_not_found() -> None:
    sessions = Sessions(1, 10.0, Clock())
    name = sessions.open(GENERATION)
    sessions.close(name)
    for use in (sessions.take, sessions.close):
        with pytest.raises(Refused, match="has ended or never was"):
            use(name)
