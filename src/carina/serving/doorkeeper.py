"""Signing in, and the lock-outs: how often anybody may guess.

Guesses are counted in the database, so that several web processes count together and a restart forgets
nothing. A guess is written down before it is looked at: a thousand at once count as a thousand. Three
limits, of which the first two look at where a guess comes from, so that nobody is kept out by what others
do elsewhere:

* one account from one address: ``PER_PAIR`` wrong guesses in ``WINDOW``, then it waits;
* one address, whatever the account: ``PER_ADDRESS`` wrong guesses in a minute;
* one account, from all addresses together: ``PER_ACCOUNT`` in ``WINDOW``; addresses from which that
  account has signed in within ``KNOWN`` are not held up by this one.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from carina.errors import SignInRefused
from carina.serving import auditlog, people
from carina.serving.database import Database
from carina.serving.people import SignedIn
from carina.serving.schema import SignInAttempt, User

WINDOW = timedelta(minutes=15)
MINUTE = timedelta(minutes=1)
KNOWN = timedelta(days=30)
PER_PAIR, PER_ADDRESS, PER_ACCOUNT = 5, 10, 50

_AT_ONCE = threading.BoundedSemaphore(2)  # each look at a password takes 64 MiB
_WRONG = "the name or the password is not right; try again"


def sign_in(
    database: Database, name: str, password: str, address: str, now: datetime, hours: float
) -> SignedIn:
    """A session for a name and its password. Raises :class:`~carina.errors.SignInRefused`.

    The same words whether the name or the password was wrong. Both ways stand in the audit log.
    """
    account = people.sha256(people.account(name))
    with database.write() as session:
        session.execute(delete(SignInAttempt).where(SignInAttempt.at < now - KNOWN))
        wait = _wait(session, account, address, now)
        if wait is None:
            attempt = SignInAttempt(at=now, account_sha256=account, address=address)
            session.add(attempt)
            session.flush()
            number = attempt.id
    if wait is not None:
        raise SignInRefused(
            f"too many wrong passwords; wait {max(1, round(wait.total_seconds() / 60))} min and try again",
            wait.total_seconds(),
        )
    with database.read() as session:
        user = session.scalar(select(User).where(User.name == people.account(name)))
    with _AT_ONCE:
        right = people.is_password(user.password if user else None, password)
    with database.write() as session:
        user = session.get(User, user.id) if user else None
        if user is None or not right or not user.active:
            _failed(session, user, address, now)
            refused = True
        else:
            refused = False
            user.failures, user.locked_until = 0, None
            _was_right(session, number, account, address, now)
            signed_in = people.begin_session(session, user, now, hours)
            auditlog.append(session, user.name, "sign-in", None, {"address": address}, now=now)
    if refused:
        raise SignInRefused(_WRONG)
    return signed_in


def _wait(session: Session, account: str, address: str, now: datetime) -> timedelta | None:
    """How long this guess has to wait; None where it may be looked at."""
    of_account = SignInAttempt.account_sha256 == account
    here = SignInAttempt.address == address
    wrong = SignInAttempt.right.is_(False)
    known = session.scalar(
        select(SignInAttempt.id).where(of_account, here, SignInAttempt.right, SignInAttempt.at > now - KNOWN)
    )
    limits = [((of_account, here), WINDOW, PER_PAIR), ((here,), MINUTE, PER_ADDRESS)]
    if known is None:
        limits.append(((of_account,), WINDOW, PER_ACCOUNT))
    waits = []
    for where, window, most in limits:
        count, newest = session.execute(
            select(func.count(), func.max(SignInAttempt.at)).where(
                *where, wrong, SignInAttempt.at > now - window
            )
        ).one()
        if count >= most:
            waits.append(newest + window - now)
    return max(waits, default=None)


def _failed(session: Session, user: User | None, address: str, now: datetime) -> None:
    """``failures`` counts since the last right password, for the list of users."""
    if user is not None:
        user.failures += 1
        user.locked_until = now + WINDOW if user.failures >= PER_ACCOUNT else user.locked_until
    known = user.name if user else None  # what was typed is not kept: people type passwords into it
    auditlog.append(session, known or "somebody", "sign-in refused", None, {"address": address}, now=now)


def _was_right(session: Session, number: int, account: str, address: str, now: datetime) -> None:
    """Remember the address, and forget the wrong guesses made from it for this account."""
    session.execute(update(SignInAttempt).where(SignInAttempt.id == number).values(right=True))
    session.execute(
        delete(SignInAttempt).where(
            SignInAttempt.account_sha256 == account,
            SignInAttempt.address == address,
            SignInAttempt.id != number,
        )
    )
